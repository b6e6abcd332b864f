"""No request ever runs another function's code: a real router with a stale route, real runtimes."""

import asyncio
from pathlib import Path

import httpx
from sanfran_proto.sanfran import v1 as pb

from tests.parts import OneFunction, router, runtime

HELLO = "module.exports = (req, res) => res.send('hello');"
OTHER = """
let calls = 0;
module.exports = (req, res) => { calls += 1; res.send(`another function, call ${calls}`); };
"""


def folder(path: Path, name: str) -> Path:
    made = path / name
    made.mkdir()
    return made


async def test_a_stale_route_over_a_recycle_costs_a_retry_and_runs_nothing(tmp_path: Path) -> None:
    async with (
        runtime(folder(tmp_path, "a"), "activation-of-other", "other", OTHER) as recycled,
        runtime(folder(tmp_path, "b"), "activation-2", "hello", HELLO) as fresh,
    ):
        # The address served `hello` once; its pod has been recycled and serves `other` now.
        stale = (recycled.address, "activation-1")
        controller = OneFunction(stale, asked=(fresh.address, "activation-2"))
        async with (
            router(controller, folder(tmp_path, "r")) as routing,
            httpx.AsyncClient(base_url=f"http://{routing.address}") as client,
        ):
            for method in ("POST", "GET"):
                answer = await client.request(method, "/fn/hello", content=b"x" * 100_000)
                assert (answer.status_code, answer.text) == (200, "hello")
                assert not [name for name in answer.headers if name.startswith("x-sanfran")]
            assert controller.activations == 1  # the retry; then the stale endpoint was dropped
            direct = {"x-sanfran-activation": "activation-of-other"}
            first = await client.get(f"http://{recycled.address}/fn/other", headers=direct)
            assert first.text == "another function, call 1"


class ToldEarly(OneFunction):
    """Tells early of a pod that turns out to load something else."""

    def __init__(self, early: tuple[str, str], asked: tuple[str, str]) -> None:
        super().__init__(early, asked)
        self._early = self._route(0, early)
        self._early.early = True
        self._told.endpoints = []

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        settled = await super().activate(message)
        return self._early if message.early else settled


async def test_an_early_route_to_a_pod_that_loads_another_function_runs_nothing(
    tmp_path: Path,
) -> None:
    async with (
        runtime(folder(tmp_path, "a"), "activation-of-other", "other", OTHER) as another,
        runtime(folder(tmp_path, "b"), "activation-2", "hello", HELLO) as fresh,
    ):
        early = (another.address, "activation-1")
        controller = ToldEarly(early, (fresh.address, "activation-2"))
        async with (
            router(controller, folder(tmp_path, "r")) as routing,
            httpx.AsyncClient(base_url=f"http://{routing.address}") as client,
        ):
            for method in ("POST", "GET"):
                answer = await client.request(method, "/fn/hello", content=b"x" * 1000)
                assert (answer.status_code, answer.text) == (200, "hello")
            assert controller.activations == 2  # told early, and where it really runs
            direct = {"x-sanfran-activation": "activation-of-other"}
            first = await client.get(f"http://{another.address}/fn/other", headers=direct)
            assert first.text == "another function, call 1"


async def test_a_client_cannot_name_an_activation(tmp_path: Path) -> None:
    async with runtime(folder(tmp_path, "a"), "secret-id", "hello", HELLO) as pod:
        controller = OneFunction((pod.address, "secret-id"))
        async with (
            router(controller, folder(tmp_path, "r")) as routing,
            httpx.AsyncClient() as client,
        ):
            forged = {"x-sanfran-activation": "another", "X-SANFRAN-Activation": "another"}
            forged["x-sanfran-early"] = "1"
            through = await client.get(f"http://{routing.address}/fn/hello", headers=forged)
            assert (through.status_code, through.text) == (200, "hello")
            for headers in ({}, {"x-sanfran-activation": "another"}):
                refused = await client.get(f"http://{pod.address}/fn/hello", headers=headers)
                assert (refused.status_code, refused.content) == (421, b"")
                assert refused.headers["x-sanfran-retry"] == "fenced"


WAITS = """
const { existsSync, writeFileSync } = require('node:fs');
module.exports = (req, res) => {
  writeFileSync('%(folder)s/begun', '');
  const look = setInterval(() => existsSync('%(folder)s/go') && (clearInterval(look), res.send('%(name)s')), 5);
};
"""


async def test_a_recycle_that_routers_have_not_heard_of_loses_no_post(tmp_path: Path) -> None:
    """The next POST is sent in the moment in which the last answer leaves a pod that ends with it."""
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")
    async with (
        runtime(a, "activation-1", "hello", WAITS % {"folder": a, "name": "a"}) as recycled,
        runtime(b, "activation-2", "hello", HELLO) as fresh,
    ):
        controller = OneFunction(
            (recycled.address, "activation-1"), asked=(fresh.address, "activation-2")
        ).of_concurrency(1)
        async with (
            router(controller, folder(tmp_path, "r")) as routing,
            httpx.AsyncClient(base_url=f"http://{routing.address}") as client,
        ):
            # Nobody has an answer for the second one before the first is over.
            controller.held = asyncio.Event()
            posts = [asyncio.ensure_future(client.post("/fn/hello", content=b"1"))]
            while not (a / "begun").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            posts.append(asyncio.ensure_future(client.post("/fn/hello", content=b"2")))
            while not controller.activations:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            recycled.recycle()
            await asyncio.sleep(0.1)  # as long as a fenced pod is given at least
            (a / "go").touch()
            assert (await posts[0]).text == "a"
            controller.held.set()
            answer = await posts[1]
            assert (answer.status_code, answer.text) == (200, "hello")
