"""Each operation of REST and gRPC says what it needs, and the documentation shows it."""

import re
from pathlib import Path

from sanfran_api.access.operations import REST, RPC, Needs, Operation
from sanfran_proto.sanfran import v1 as pb

from api.tests.conftest import Api


async def test_without_credentials_everything_but_the_docs_is_401_with_a_challenge(
    api: Api,
) -> None:
    spec = (await api.http.get("openapi.json")).json()
    for path, operations in spec["paths"].items():
        for method in operations:
            url = path.replace("{name}", "hello").removeprefix("/api/v1").lstrip("/")
            answer = await api.http.request(method, re.sub(r"\{.*?\}", "1", url))
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == 'Basic realm="sanfran", charset="UTF-8"'
            assert answer.json()["error"]["code"] == "unauthenticated"
            assert "a user and password (Basic) works" in answer.json()["error"]["message"]
    assert (await api.http.get("docs")).status_code == 200


async def test_every_route_is_in_the_table_and_nothing_else(api: Api) -> None:
    spec = (await api.http.get("openapi.json")).json()
    named = {op["operationId"] for path in spec["paths"].values() for op in path.values()}
    assert named == {name for name, one in REST.items() if one.needs is not Needs.NOBODY}


def test_every_method_is_in_the_table_and_nothing_else() -> None:
    methods = {path.rpartition("/")[2] for path in pb.ApiBase().__mapping__()}
    assert methods == set(RPC)


def test_the_documentation_shows_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "auth.md").read_text()
    for table in (REST, RPC):
        for name, operation in table.items():
            row = next((one for one in page.splitlines() if one.startswith(f"| `{name}`")), None)
            assert row is not None, name
            assert needed(operation) in row, row


def needed(operation: Operation) -> str:
    match operation.needs:
        case Needs.NOBODY:
            return "nothing"
        case Needs.LOGIN:
            return "to be known"
        case Needs.EVERYTHING:
            return "everything"
        case Needs.SERVICE:
            return "one of our own services"
        case _:
            return " or ".join(f"`{one}`" for one in operation.privileges)
