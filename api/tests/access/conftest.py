"""A service that asks who people are, and what they may do on it."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpclib import GRPCError, Status
from sanfran_api.access.passwords import hash_password

from api.tests.conftest import HELLO, Api, RunApi

PASSWORD = "correct horse"
SECRET = "the-secret-of-our-own-services"
ACCESS = """
groups:
  shop:
    - privileges: ["functions:*", settings:view, settings:update]
      functions: ["shop-*"]
  looker:
    - privileges: [functions:list]
  tuner:
    - privileges: [functions:list, settings:update]
"""


def password(user: str, text: str = PASSWORD) -> dict[str, str]:
    given = base64.b64encode(f"{user}:{text}".encode()).decode()
    return {"authorization": f"Basic {given}"}


@pytest.fixture(scope="module")
def users() -> str:
    hashed = hash_password(PASSWORD)
    people = {"vik": "admin", "ada": "shop", "bob": "looker", "tim": "tuner", "eve": ""}
    return "".join(f"{name}:{hashed}:{groups}\n" for name, groups in people.items())


@pytest.fixture
def settings(tmp_path: Path, users: str) -> dict[str, Any]:
    (tmp_path / "users").write_text(users)
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "access").write_text(ACCESS)
    return {
        "auth": "basic",
        "users_file": str(tmp_path / "users"),
        "access_file": str(tmp_path / "access"),
        "audit_file": str(tmp_path / "audit"),
        "rpc_secret": SECRET,
    }


@pytest.fixture
async def api(run_api: RunApi, settings: dict[str, Any]) -> AsyncIterator[Api]:
    async with run_api(**settings) as running:
        yield running


def audited(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]


async def create(api: Api, name: str, user: str, **given: Any) -> httpx.Response:
    return await api.http.post(
        "functions",
        data={"name": name, "settings": json.dumps(given)},
        files={"file": ("hello.js", HELLO)},
        headers=password(user),
    )


# gRPC


async def status_of(call: Any) -> Status:
    try:
        await call
    except GRPCError as error:
        return error.status
    return Status.OK
