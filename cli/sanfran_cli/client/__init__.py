"""A client of the api service's REST interface, for programs and for the command line itself.

async with Client("http://127.0.0.1:8081") as client:
    function = await client.create("hello", Path("hello.js"), {"timeout": 5})
    print(function["version"])

Calls by what they are about: `functions`, `versions`, `logs`, `service`, `store`. Every call raises `ApiRefused` (or one
of its kinds, see `sanfran_cli.errors`) for an error answer, `ApiUnreachable` when nothing answers.
"""

from __future__ import annotations

from sanfran_cli.client.answers import (
    Caller,
    Decision,
    Function,
    LogLine,
    Pod,
    Pool,
    Pools,
    Restored,
    Rotated,
    ServiceInfo,
    Status,
)
from sanfran_cli.client.credentials import Credentials, Login, Server, Token
from sanfran_cli.client.functions import FunctionCalls
from sanfran_cli.client.logs import LogCalls
from sanfran_cli.client.service import ServiceCalls
from sanfran_cli.client.store import StoreCalls
from sanfran_cli.client.urls import DEFAULT_API, is_local, is_url
from sanfran_cli.client.versions import VersionCalls
from sanfran_cli.errors import (
    AlreadyExists,
    ApiRefused,
    ApiUnreachable,
    BadRequest,
    BuildFailed,
    ConnectionBroken,
    Forbidden,
    NotFound,
    Refused,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    VersionChanged,
)
from sanfran_cli.pack import Upload, open_upload
from sanfran_cli.settings import Settings

__all__ = [
    "DEFAULT_API",
    "AlreadyExists",
    "ApiRefused",
    "ApiUnreachable",
    "BadRequest",
    "BuildFailed",
    "Caller",
    "Client",
    "ConnectionBroken",
    "Credentials",
    "Decision",
    "Forbidden",
    "Function",
    "LogLine",
    "Login",
    "NotFound",
    "Pod",
    "Pool",
    "Pools",
    "Refused",
    "Restored",
    "Rotated",
    "Server",
    "ServiceInfo",
    "Settings",
    "Status",
    "Token",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Upload",
    "VersionChanged",
    "is_local",
    "is_url",
    "open_upload",
]


class Client(FunctionCalls, VersionCalls, LogCalls, ServiceCalls, StoreCalls):
    """Talks to one api service. An async context manager; see `Connection` for its arguments."""
