"""A small real service for the tests of `sanfran up`: speaks sd_notify, and dies as it is told.

    fake_service.py NAME LEDGER BEHAVIOUR...

Writes `NAME started`, `NAME stopped` and the like to the ledger, one line each.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    name, ledger, *behaviour = sys.argv[1:]

    def write(event: str) -> None:
        with open(ledger, "a") as file:
            file.write(f"{name} {event}\n")

    def stop(why: str) -> None:
        write(f"stopped by {why}")
        sys.exit(0)

    if "stubborn" in behaviour:
        signal.signal(signal.SIGTERM, lambda *_: write("ignored SIGTERM"))
    else:
        signal.signal(signal.SIGTERM, lambda *_: stop("SIGTERM"))
    signal.signal(signal.SIGINT, lambda *_: write("met SIGINT"))
    write(f"started {os.getpid()}")
    if "broken" in behaviour:
        print("Traceback: cannot find the sea", file=sys.stderr)
        sys.exit(3)
    if "talkative" in behaviour:
        print("x" * 300_000, flush=True)
        print(json.dumps({"event": "high tide", "level": "warning", "metres": 3}))
        print(json.dumps({"event": "low tide", "level": "info"}), flush=True)
    if "silent" not in behaviour:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            message = f"READY=1\nX_SANFRAN_HTTP=127.0.0.1:1\nX_SANFRAN_NAME={name}"
            sender.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])
    if "dies" in behaviour:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        try:
            if not os.read(0, 1):
                if "stubborn" in behaviour:
                    signal.pause()
                stop("the end of its input")
        except InterruptedError:
            continue


main()
