"""Private functions: who may call them is asked, and remembered for seconds."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpclib import GRPCError, Status
from hypothesis import given, settings
from hypothesis import strategies as st
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb
from sanfran_router import authorization
from sanfran_router.authorization import Answer, Authorizer, Question, name_user, take_credentials
from sanfran_router.request import HeadParser

World = Any
VIK = "Authorization: Basic " + base64.b64encode(b"vik:hunter22").decode()
ADA = "Authorization: Basic " + base64.b64encode(b"ada:hunter22").decode()
CHALLENGE = 'Basic realm="sanfran"'


class Api(pb.ApiBase):
    """An api service in the test's hands: it lets in vik."""

    def __init__(self) -> None:
        self.asked: list[pb.AuthorizeRequest] = []
        self.ttl_ms = 60_000
        self.open = asyncio.Event()
        self.open.set()
        self.error: GRPCError | None = None

    async def authorize(self, message: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        self.asked.append(message)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if f"Authorization: {message.authorization}" == VIK:
            return pb.AuthorizeResponse(status=200, user="vík", ttl_ms=self.ttl_ms)
        if message.authorization:
            return pb.AuthorizeResponse(
                status=403, code="forbidden", message='"ada" lacks it', ttl_ms=self.ttl_ms
            )
        return pb.AuthorizeResponse(
            status=401,
            code="unauthenticated",
            message="no credentials",
            challenges=[CHALLENGE],
            ttl_ms=self.ttl_ms,
        )


@asynccontextmanager
async def serving_api(world: World, api: Api) -> AsyncIterator[RpcClient]:
    address = f"unix:{world.folder}/api.sock"
    async with RpcServer([api], address), RpcClient(address) as client:
        yield client


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    """A router with a private function that is warm."""
    api = Api()
    async with serving_api(world, api) as client:
        pod = await world.pod()
        world.pod_1 = pod
        world.controller.route(pod, private=True)
        await world.start_controller()
        await world.start_router(api=client)
        yield api


async def call(world: World, *lines: str, target: str = "/fn/hello") -> Any:
    client = await world.client()
    client.get(target, *lines)
    return await client.answer()


async def test_who_may_is_let_in_and_the_function_learns_who_it_is_and_no_password(
    world: World, api: Api
) -> None:
    assert (await call(world, VIK, "x-sanfran-user: mallory")).status == 200
    (head,) = world.pod_1.heads
    assert b"\r\nx-sanfran-user: v%C3%ADk\r\n" in head
    assert b"mallory" not in head
    assert b"authorization" not in head.lower()
    (asked,) = api.asked
    assert (asked.function, asked.address) == ("hello", "127.0.0.1")


async def test_who_may_not_is_told_so_and_nothing_reaches_the_function(
    world: World, api: Api
) -> None:
    answer = await call(world)
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.header("www-authenticate") == CHALLENGE
    answer = await call(world, ADA)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert json.loads(answer.body)["error"]["message"] == '"ada" lacks it'
    assert world.pod_1.heads == []


async def test_two_credentials_are_none(world: World, api: Api) -> None:
    assert (await call(world, VIK, VIK)).status == 403
    assert api.asked[0].authorization.count("Basic") == 2


async def test_credentials_of_the_engine_leave_the_functions_own_alone(
    world: World, api: Api
) -> None:
    assert (await call(world, "Authorization: Mine", f"X-SanFran-{VIK}")).status == 200
    assert b"\r\nAuthorization: Mine\r\n" in world.pod_1.heads[0]
    assert b"hunter22" not in world.pod_1.heads[0]
    assert b"x-sanfran-authorization" not in world.pod_1.heads[0].lower()


async def test_a_connection_stays_usable_after_a_refusal_and_each_request_is_judged_by_itself(
    world: World, api: Api
) -> None:
    client = await world.client()
    for lines, status in (((), 401), ((VIK,), 200), ((), 401), ((ADA,), 403), ((VIK,), 200)):
        client.get("/fn/hello", *lines)
        assert (await client.answer()).status == status


async def test_the_same_question_is_asked_once_however_many_ask(world: World, api: Api) -> None:
    api.open.clear()
    clients = [await world.client() for _ in range(20)]
    for client in clients:
        client.get("/fn/hello", VIK)
    await world.seen(lambda: api.asked)
    clients[0].abort()
    api.open.set()
    for client in clients[1:]:
        assert (await client.answer()).status == 200
    assert len(api.asked) == 1
    assert (await call(world, VIK)).status == 200
    assert (await call(world)).status == 401
    assert (await call(world)).status == 401
    assert len(api.asked) == 2


async def test_answers_are_forgotten_when_their_time_is_over(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(authorization, "monotonic", lambda: now)
    api.ttl_ms = 10_000
    assert (await call(world, VIK)).status == 200
    now = 9.0
    assert (await call(world, VIK)).status == 200
    assert len(api.asked) == 1
    now = 11.0
    assert (await call(world, VIK)).status == 200
    assert len(api.asked) == 2


async def test_while_the_api_service_is_away_who_was_let_in_stays_and_others_get_503(
    world: World, api: Api
) -> None:
    assert (await call(world, VIK)).status == 200
    api.error = GRPCError(Status.UNAVAILABLE, "away")
    assert (await call(world, VIK)).status == 200
    answer = await call(world, ADA)
    assert (answer.status, answer.code) == (503, "no_authorization")
    assert answer.header("retry-after") == "1"
    api.error = None
    assert (await call(world, ADA)).status == 403


async def test_without_an_api_service_nobody_is_let_in(world: World) -> None:
    pod = await world.pod()
    world.controller.route(pod, private=True)
    await world.start_controller()
    await world.start_router()
    assert (await call(world, VIK)).status == 503
    assert pod.heads == []


async def test_a_body_goes_with_its_request_once_that_is_let_in(world: World, api: Api) -> None:
    bodies = []

    async def handler(connection: Any) -> None:
        bodies.append(await connection.body())
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    world.pod_1.handler = handler
    api.open.clear()
    large = b"x" * 300_000
    client = await world.client()
    client.post(large, VIK)
    await world.seen(lambda: api.asked)
    api.open.set()
    assert (await client.answer()).status == 200
    client.post(b"small", VIK)
    assert (await client.answer()).status == 200
    assert bodies == [large, b"small"]
    client = await world.client()
    client.post(large)
    assert (await client.answer()).status == 401
    assert len(bodies) == 2


async def test_a_cold_private_function_is_not_started_for_strangers(world: World) -> None:
    api = Api()
    pod = await world.pod()

    async def activate(name: str) -> pb.Route:
        if not world.controller.asked[-1].authorized:
            return pb.Route(name=name, version=1, controller="controller-1", private=True)
        return world.controller.route(pod, private=True)

    world.controller.on_activate = activate
    async with serving_api(world, api) as client:
        await world.start_controller()
        await world.start_router(api=client)
        assert (await call(world)).status == 401
        assert [one.authorized for one in world.controller.asked] == [False]
        assert (await call(world, ADA)).status == 403
        assert len(world.controller.asked) == 1, "the router knows by now that it is private"
        assert (await call(world, VIK)).status == 200
        assert [one.authorized for one in world.controller.asked] == [False, True]


async def test_a_function_that_becomes_private_lets_in_no_request_that_waited_for_it(
    world: World,
) -> None:
    api = Api()
    pod = await world.pod()
    asked = asyncio.Event()

    async def activate(name: str) -> pb.Route:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.controller.on_activate = activate
    async with serving_api(world, api) as client:
        await world.start_controller()
        await world.start_router(api=client)
        stranger, vik = await world.client(), await world.client()
        stranger.get("/fn/hello")
        vik.get("/fn/hello", VIK)
        await asked.wait()
        world.controller.publish(pod, private=True)
        assert (await stranger.answer()).status == 401
        assert (await vik.answer()).status == 200
        assert len(pod.heads) == 1


async def test_a_function_that_becomes_public_asks_nobody_any_more(world: World, api: Api) -> None:
    assert (await call(world)).status == 401
    world.controller.publish(world.pod_1, private=False, version=2)
    await world.seen(lambda: not world.plane.table.functions["hello"].private)
    assert (await call(world, "Authorization: Mine")).status == 200
    assert b"\r\nAuthorization: Mine\r\n" in world.pod_1.heads[-1]
    assert len(api.asked) == 1


async def test_a_retry_on_another_pod_is_not_asked_for_again(world: World, api: Api) -> None:
    other = await world.pod(activation="act-2")
    world.pod_1.activation = "another by now"
    world.controller.publish(world.pod_1, private=True)
    world.pod_1.activation = "and yet another"

    async def activate(name: str) -> pb.Route:
        return world.controller.route(other, private=True)

    world.controller.on_activate = activate
    await world.seen(
        lambda: world.plane.table.functions["hello"].endpoints[0].activation_id == "another by now"
    )
    assert (await call(world, VIK)).status == 200
    assert len(api.asked) == 1
    assert other.heads[0].count(b"x-sanfran-user") == 1


async def test_behind_a_trusted_proxy_the_address_is_what_that_saw(world: World) -> None:
    api = Api()
    world.controller.route(await world.pod(), private=True)
    async with serving_api(world, api) as client:
        await world.start_controller()
        await world.start_router(api=client, trust_forwarded=True)
        await call(world, "X-Forwarded-For: 1.1.1.1, 10.9.8.7")
        await call(world, VIK)
    assert [one.address for one in api.asked] == ["10.9.8.7", "127.0.0.1"]


async def test_wrong_credentials_do_not_drive_out_right_ones_nor_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authorization, "KEPT", 10)
    asked: list[bytes] = []

    async def ask(question: Question) -> Answer:
        asked.append(question.credentials)
        problem = None if question.credentials == b"right" else authorization.NO_AUTHORIZATION
        return Answer(problem, b"vik", 1e12)

    class Asks:
        def __init__(self) -> None:
            self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def judged(self, answer: Answer) -> None:
            self.answer.set_result(answer)

    tasks: set[asyncio.Task[None]] = set()
    authorizer = Authorizer(
        ask, lambda work, name: tasks.add(asyncio.ensure_future(work)), most_waiting=5
    )
    for credentials in (b"right", *(b"wrong %d" % i for i in range(100)), b"right"):
        asks = Asks()
        answer = authorizer.judge(Question(credentials, "hello", "", b"id"), asks)
        answer = answer or await asks.answer
        assert (answer.problem is None) is (credentials == b"right")
    assert asked.count(b"right") == 1
    assert len(authorizer._no) == 10
    assert authorizer.waiting == 0
    more = [authorizer.judge(Question(b"%d" % i, "x", "", b""), Asks()) for i in range(7)]
    assert [one is not None for one in more] == [False] * 5 + [True] * 2
    await asyncio.gather(*tasks)


def parser() -> HeadParser:
    return HeadParser(
        b"10.0.0.1",
        b"localhost",
        trust_forwarded=False,
        max_head=16384,
        max_headers=100,
        max_body=1000,
    )


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["authorization", "Authorization", "AUTHORIZATION", "x-a", "accept", "cookie"]
            ),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
        ),
        max_size=5,
    )
)
def test_of_any_head_all_credentials_leave_and_nothing_else(lines: list[tuple[str, str]]) -> None:
    told = "".join(f"{name}: {value}\r\n" for name, value in lines)
    raw = f"GET /fn/hello HTTP/1.1\r\nHost: test\r\n{told}\r\n".encode()
    for request in (parser().parse_usual(raw), parser().parse(raw)):
        assert request is not None
        taken = take_credentials(request)
        name_user(request, b"vik")
        given = [value for name, value in lines if name.lower() == "authorization"]
        assert taken == ", ".join(given).encode()
        kept = request.head.split(b"\r\n")
        assert kept[0] == b"GET /fn/hello HTTP/1.1"
        assert not [one for one in kept if one.lower().startswith(b"authorization:")]
        for name, value in lines:
            if name.lower() != "authorization":
                assert f"{name}: {value}".encode() in kept
        assert kept.count(b"x-sanfran-user: vik") == 1
        assert request.head.endswith(b"X-Request-Id: " + request.request_id + b"\r\n")
