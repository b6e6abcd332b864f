"""What functions do to themselves, through the whole engine: seen at once, answered, and nobody else's loss."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engine import Engine, engine, until

TIMEOUT = 1.0
"""Seconds that a request gets whose handler holds the event loop; the others end long before theirs."""
HELD = (504, 502)
"""The router says 504 first, unless the machine is so busy that the process is gone before."""

DEEDS = """
const handles = () => process._getActiveHandles();
const deeds = {
  exit0: () => process.exit(0),
  exit3: () => process.exit(3),
  abort: () => process.abort(),
  sigkill: () => process.kill(process.pid, 'SIGKILL'),
  sigterm: () => process.kill(process.pid),
  segv: () => process.kill(process.pid, 'SIGSEGV'),
  uncaught: () => setTimeout(() => { throw new Error('nobody catches this'); }),
  rejection: () => void Promise.reject(new Error('nobody awaits this')),
  loop: () => { for (;;); },
  sleep: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0),
  stop: () => process.kill(process.pid, 'SIGSTOP'),
  regex: () => /^(a+)+$/.test('a'.repeat(60) + 'b'),
  buffers: () => { const all = []; const more = () => { all.push(Buffer.alloc(4e6, 1)); setImmediate(more); }; more(); },
  heap: () => { const all = []; for (;;) all.push(new Array(10000).fill(all.length + 0.5)); },
  child: () => require('node:child_process').spawn(process.execPath, ['-e',
    'const all = []; setInterval(() => all.push(Buffer.alloc(8e6, 1)), 5)']),
  control: () => handles().filter((one) => one.constructor.name === 'Socket').forEach((one) => one.destroy()),
  nonsense: () => handles().filter((one) => one.constructor.name === 'Socket').forEach((one) => one.write('{"a":1}\\n')),
  closeAll: () => { for (let fd = 3; fd < 200; fd++) try { require('node:fs').closeSync(fd); } catch {} },
  deaf: (req, res) => { handles().find((one) => one.constructor.name === 'Server').close(); res.send('deaf'); },
  unplugged: (req, res) => { handles().find((one) => one.constructor.name === 'Server')._handle.close(); res.send('deaf'); },
};
module.exports = (req, res) => {
  const deed = deeds[req.query.deed];
  if (!deed) return res.send(String(process.pid));
  console.log(`about to ${req.query.deed}`);
  deed(req, res);
};
"""

# What is logged of each, and what its caller gets.
ENDS = {
    "exit0": ("exited with code 0", (502,)),
    "exit3": ("exited with code 3", (502,)),
    "abort": ("killed by SIGABRT", (502,)),
    "sigkill": ("killed by SIGKILL", (502,)),
    "sigterm": ("killed by SIGTERM", (502,)),
    "segv": ("killed by SIGSEGV", (502,)),
    "uncaught": ("nobody catches this", (500,)),
    "rejection": ("nobody awaits this", (500,)),
    "loop": ("timeout: its event loop was held", HELD),
    "sleep": ("timeout: its event loop was held", HELD),
    "stop": ("timeout: its event loop was held", HELD),
    "regex": ("timeout: its event loop was held", HELD),
    "buffers": ("out_of_memory", (502,)),
    "heap": ("out_of_memory", (502,)),
    "child": ("out_of_memory", (502,)),
    "control": ("killed by SIGKILL", (502,)),
    "nonsense": ("control message of no known form", (502,)),
    "closeAll": ("the process is over", (502,)),
    "deaf": ("does not listen", (200,)),
    "unplugged": ("does not listen", (200,)),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("failures") / "data", "--pool-size", "3") as one:
        one.deploy("calm", "module.exports = (req, res) => res.send(String(process.pid));")
        flags = ("--memory", "128", "--concurrency", "10")
        one.deploy("wild", DEEDS, *flags, "--timeout", "20")
        one.deploy("held", DEEDS, *flags, "--timeout", str(TIMEOUT))
        yield one


def answer(running: Engine, name: str) -> str:
    """The answer of a function that is there again, possibly after a pause."""
    got = running.http.get(f"/fn/{name}")
    assert got.status_code == 200, got.text
    return got.text


@pytest.mark.parametrize("deed", ENDS)
def test_a_process_that_a_handler_ends_or_holds_is_replaced_and_its_caller_is_told(
    running: Engine, deed: str
) -> None:
    calm = answer(running, "calm")
    reason, statuses = ENDS[deed]
    name = "held" if statuses is HELD else "wild"
    pid = int(answer(running, name))
    # No GET: that would be tried again on another pod, and end that one too.
    got = running.http.post(f"/fn/{name}?deed={deed}")
    assert got.status_code in statuses, got.text
    if got.status_code != 200:
        assert got.json()["error"]["request_id"] == got.headers["x-request-id"]
    until(lambda: not _lives(pid), f"the end of the process after {deed}")
    assert int(answer(running, name)) != pid
    until(lambda: reason in running.cli("logs", name).stdout, f"{reason!r} in the logs")
    assert answer(running, "calm") == calm, "another function lost its pod"


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_handler_that_never_answers_costs_its_request_and_not_its_pod(running: Engine) -> None:
    running.deploy(
        "silent",
        """module.exports = (req, res) => {
          if (req.query.pid) return res.send(String(process.pid));
          req.signal.addEventListener('abort', () => console.log('signalled'));
        };""",
        "--timeout",
        "0.3",
    )
    pid = running.http.get("/fn/silent?pid=1").text
    assert running.http.get("/fn/silent").status_code == 504

    def said(times: int) -> bool:
        return running.cli("logs", "silent").stdout.count("signalled") == times

    until(lambda: said(1), "the signal at the timeout")
    with pytest.raises(httpx.ReadTimeout):
        running.http.get("/fn/silent", timeout=0.1)
    until(lambda: said(2), "the signal when the client leaves")
    assert running.http.get("/fn/silent?pid=1").text == pid


def test_a_loop_that_is_held_for_less_than_the_timeout_is_nobodys_business(running: Engine) -> None:
    running.deploy(
        "busy",
        """module.exports = (req, res) => {
          const end = Date.now() + Number(req.query.ms ?? 0);
          while (Date.now() < end);
          res.send(String(process.pid));
        };""",
        "--timeout",
        "8",
    )
    pid = running.http.get("/fn/busy").text
    assert running.http.get("/fn/busy?ms=3000").text == pid
    assert running.http.get("/fn/busy").text == pid


def test_a_function_that_crashes_at_each_call_leaves_the_pool_to_others(running: Engine) -> None:
    running.deploy("crasher", "module.exports = () => process.exit(1);")
    running.deploy("bystander", "module.exports = (req, res) => res.send('fine');")
    metrics = f"http://{running.run['services']['controller']['admin']}/metrics"

    def lost() -> float:
        found = re.search(
            r"^sanfran_controller_pods_lost_total (\S+)", httpx.get(metrics).text, re.M
        )
        assert found is not None, httpx.get(metrics).text
        return float(found[1])

    before, began = lost(), time.monotonic()
    for _ in range(8):
        got = running.http.post("/fn/crasher")
        assert got.status_code in (502, 503), got.text
    assert lost() - before <= 6 + (time.monotonic() - began)
    assert running.http.get("/fn/bystander").text == "fine"


def test_what_a_handler_does_to_its_globals_stays_its_own_trouble(running: Engine) -> None:
    running.deploy(
        "vandal",
        """
        const refuse = () => { throw new Error('broken'); };
        module.exports = (req, res) => {
          if (req.query.pid) return res.end(String(process.pid));
          JSON.stringify = JSON.parse = Date.now = globalThis.setTimeout = refuse;
          process.removeAllListeners('uncaughtException');
          process.exit = process.kill = () => {};
          globalThis.Promise = undefined;
          require('node:http').Server.prototype.emit = refuse;
          process.on('message', refuse);
          console.log('still logged');
          res.end('done');
        };""",
        "--timeout",
        "1",
    )
    assert running.http.get("/fn/vandal").text == "done"
    until(lambda: "still logged" in running.cli("logs", "vandal").stdout, "its line")
    assert answer(running, "calm")
    running.cli("delete", "vandal")
    assert running.http.get("/fn/vandal").status_code == 404


@pytest.mark.parametrize(
    "code",
    [
        "res.status(421).set('X-Sanfran-Retry', 'fenced').send('mine')",
        "res.writeHead(421, { 'x-sanfran-retry': 'draining' }).end('mine')",
        "res.writeHead(421, 'Misdirected', ['X-SANFRAN-RETRY', 'fenced', 'A', 'b']).end('mine')",
        "res.writeHead(421, [['X-Sanfran-Retry', 'fenced'], ['A', 'b']]).end('mine')",
        "res.setHeader('x-sanfran-retry', 'fenced'); res.statusCode = 421; res.end('mine')",
        "res.appendHeader('x-sanfran-retry', 'fenced'); res.statusCode = 421; res.write('mi'); res.end('ne')",
    ],
)
def test_no_answer_of_a_handler_is_taken_for_the_fence(running: Engine, code: str) -> None:
    name = f"forger-{abs(hash(code)):x}"[:40]
    running.deploy(name, f"module.exports = (req, res) => {{ {code} }};")
    for _ in range(2):
        got = running.http.get(f"/fn/{name}")
        assert (got.status_code, got.text) == (421, "mine")
        assert not [header for header in got.headers if header.startswith("x-sanfran")]


def test_the_environment_of_a_function_is_this_and_no_more(running: Engine) -> None:
    code = """const at = { ...process.env };
    module.exports = (req, res) => res.json({ at, now: process.env, argv: process.argv, exec: process.execArgv });"""
    running.deploy("env", code, "--env", "COLOUR=blue")
    seen = running.http.get("/fn/env").json()
    assert seen["at"] == seen["now"], "it is complete before the module loads"
    assert seen["at"].pop("COLOUR") == "blue"
    home = seen["at"].pop("HOME")
    assert seen["at"].pop("TMPDIR") == home
    path = seen["at"].pop("PATH").split(":")
    assert path[1:] == ["/usr/local/bin", "/usr/bin", "/bin"]
    assert seen["at"] == {"LANG": "C.UTF-8", "NODE_ENV": "production"}
    assert seen["exec"] == []


def test_no_function_can_look_into_the_engines_processes(running: Engine) -> None:
    code = """
    const fs = require('node:fs');
    const found = (file) => { try { return fs.readFileSync(file, 'latin1').includes('SANFRAN_RPC_SECRET'); } catch { return false; } };
    module.exports = (req, res) => {
      const pids = fs.readdirSync('/proc').filter((one) => Number(one));
      const memory = (() => { try { fs.openSync(`/proc/${process.ppid}/mem`); return 'open'; } catch (e) { return e.code; } })();
      res.json({ pids: pids.length, memory, secrets: pids.filter((pid) => found(`/proc/${pid}/environ`)) });
    };"""
    running.deploy("spy", code)
    seen = running.http.get("/fn/spy").json()
    assert seen.pop("pids") > 1
    assert seen == {"memory": "EACCES", "secrets": []}


def test_temporary_files_are_private_and_wiped_and_code_is_read_only(running: Engine) -> None:
    code = """
    const fs = require('node:fs'), os = require('node:os'), path = require('node:path');
    const attempt = (what) => { try { what(); return 'done'; } catch (error) { return error.code; } };
    module.exports = (req, res) => {
      const left = fs.readdirSync(os.tmpdir());
      fs.writeFileSync(path.join(os.tmpdir(), 'mine'), 'x');
      res.json({ left, tmp: os.tmpdir(), code: [
        attempt(() => fs.writeFileSync(__filename, '')),
        attempt(() => fs.appendFileSync(__filename, '//')),
        attempt(() => fs.writeFileSync(path.join(__dirname, 'new'), '')),
        attempt(() => fs.unlinkSync(__filename)),
        attempt(() => fs.mkdirSync('folder')),
      ] });
    };"""
    running.deploy("files", code, "--idle-timeout", "1")
    first = running.http.get("/fn/files").json()
    assert first["left"] == []
    assert set(first["code"]) <= {"EACCES", "EROFS", "EPERM"}
    assert oct(Path(first["tmp"]).stat().st_mode & 0o777) == "0o700"
    until(lambda: not Path(first["tmp"]).exists(), "the wiping of its files")
    second = running.http.get("/fn/files").json()
    assert second["left"] == []
    assert second["tmp"] != first["tmp"]


def test_log_lines_name_their_request_and_the_last_words_of_the_dead_are_kept(
    running: Engine,
) -> None:
    code = """
    console.log('loading');
    module.exports = async (req, res) => {
      await new Promise((go) => setTimeout(go, 20));
      console.warn('in', req.query.n);
      if (req.query.n === '9') {
        require('node:fs').writeSync(2, 'native last words\\n');
        process.kill(process.pid, 'SIGSEGV');
      }
      res.send('x');
    };"""
    running.deploy("teller", code)
    for n in range(3):
        running.http.get(f"/fn/teller?n={n}", headers={"x-request-id": f"request-{n}"})
    running.http.post("/fn/teller?n=9", headers={"x-request-id": "request-9"})

    def lines() -> list[str]:
        return running.cli("logs", "teller").stdout.splitlines()

    until(lambda: any("SIGSEGV" in line for line in lines()), "the end in the logs")
    told = lines()
    assert [line.split("  ")[-1] for line in told] == [
        "loading",
        "in 0",
        "in 1",
        "in 2",
        "in 9",
        "native last words",
        "the process is over: killed by SIGSEGV",
    ]
    for n in (0, 1, 2, 9):
        (line,) = [line for line in told if line.endswith(f"in {n}")]
        assert f"request-{n}" in line
        assert "warning" in line
        assert " v1 " in line
    assert "request-" not in told[0]


@pytest.mark.parametrize(
    "flood",
    [
        "for (let i = 0; i < 100; i++) process.stdout.write('x'.repeat(1e6))",
        "for (let i = 0; i < 1e6; i++) console.log(i)",
        "process.stdout.write(require('node:crypto').randomBytes(5e6))",
        "process.stdout.write('no end at all'.repeat(1e6))",
        "require('node:child_process').spawn('head', ['-c', '100000000', '/dev/urandom'], { stdio: 'inherit' })",
    ],
    ids=["long lines", "many lines", "garbage", "no line end", "a child's garbage"],
)
def test_no_flood_of_output_blocks_a_handler_or_fills_memory(running: Engine, flood: str) -> None:
    name = f"flood-{abs(hash(flood)):x}"[:40]
    running.deploy(name, f"module.exports = (req, res) => {{ {flood}; res.send('out'); }};")
    host = psutil.Process(running.service_pid("pod-host"))
    before = host.memory_info().rss
    assert running.http.get(f"/fn/{name}").text == "out"
    assert answer(running, "calm")
    assert host.memory_info().rss - before < 60e6
    assert running.cli("logs", name, "--tail", "5").returncode == 0


def test_a_kill_from_outside_is_told_in_the_logs_too(running: Engine) -> None:
    pid = int(answer(running, "calm"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: "SIGKILL" in running.cli("logs", "calm").stdout, "the kill in the logs")
    assert int(answer(running, "calm")) != pid
