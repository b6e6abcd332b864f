"""Runs in a pod inside the cluster, with nothing but Python's standard library: sends requests as clients do.

`calls` sends some and tells of each; `load` sends until it is told to stop, and judges the answers. Both read
JSON from standard input, one message a line, and write JSON. `sleep` keeps the pod.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from typing import Any

SAMPLES = 20
"""Of failures, told."""
PATIENCE = 60.0
"""Seconds for one answer."""


def tell(message: Any) -> None:
    """Writes a message."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Caller:
    """A client with one connection at a time.

    Args:
        address: host:port.
        kept: whether the connection serves more than one request.
    """

    def __init__(self, address: str, kept: bool) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        self.connecting = 0.0
        """Seconds of the last call that passed until it was connected: the name's look-up is in them."""
        self._headers = {} if kept else {"Connection": "close"}

    def call(
        self, method: str, path: str, body: str | None = None
    ) -> tuple[int, str, float, dict[str, str]]:
        """Sends a request; gives status, body, seconds and headers. Status 0: no answer, and why."""
        began = time.monotonic()
        self.connecting = 0.0
        try:
            if self._connection.sock is None:
                self._connection.connect()
                self.connecting = time.monotonic() - began
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read().decode()
            return answer.status, text, time.monotonic() - began, dict(answer.getheaders())
        except (OSError, http.client.HTTPException) as failure:
            self._connection.close()
            return 0, f"{type(failure).__name__}: {failure}", time.monotonic() - began, {}


def calls(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Requests one after the other, or all at once."""
    told: list[dict[str, Any]] = [{} for _ in asked["requests"]]

    def send(caller: Caller, place: int) -> None:
        method, path, body = asked["requests"][place]
        status, text, seconds, headers = caller.call(method, path, body)
        told[place] = {"status": status, "body": text, "seconds": seconds, "headers": headers}

    if asked["at_once"]:
        threads = [
            threading.Thread(target=send, args=(Caller(asked["address"], False), place))
            for place in range(len(told))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        caller = Caller(asked["address"], True)
        for place in range(len(told)):
            send(caller, place)
            time.sleep(asked["pause"])
    return told


class Load:
    """Callers that send without end.

    Args:
        asked: `address`; `callers`, each with `method`, `path`, `kept`, `pause` in seconds; `seconds` at most.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failures: list[str] = []
        self._failed = 0
        self._answers = 0
        self._slowest = 0.0
        self._slowest_was = ""
        self.floors: dict[str, int] = {}
        """By path: the lowest number that is a right answer to a request that begins now."""

    def _send(self, kind: dict[str, Any], begun: threading.Barrier) -> None:
        caller = Caller(self._asked["address"], kind["kept"])
        first = True
        while not self._stop.is_set():
            floor = self.floors.get(kind["path"], 0)
            at = time.time()
            body = "x" * 100 if kind["method"] == "POST" else None
            status, text, seconds, _ = caller.call(kind["method"], kind["path"], body)
            wrong = ""
            if status != 200:
                wrong = f"{status} {text}"
            elif not text.isdigit() or int(text) < floor:
                wrong = f"{text}, expected {floor} or more"
            how = "kept" if kind["kept"] else "new connection"
            what = f"{kind['method']} {kind['path']}, {how}"
            with self._lock:
                self._answers += 1
                if seconds > self._slowest:
                    self._slowest = seconds
                    self._slowest_was = f"{what}, {caller.connecting:.3f} s of it to connect"
                if wrong:
                    self._failed += 1
                    if len(self._failures) < SAMPLES:
                        self._failures.append(f"{at:.3f} +{seconds:.3f} s {what}: {wrong}")
            if first:
                begun.wait(PATIENCE)
                first = False
            self._stop.wait(kind["pause"])

    def run(self) -> dict[str, Any]:
        """Sends until standard input says stop or ends, or the time is up; gives the account."""
        begun = threading.Barrier(len(self._asked["callers"]) + 1)
        threads = [
            threading.Thread(target=self._send, args=(kind, begun), daemon=True)
            for kind in self._asked["callers"]
        ]
        for thread in threads:
            thread.start()
        begun.wait(PATIENCE)
        tell("begun")
        threading.Thread(target=self._obey, daemon=True).start()
        self._stop.wait(self._asked["seconds"])
        self._stop.set()
        for thread in threads:
            thread.join()
        return {
            "answers": self._answers,
            "failed": self._failed,
            "failures": self._failures,
            "slowest": self._slowest,
            "slowest_was": self._slowest_was,
        }

    def _obey(self) -> None:
        for line in sys.stdin:
            order = json.loads(line)
            if order == "stop":
                break
            self.floors.update(order)
        self._stop.set()


def main() -> None:
    """What the first argument says."""
    if sys.argv[1] == "sleep":
        while True:
            time.sleep(3600)
    asked = json.loads(sys.stdin.readline())
    result: Any = calls(asked) if sys.argv[1] == "calls" else Load(asked).run()
    tell(result)


if __name__ == "__main__":
    main()
