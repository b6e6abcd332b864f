"""Private functions and users, on the whole engine."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engine import Engine, engine, until

PASSWORD = "correct horse"
WHO = """
module.exports = (req, res) => res.json({ user: req.headers['x-sanfran-user'], given: req.headers.authorization });
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("engine")
    password = path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANFRAN_API_AUTH", "basic")
        patch.setenv("SANFRAN_API_ADMIN_PASSWORD_FILE", str(password))
        with engine(path / "data", "--pool-size", "2") as one:
            yield one


def create(running: Engine, name: str, settings: str) -> None:
    made = httpx.post(
        f"{running.api}/api/v1/functions",
        data={"name": name, "settings": settings},
        files={"file": ("who.js", WHO)},
        auth=("admin", PASSWORD),
        timeout=30,
    )
    assert made.status_code == 201, made.text


def test_a_private_function_serves_who_may_and_is_not_even_started_for_others(
    running: Engine,
) -> None:
    create(running, "mine", '{"invoke": "private"}')
    refused = running.http.get("/fn/mine")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith('Basic realm="sanfran"')
    assert refused.json()["error"]["code"] == "unauthenticated"
    assert running.http.get("/fn/mine", auth=("admin", "wrong password")).status_code == 401
    status = httpx.get(
        f"{running.api}/api/v1/functions/mine", auth=("admin", PASSWORD), timeout=30
    ).json()["status"]
    assert status["pods"] == []

    assert running.http.get("/fn/mine", auth=("admin", PASSWORD)).json() == {"user": "admin"}
    told = httpx.Headers({"x-sanfran-user": "mallory"})
    answer = running.http.get("/fn/mine", auth=("admin", PASSWORD), headers=told)
    assert answer.json() == {"user": "admin"}
    assert running.http.get("/fn/mine", headers=told).status_code == 401


def test_a_public_function_gets_its_authorization_and_no_user(running: Engine) -> None:
    create(running, "open", "{}")
    headers = {"authorization": "Mine", "x-sanfran-user": "mallory"}
    assert running.http.get("/fn/open", headers=headers).json() == {"given": "Mine"}


def test_a_function_is_private_for_every_request_after_the_update_that_makes_it_so(
    running: Engine,
) -> None:
    create(running, "turns", "{}")
    assert running.http.get("/fn/turns").status_code == 200
    url = f"{running.api}/api/v1/functions/turns"
    for invoke, status in (("private", 401), ("public", 200), ("private", 401)):
        changed = httpx.put(
            url,
            files={"settings": (None, f'{{"invoke": "{invoke}"}}')},
            auth=("admin", PASSWORD),
            timeout=30,
        )
        assert changed.json()["applied"]
        assert running.http.get("/fn/turns").status_code == status


def test_who_was_let_in_a_moment_ago_stays_so_without_the_api_service(running: Engine) -> None:
    create(running, "stays", '{"invoke": "private"}')
    assert running.http.get("/fn/stays", auth=("admin", PASSWORD)).status_code == 200
    api = psutil.Process(running.service_pid("api"))
    api.suspend()
    try:
        assert running.http.get("/fn/stays", auth=("admin", PASSWORD)).status_code == 200
        stranger = running.http.get("/fn/stays", auth=("admin", "wrong password"))
        assert stranger.status_code == 503
        assert stranger.headers["retry-after"] == "1"
    finally:
        api.resume()
    until(
        lambda: running.http.get("/fn/stays", auth=("admin", PASSWORD)).status_code == 200,
        "the api service answers again",
    )


def test_who_is_logged_in_invokes_without_saying_so(
    running: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create(running, "called", '{"invoke": "private"}')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    refused = running.cli("invoke", "called", check=False)
    assert refused.returncode == 1
    assert "no credentials" in refused.stderr
    login = ("login", "here", "--server", running.api, "--user", "admin")
    running.cli(*login, given=f"{PASSWORD}\n")
    told = running.cli("invoke", "called", "-H", "authorization: Mine")
    assert json.loads(told.stdout) == {"user": "admin", "given": "Mine"}
    assert PASSWORD not in told.stdout + told.stderr
