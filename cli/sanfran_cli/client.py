"""A client of the api service's REST interface, for programs and for the command line itself.

async with Client("http://127.0.0.1:8081") as client:
    function = await client.create("hello", Path("hello.js"), {"timeout": 5})
    print(function["version"])
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, Self, TypedDict, cast
from urllib.parse import quote, urlsplit

import httpx

from sanfran_cli.errors import ApiRefused, ApiUnreachable, Refused
from sanfran_cli.pack import Upload, open_upload
from sanfran_cli.settings import Settings

DEFAULT_API = "http://127.0.0.1:8081"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0
"""Without a byte from the service: an update waits until every controller has applied it."""


class Pod(TypedDict, total=False):
    """A pod of a function."""

    pod: str
    state: str
    version: int
    address: str


class Status(TypedDict, total=False):
    """What becomes of a function right now."""

    pods: list[Pod]
    load_error: str
    """Message and stack of the last failed load; empty when there was none."""
    activations: int
    last_activation_ms: float
    in_flight: int
    queued: int
    calls: int
    """Requests since a controller met the function."""
    last_cold_start: str
    """When it was last called without having a pod, ISO 8601; absent: never."""
    last_cold_start_ms: float


class Function(TypedDict, total=False):
    """A function as the service shows it; fields that a newer service adds are kept."""

    name: str
    version: int
    digest: str
    bundle_bytes: int
    entry: str
    settings: Settings
    created_at: str
    """When this version was made, ISO 8601."""
    url: str
    status: Status
    """In the answer of `get`, when a controller answers."""
    applied: bool
    """In the answers of `create` and `update`: no call that begins now meets an older version."""


class ServiceInfo(TypedDict, total=False):
    """What the service says about itself."""

    version: str
    public_url: str


class Decision(TypedDict, total=False):
    """What a controller decided."""

    time: str
    kind: str
    reason: str
    pods: int
    function: str
    """Empty: the pool itself."""
    why: str
    facts: str


class Pool(TypedDict, total=False):
    """One controller's pool; the service's OpenAPI has all its fields."""

    controller: str
    address: str
    target: int
    size: int
    most: int
    max_pods: int
    claims_per_second: float
    start_seconds: float
    ready: int
    starting: int
    overdue: int
    returning: int
    waiting: int
    pods: dict[str, int]
    functions: int
    decisions: list[Decision]


class Pools(TypedDict, total=False):
    """Every controller's pool."""

    controllers: list[Pool]
    silent: list[str]
    """Addresses of controllers that do not answer."""


class LogLine(TypedDict, total=False):
    """One line that a function wrote."""

    time: str
    level: str
    text: str
    pod: str
    version: int
    request_id: str


