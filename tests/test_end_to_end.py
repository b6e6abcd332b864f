"""The way of a user: start the engine, deploy a file, call it, change it, remove it."""

import concurrent.futures
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engine import Engine, engine

HELLO = "module.exports = (req, res) => res.send(`Hello ${req.query.name ?? 'World'}`);"
VERSION = "module.exports = (req, res) => res.send('%s');"


def wait_for(what: str, seconds: float = 10.0) -> "Waiting":
    return Waiting(what, seconds)


def wait_for_new(running: Engine, service: str, before: int) -> None:
    """Until the service runs again as another process."""
    for _ in wait_for(f"a new {service}"):
        now = running.run["services"][service]
        if now["ready"] and now["pid"] != before:
            return


class Waiting:
    """`for _ in wait_for("…")`: tries again until a deadline, then fails with that sentence."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.until = time.monotonic() + seconds

    def __iter__(self) -> "Waiting":
        return self

    def __next__(self) -> None:
        if time.monotonic() > self.until:
            pytest.fail(f"did not happen in time: {self.what}")
        time.sleep(0.02)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]  # a generator of Engine
    with engine(tmp_path_factory.mktemp("engine") / "data", "--demo", "--pool-size", "2") as one:
        yield one


def test_the_demo_functions_answer(running: Engine) -> None:
    assert "Hello Vik" in running.http.get("/fn/hello?name=Vik").text
    assert "Hello Vik" in running.http.get("/fn/hello/?name=Vik").text
    assert "user-agent" in running.http.get("/fn/headers").text.lower()
    assert running.http.get("/fn/qr?text=hello").text.lstrip().startswith("<")
    for name in ("greetings/hello", "greetings/bye", "chain"):
        answer = running.http.get(f"/fn/{name}")
        assert answer.status_code == 200, answer.text


def test_create_call_update_call_delete(running: Engine, tmp_path: Path) -> None:
    path = tmp_path / "mine.js"
    path.write_text(VERSION % "one")
    assert running.http.get("/fn/mine").status_code == 404
    assert f"{running.url}/fn/mine" in running.cli("create", "mine", path).stdout
    assert running.http.get("/fn/mine").text == "one"
    path.write_text(VERSION % "two")
    running.cli("update", "mine", path)
    assert running.http.get("/fn/mine").text == "two"
    running.cli("delete", "mine")
    gone = running.http.get("/fn/mine")
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "not_found"
    assert gone.json()["error"]["request_id"] == gone.headers["x-request-id"]


def test_an_update_under_load_fails_no_request_and_shows_no_old_answer(running: Engine) -> None:
    running.deploy("moving", VERSION % "0")
    floor = 0
    stop = threading.Event()
    wrong: list[str] = []
    answers = 0

    def call() -> None:
        nonlocal answers
        with httpx.Client(base_url=running.url) as client:
            while not stop.is_set():
                at_least = floor
                answer = client.get("/fn/moving")
                answers += 1
                if answer.status_code != 200 or int(answer.text) < at_least:
                    wrong.append(f"{answer.status_code} {answer.text}, expected {at_least}")

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        callers = [threads.submit(call) for _ in range(4)]
        try:
            for number in range(1, 5):
                path = running.data.parent / "moving.js"
                path.write_text(VERSION % number)
                running.cli("update", "moving", path)
                floor = number
        finally:
            stop.set()
        for caller in callers:
            caller.result()
    assert not wrong, wrong[:5]
    assert answers > 50


def test_after_kill_9_of_a_node_process_under_load_the_next_call_works(running: Engine) -> None:
    running.deploy(
        "victim",
        "module.exports = (req, res) => res.json({pid: process.pid, env: process.env.NAME});",
        "--secret",
        "NAME=value",
    )
    first = running.http.get("/fn/victim").json()
    assert first["env"] == "value"
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(httpx.get, f"{running.url}/fn/victim") for _ in range(20)]
        os.kill(first["pid"], signal.SIGKILL)
        statuses = {call.result().status_code for call in calls}
    assert statuses == {200}  # GET is idempotent: what ran on the dead process is retried
    assert running.http.get("/fn/victim").json()["pid"] != first["pid"]


def test_a_function_that_throws_or_does_not_load_gives_an_error_that_says_so(
    running: Engine,
) -> None:
    running.deploy("thrower", "module.exports = () => { throw new Error('secret detail'); };")
    thrown = running.http.get("/fn/thrower")
    assert thrown.status_code == 500
    assert thrown.json()["error"]["code"] == "handler_failed"
    assert "secret detail" not in thrown.text
    running.deploy("unloadable", "require('no-such-module');")
    failed = running.http.get("/fn/unloadable")
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "load_failed"
    assert "no-such-module" in running.cli("get", "unloadable").stdout
    for _ in wait_for("the stack of the throw in the logs"):
        if "secret detail" in running.cli("logs", "thrower").stdout:
            break


def test_two_callers_of_a_cold_function_share_one_activation(running: Engine) -> None:
    running.deploy("shared", "module.exports = (req, res) => res.send(String(process.pid));")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(httpx.get, f"{running.url}/fn/shared") for _ in range(8)]
        assert len({call.result().text for call in calls}) == 1


def test_an_idle_pod_is_recycled_and_its_next_function_sees_nothing_of_it(
    running: Engine,
) -> None:
    running.deploy(
        "short",
        "globalThis.mark = (globalThis.mark ?? 0) + 1;"
        "require('fs').writeFileSync(require('os').tmpdir() + '/left', 'x');"
        "module.exports = (req, res) => res.json({pid: process.pid, mark: globalThis.mark});",
        "--idle-timeout",
        "1",
    )
    first = running.http.get("/fn/short").json()
    for _ in wait_for("the end of the idle pod's process"):
        if not psutil.pid_exists(first["pid"]):
            break
    again = running.http.get("/fn/short").json()
    assert again["pid"] != first["pid"]
    assert again["mark"] == 1


def test_refusals_say_why_and_store_nothing(running: Engine, tmp_path: Path) -> None:
    path = tmp_path / "hello.js"
    path.write_text(HELLO)
    bad_name = running.cli("create", "Not_A_Name", path, check=False)
    assert bad_name.returncode in (1, 2)
    assert "Not_A_Name" in bad_name.stderr
    twice = running.cli("create", "hello", path, check=False)
    assert twice.returncode == 1
    assert "hello" in twice.stderr
    assert running.cli("frobnicate", check=False).returncode == 2
    missing = running.cli("get", "nobody", check=False)
    assert missing.returncode == 1
    assert "nobody" in missing.stderr


def test_functions_are_still_there_after_a_restart(tmp_path: Path) -> None:
    with engine(tmp_path / "data", "--pool-size", "1") as first:
        first.deploy("kept", HELLO)
        assert first.http.get("/fn/kept?name=Vik").text == "Hello Vik"
    with engine(tmp_path / "data", "--pool-size", "1") as second:
        assert second.http.get("/fn/kept?name=Vik").text == "Hello Vik"


def test_a_second_engine_on_the_same_folder_is_refused(running: Engine) -> None:
    with pytest.raises(RuntimeError, match=str(running.process.pid)), Engine(running.data):
        pass
    assert "Hello" in running.http.get("/fn/hello").text


@pytest.mark.parametrize("service", ["router", "controller", "pod-host", "api"])
def test_a_service_that_dies_is_restarted_and_functions_answer_again(
    running: Engine, service: str
) -> None:
    running.http.get("/fn/hello").raise_for_status()
    before = running.service_pid(service)
    os.kill(before, signal.SIGKILL)
    wait_for_new(running, service, before)
    for _ in wait_for(f"an answer after the death of the {service}"):
        try:
            warm = running.http.get("/fn/hello?name=Vik")
            cold = running.http.get("/fn/headers")
        except httpx.TransportError:
            continue
        if (warm.status_code, cold.status_code) == (200, 200):
            break


def test_a_router_worker_that_dies_is_replaced_and_functions_answer_at_once(
    running: Engine,
) -> None:
    running.http.get("/fn/hello").raise_for_status()
    router = psutil.Process(running.service_pid("router"))
    [worker] = router.children()
    worker.kill()
    psutil.wait_procs([worker])
    # A connection that comes now waits for the new worker, which asks for the routes.
    assert httpx.get(f"{running.url}/fn/hello?name=Vik", timeout=30).text == "Hello Vik"
    assert running.service_pid("router") == router.pid


def test_a_controller_that_comes_back_keeps_warm_functions_warm(running: Engine) -> None:
    running.deploy("warm", "module.exports = (req, res) => res.send(String(process.pid));")
    before = running.http.get("/fn/warm").text
    killed = running.service_pid("controller")
    os.kill(killed, signal.SIGKILL)
    assert running.http.get("/fn/warm").text == before
    wait_for_new(running, "controller", killed)
    running.deploy("fresh", HELLO)
    for _ in wait_for("cold calls work again"):
        if running.http.get("/fn/fresh").status_code == 200:
            break
    assert running.http.get("/fn/warm").text == before


def test_kill_9_of_the_engine_itself_leaves_no_process(tmp_path: Path) -> None:
    with Engine(tmp_path / "data", "--demo", "--pool-size", "1") as one:
        one.http.get("/fn/hello").raise_for_status()
        processes = one.processes()
        os.kill(one.process.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(processes, timeout=10)
        try:
            assert [process.cmdline() for process in left] == []
        finally:
            one.kill(left)
