"""Whether a release works, from end to end: makes a function, calls it, changes it, removes it."""

import base64
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request

API, ROUTER, PASSWORD = os.environ["API"], os.environ["ROUTER"], os.environ.get("PASSWORD", "")
NAME = f"helm-test-{random.randrange(1 << 32):08x}"


def ask(url: str, method: str = "GET", form: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of an answer. A file of the form is code."""
    headers, body = {}, None
    if url.startswith(API) and PASSWORD:
        headers["Authorization"] = (
            "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        )
    if form is not None:
        headers["Content-Type"] = "multipart/form-data; boundary=part"
        parts = [
            f'--part\r\nContent-Disposition: form-data; name="{key}"'
            + ('; filename="function.js"' if key == "file" else "")
            + f"\r\n\r\n{value}\r\n"
            for key, value in form.items()
        ]
        body = ("".join(parts) + "--part--\r\n").encode()
    asked = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def expect(what: str, answer: tuple[int, bytes], status: int, body: bytes | None = None) -> None:
    """Ends the test where an answer is another one."""
    if answer[0] != status or (body is not None and answer[1] != body):
        sys.exit(
            f"FAILED: {what}: expected {status} {body or b''!r}, got {answer[0]} {answer[1][:500]!r}"
        )
    print(f"ok: {what}", flush=True)


def code(text: str) -> str:
    """A function that answers with a text."""
    return f"module.exports = (req, res) => res.send({json.dumps(text)});"


def main() -> None:
    """Each line is a promise that users rely on."""
    expect("a function that does not exist is not found", ask(f"{ROUTER}/fn/{NAME}"), 404)
    if not PASSWORD:
        print("skipped: the rest, as there is no password of admin", flush=True)
        return
    expect(
        "a function is made",
        ask(f"{API}/api/v1/functions", "POST", {"name": NAME, "file": code("first")}),
        201,
    )
    try:
        began = time.monotonic()
        expect("its first call is answered", ask(f"{ROUTER}/fn/{NAME}"), 200, b"first")
        print(f"    after {(time.monotonic() - began) * 1000:.0f} ms", flush=True)
        expect(
            "it gets new code",
            ask(f"{API}/api/v1/functions/{NAME}", "PUT", {"file": code("second")}),
            200,
        )
        expect("the next call meets it", ask(f"{ROUTER}/fn/{NAME}"), 200, b"second")
    finally:
        gone = ask(f"{API}/api/v1/functions/{NAME}", "DELETE")
    expect("it is removed", gone, 204)
    expect("and not found any more", ask(f"{ROUTER}/fn/{NAME}"), 404)


if __name__ == "__main__":
    main()
