"""Requests that the OpenAPI document allows and forbids, made up by schemathesis: whatever is answered is
in the document, and nothing fails in here."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies
from hypothesis.errors import Unsatisfiable
from sanfran_api.config import ApiConfig
from sanfran_api.main import serve
from sanfran_common.lifecycle import Lifecycle
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb
from schemathesis import GenerationMode, Response
from schemathesis.checks import CHECKS, load_all_checks

EXAMPLES = 10
"""Of each operation, valid and invalid: for a run to take seconds. With 150 it finds no more."""

CODE = b"module.exports = (req, res) => res.send('hi')"
load_all_checks()
# Bytes are no zip because a schema allows them.
LEFT_OUT = CHECKS.get_by_names(["positive_data_acceptance", "negative_data_rejection"])


class Controller(pb.ControllerBase):
    """Knows each function, with a pod that wrote a line."""

    async def get_status(self, message: pb.GetStatusRequest) -> pb.FunctionStatus:
        pods = [pb.PodStatus(pod="a", state="active", version=1, address="127.0.0.1:1")]
        return pb.FunctionStatus(name=message.name, pods=pods, activations=2)

    async def get_statuses(self, message: pb.GetStatusesRequest) -> pb.FunctionStatuses:
        return pb.FunctionStatuses([pb.FunctionStatus(name=name) for name in message.names])

    async def get_pool(self, message: pb.GetPoolRequest) -> pb.PoolStatus:
        decision = pb.Decision(time_ms=1000, kind="start", reason="below_target", pods=1)
        return pb.PoolStatus(
            controller="c", pods={"generic": 3}, decisions=[decision] * message.decisions
        )

    async def stream_logs(self, message: pb.StreamLogsRequest) -> AsyncIterator[pb.LogLine]:
        yield pb.LogLine(time_ms=1, level=pb.LogLevel.INFO, text="said", pod="a", version=1)


class Service:
    """The service in a thread of its own: schemathesis waits for each answer."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="service")

    def start(self) -> str:
        """Returns the address of REST."""
        self._thread.start()
        assert self._up.wait(30), "the service did not start"
        return self.address

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._life.request_stop, "the test ends")
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        told = self._up

        class Telling(Lifecycle):
            def ready(telling, **addresses: str) -> None:
                super().ready(**addresses)
                self.address = addresses["http"]
                told.set()

        self._life = Telling()
        async with RpcServer([Controller()], "127.0.0.1:0") as controller:
            config = ApiConfig(
                data=self._data,
                listen="127.0.0.1:0",
                rpc_listen="127.0.0.1:0",
                controllers=controller.address,
                apply_timeout=0.1,
                stop_grace=1.0,
            )
            await serve(config, self._life)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = Service(tmp_path_factory.mktemp("schema"))
    address = running.start()
    try:
        yield address
    finally:
        running.stop()


def test_what_is_answered_is_in_the_document(service: str) -> None:
    schema = schemathesis.openapi.from_url(f"http://{service}/api/v1/openapi.json")
    failed = []
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            create(service, "hello")  # also the one that the last operation removed
            try:
                try_out(operation, mode)
            except Unsatisfiable:
                continue  # nothing in it can be wrong
            except BaseExceptionGroup as several:
                failed += [f"{operation.label}, {mode.value}: {one}" for one in several.exceptions]
    assert not failed, "\n\n".join(failed)


def test_what_is_answered_to_what_works_is_as_the_document_has_it(service: str) -> None:
    schema = schemathesis.openapi.from_url(f"http://{service}/api/v1/openapi.json")

    def ask(method: str, path: str, expected: int, **request: Any) -> None:
        url = f"http://{service}/api/v1{path.replace('{name}', 'works')}"
        with httpx.Client(timeout=30) as client:
            sent = client.build_request(method, url, **request)
            sent.read()  # the checks look at it, too
            answer = client.send(sent)
        assert answer.status_code == expected, answer.text
        schema[f"/api/v1{path}"][method].validate_response(Response.from_any(answer))

    given = {"settings": '{"timeout": 5, "env": {"A": "b"}}'}
    files = {"file": ("hello.js", CODE)}
    ask("POST", "/functions", 201, data={"name": "works", **given}, files=files)
    would_be = {"name": "would-be", "dry_run": "true", **given}
    ask("POST", "/functions", 201, data=would_be, files={"file": ("x", b"")})
    ask("PUT", "/functions/{name}", 200, data={"dry_run": "true"}, files=files)
    ask("PUT", "/functions/{name}", 200, files=files)
    ask("PUT", "/functions/{name}", 200, files={"settings": (None, '{"timeout": 6}')})
    ask("PUT", "/functions/{name}", 412, files=files, headers={"if-match": '"1"'})
    ask("GET", "/functions/{name}", 200)
    ask("GET", "/functions/{name}", 304, headers={"if-none-match": '"3"'})
    ask("GET", "/functions", 200, params={"status": "true", "limit": 1})
    ask("GET", "/functions/{name}/logs", 200)
    ask("GET", "/functions/{name}/logs", 200, params={"format": "text"})
    ask("GET", "/functions/{name}/versions", 200)
    ask("POST", "/functions/{name}/rollback", 200, params={"version": "1"})
    ask("POST", "/functions/{name}/rollback", 404, params={"version": "99"})
    ask("GET", "/me", 200)
    ask("GET", "/pool", 200)
    ask("GET", "", 200)
    ask("DELETE", "/functions/{name}", 204)
    ask("GET", "/functions/{name}", 404)


def create(service: str, name: str) -> None:
    url = f"http://{service}/api/v1/functions"
    answer = httpx.post(url, data={"name": name}, files={"file": ("hello.js", CODE)}, timeout=30)
    assert answer.status_code in (201, 409), answer.text


def try_out(operation: Any, mode: GenerationMode) -> None:
    """Raises what is wrong with any answer."""

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        there=strategies.booleans(),
    )
    def ask(case: Any, there: bool) -> None:
        if there and "name" in (case.path_parameters or {}):
            case.path_parameters["name"] = "hello"
        case.call_and_validate(timeout=30, excluded_checks=LEFT_OUT)

    ask()