class Client:
    """Talks to one api service. An async context manager.

    Every method raises `ApiRefused` for an error answer, `ApiUnreachable` when nothing answers.

    Args:
        api: the service's URL, such as http://127.0.0.1:8081.
    """

    def __init__(self, api: str = DEFAULT_API) -> None:
        self.api = api.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=f"{self.api}/api/v1/",
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not is_local(self.api),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def info(self) -> ServiceInfo:
        """What the service says about itself, its functions' public URL above all."""
        return cast("ServiceInfo", await self._json("GET", ""))

    async def create(
        self,
        name: str,
        code: Path | Upload,
        settings: Settings | None = None,
        *,
        sent: Callable[[int], object] = lambda _: None,
    ) -> Function:
        """Makes a function; it answers calls from then on.

        Args:
            name: a DNS-1123 label: a-z, 0-9 and -, at most 63 characters.
            code: a file, a folder, or what `open_upload` gave.
            settings: those that are absent get the service's defaults.
            sent: told the bytes of each part of the code as it is sent.
        """
        with _opened(code) as upload:
            files = {"file": (upload.file_name, cast("IO[bytes]", _Counted(upload, sent)))}
            form = {"name": name, "settings": json.dumps(settings or {})}
            return cast("Function", await self._json("POST", "functions", data=form, files=files))

    async def update(
        self,
        name: str,
        code: Path | Upload | None = None,
        settings: Settings | None = None,
        *,
        of_version: int | None = None,
        sent: Callable[[int], object] = lambda _: None,
    ) -> Function:
        """Makes a new version. No call that begins after the answer meets an older one, unless
        the answer's `applied` is false.

        Args:
            code: None keeps the code.
            settings: those that are absent stay as they are.
            of_version: refused as `version_changed` when the function is not at this version.
        """
        headers = {} if of_version is None else {"if-match": f'"{of_version}"'}
        form = {"settings": json.dumps(settings)} if settings is not None else {}
        path = f"functions/{quote(name, safe='')}"
        if code is None:
            # httpx sends multipart only when there is a file: a part without a name is a field.
            fields = {key: (None, value) for key, value in form.items()}
            return cast("Function", await self._json("PUT", path, files=fields, headers=headers))
        with _opened(code) as upload:
            files = {"file": (upload.file_name, cast("IO[bytes]", _Counted(upload, sent)))}
            answer = await self._json("PUT", path, data=form, files=files, headers=headers)
            return cast("Function", answer)

    async def get(self, name: str) -> Function:
        """One function, with its present version."""
        return cast("Function", await self._json("GET", f"functions/{quote(name, safe='')}"))

    async def list(self, *, status: bool = False) -> AsyncIterator[Function]:
        """Every function by name, fetched page by page.

        Args:
            status: what becomes of each, too.
        """
        after = ""
        while True:
            params = {
                **({"after": after} if after else {}),
                **({"status": "true"} if status else {}),
            }
            page = await self._json("GET", "functions", params=params)
            for function in page["functions"]:
                yield function
            after = page.get("next_after") or ""
            if not after:
                return

    async def pool(self, *, decisions: int = 20) -> Pools:
        """The pool of each controller.

        Args:
            decisions: the latest of each, at most.
        """
        answer = await self._json("GET", "pool", params={"decisions": str(decisions)})
        return cast("Pools", answer)

    async def delete(self, name: str) -> None:
        """Removes a function; calls get 404 from then on, running ones finish."""
        await self._json("DELETE", f"functions/{quote(name, safe='')}")

    async def logs(
        self, name: str, *, follow: bool = False, tail: int = 0
    ) -> AsyncIterator[LogLine]:
        """What the function wrote, oldest first.

        Args:
            follow: goes on with what it writes from now on, without end.
            tail: lines of the past at most; 0: all that is kept.
        """
        params = {"follow": "true" if follow else "false", "tail": str(tail)}
        path = f"functions/{quote(name, safe='')}/logs"
        quiet = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=None)
        form = {"accept": "application/x-ndjson"}
        async with self._answer("GET", path, params=params, headers=form, timeout=quiet) as answer:
            # Not aiter_lines: that ends a line at U+2028 and the like, which may stand in a text.
            waiting = b""
            async for piece in answer.aiter_bytes():
                *lines, waiting = (waiting + piece).split(b"\n")
                for line in lines:
                    yield cast("LogLine", json.loads(line))

    async def _json(self, method: str, path: str, **arguments: Any) -> Any:
        async with self._answer(method, path, **arguments) as answer:
            body = await answer.aread()
            if not body:
                return None
            try:
                return json.loads(body)
            except ValueError as error:
                raise ApiUnreachable(self.api, "the answer is not JSON") from error

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, **arguments: Any
    ) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(method, path, **arguments) as answer:
                if answer.is_error:
                    raise _refusal(self.api, answer.status_code, await answer.aread())
                yield answer
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ApiUnreachable(self.api, str(error) or type(error).__name__) from error


def is_local(url: str) -> bool:
    """Whether the URL is on this machine, where no proxy of the environment belongs between."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_url(text: str) -> bool:
    """Whether this can be an API server: http or https, and a host; the port is a port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class _Counted:
    """A file that tells how much of it has been read, which is what has been sent."""

    def __init__(self, upload: Upload, sent: Callable[[int], object]) -> None:
        self._file = upload.content
        self._name = upload.file_name
        self._left = upload.size
        self._sent = sent

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._left -= len(part)
        if self._left < 0 or (self._left and not part):  # half of each would be neither
            raise Refused(f"{self._name} changed while it was sent; nothing was stored. Try again")
        self._sent(len(part))
        return part

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(code: Path | Upload) -> Iterator[Upload]:
    if isinstance(code, Upload):
        yield code
    else:
        with open_upload(code) as upload:
            yield upload


def _refusal(api: str, status: int, body: bytes) -> Exception:
    try:
        error = json.loads(body)["error"]
        return ApiRefused(
            status,
            error["code"],
            error["message"],
            field=error.get("field") or "",
            request_id=error.get("request_id") or "",
        )
    except (ValueError, KeyError, TypeError):
        return ApiUnreachable(api, f"it answered HTTP {status}, not as SanFran's API does")
