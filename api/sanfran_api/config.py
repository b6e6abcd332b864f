"""Settings of sanfran-api."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sanfran_common.config import (
    ServiceConfig,
    folder,
    host_port,
    positive_int,
    seconds,
    setting,
    split_host_port,
)

MIB = 1024 * 1024


def rpc_address(value: str) -> str:
    """`host:port` or `unix:/path`."""
    if value.startswith("unix:/"):
        return value
    try:
        return host_port(value)
    except ValueError:
        raise ValueError(
            "is no address; try 127.0.0.1:8091 or unix:/run/sanfran/api.sock"
        ) from None


def readable(value: str) -> str:
    """A file that can be read, or nothing."""
    if value and not os.access(value, os.R_OK):
        raise ValueError("cannot be read; try the path of a file, such as /etc/sanfran/npmrc")
    return value


def program(value: str) -> str:
    """A file that can be run, or nothing."""
    if value and not (os.path.isfile(value) and os.access(value, os.X_OK)):
        raise ValueError("cannot be run; try the path of a program, such as /usr/bin/node")
    return value


def hosts(value: str) -> str:
    """`*`, or names and addresses with or without a port, comma-separated: each as `host` or `host port`."""
    if value in ("", "*"):
        return value
    return ",".join(_host(one.strip()) for one in value.split(","))


def _host(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        if parts.hostname and parts.netloc == text and parts.username is None:
            return f"{parts.hostname} {parts.port}" if parts.port else parts.hostname
    except ValueError:
        pass
    raise ValueError(f"has {text!r}, which is no host; try npm.example.com,10.1.2.3:4873")


def base_url(value: str) -> str:
    """An http(s) URL without query; its trailing slash is dropped."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("is no http URL; try http://127.0.0.1:8080")
    return value.rstrip("/")


def auth_ways(value: str) -> str:
    """`none`, or ways to prove who one is, comma-separated."""
    found = [one.strip() for one in value.split(",")]
    if found != ["none"] and (len(set(found)) != len(found) or not set(found) <= {"basic", "jwt"}):
        raise ValueError("is none of none, basic, jwt, and basic,jwt; try basic")
    return ",".join(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig(ServiceConfig):
    """See `sanfran-api --help`."""

    data: Path = setting(  # noqa: RUF009  # a Path does not change
        Path("sanfran-data"), help="folder of the store; one process at a time", parse=folder
    )
    listen: str = setting(
        "127.0.0.1:8081", help="address of REST; port 0 picks a free one", parse=host_port
    )
    rpc_listen: str = setting(
        "127.0.0.1:8091",
        help="address of gRPC: host:port (port 0 picks one) or unix:/path",
        parse=rpc_address,
    )
    auth: str = setting(
        "none",
        help="how callers prove who they are: basic, jwt, basic,jwt; none: nobody is asked, on "
        "loopback only",
        parse=auth_ways,
    )
    users_file: str = setting("", help="users with passwords, a line each: NAME:HASH:GROUP,GROUP")
    admin_password_file: str = setting(
        "", help="file with the password of the user admin, who is in the group admin"
    )
    jwt_secret_file: str = setting("", help="file with the secret of tokens signed by HS256")
    jwt_jwks: str = setting(
        "", help="keys of tokens signed by RS256 or ES256: a JWKS file, or its https URL"
    )
    jwt_issuer: str = setting("", help="iss of every token")
    jwt_audience: str = setting("", help="aud that every token is for")
    jwt_user_claim: str = setting("sub", help="claim of a token that names the user")
    jwt_groups_claim: str = setting(
        "groups", help="claim of a token that lists groups; dots go into objects"
    )
    access_file: str = setting(
        "", help="groups and their privileges, YAML or JSON; none: the built-in groups"
    )
    audit_file: str = setting(
        "", help="file that who changed what is appended to; none: the service's log"
    )
    trust_forwarded: bool = setting(
        False, help="take a client's address from X-Forwarded-For, behind a proxy that writes it"
    )
    allowed_hosts: str = setting(
        "",
        help="names, comma-separated, under which REST may be called besides localhost and IPs; "
        "with --auth none: all names",
    )
    controllers: str = setting(
        "", help="gRPC addresses of the controllers, for status and logs; empty: none"
    )
    public_url: str = setting(
        "http://127.0.0.1:8080", help="where callers reach the router", parse=base_url
    )
    max_upload_bytes: int = setting(100 * MIB, help="largest upload, in bytes", parse=positive_int)
    max_unpacked_bytes: int = setting(
        500 * MIB, help="most bytes of all files of a function, unpacked", parse=positive_int
    )
    max_files: int = setting(
        50_000, help="most files and folders of a function", parse=positive_int
    )
    max_uploads: int = setting(
        16, help="uploads at the same time; further ones get 503", parse=positive_int
    )
    upload_idle_timeout: float = setting(
        30.0, help="seconds that an upload may stand still", parse=seconds
    )
    build_timeout: float = setting(
        300.0, help="seconds that installing a function's npm dependencies may take", parse=seconds
    )
    build_memory: int = setting(
        1024 * MIB, help="bytes of memory that one npm build may take", parse=positive_int
    )
    build_output: int = setting(
        MIB, help="bytes that one npm build may write to its output", parse=positive_int
    )
    builds_at_once: int = setting(2, help="npm builds at the same time", parse=positive_int)
    builds_waiting: int = setting(
        8, help="npm builds that wait for their turn; further ones get 503", parse=positive_int
    )
    build_dir: str = setting(
        "", help="folder of npm builds and their cache; empty: `builds` in the data folder"
    )
    build_cache_bytes: int = setting(
        2048 * MIB,
        help="most bytes of built node_modules that are kept, and as many of npm's downloads",
        parse=positive_int,
    )
    npm_registry: str = setting(
        "",
        help="where builds get packages whose .npmrc names no registry; empty: npm's own default",
        parse=lambda value: base_url(value) if value else "",
    )
    npm_config: str = setting(
        "",
        help="an npmrc for all builds, such as for private registries; empty: ~/.npmrc if any",
        parse=readable,
    )
    build_hosts: str = setting(
        "",
        help="hosts, or host:port, comma-separated, that builds may reach at internal addresses besides the registries of "
        "--npm-registry and --npm-config; *: all; with --auth none: all",
        parse=hosts,
    )
    node: str = setting(
        "",
        help="the Node whose npm builds; empty: the one that comes with the installation",
        parse=program,
    )
    max_store_bytes: int = setting(
        64 * 1024 * MIB, help="size that the store may grow to, in bytes", parse=positive_int
    )
    keep_versions: int = setting(
        20, help="versions kept of each function; older ones are removed", parse=positive_int
    )
    secrets_key_file: str = setting(
        "",
        help="file of the keys that secrets are encrypted with, the first one from now on; empty: "
        "secrets.key in the data folder, made when there is none",
    )
    apply_timeout: float = setting(
        10.0,
        help="seconds that a change waits until every connected controller has applied it",
        parse=seconds,
    )
    stop_grace: float = setting(
        2.0, help="seconds that running requests get at a stop", parse=seconds
    )

    def __post_init__(self) -> None:
        if not self.ways:
            self._check_open()
        if "basic" in self.ways and not (self.users_file or self.admin_password_file):
            raise ValueError(
                "--auth: basic needs --users-file FILE or --admin-password-file FILE; `sanfran "
                "hash-password NAME admin > users` makes a first one"
            )
        if "jwt" in self.ways:
            self._check_jwt()
        self._check_rpc()

    @property
    def ways(self) -> frozenset[str]:
        """How callers may prove who they are; empty: nobody is asked."""
        return frozenset(self.auth.split(",")) - {"none"}

    @property
    def builds_reach(self) -> frozenset[str] | None:
        """What builds may reach at internal addresses; None: all. Where nobody is asked, who uploads is on this machine."""
        if self.build_hosts == "*" or not (self.build_hosts or self.ways):
            return None
        return frozenset(self.build_hosts.split(",")) - {""}

    def _check_open(self) -> None:
        host, _ = split_host_port(self.listen)
        if not is_loopback(host):
            raise ValueError(
                f"--listen: {self.listen!r} can be reached from other machines, and nobody is asked "
                "who they are; try --auth basic --admin-password-file FILE, or --listen "
                "127.0.0.1:8081"
            )

    def _check_rpc(self) -> None:
        # Whatever people have to show, services that show nothing get the code and env of all functions.
        if self.rpc_listen.startswith("unix:") or self.rpc_secret or self.tls_dir:
            return
        if self.ways:
            raise ValueError(
                f"--rpc-listen: whoever reaches {self.rpc_listen}, functions on this machine too, would "
                f"count as a service and get every secret, whatever --auth {self.auth} asks of people; "
                "give all services the same SANFRAN_RPC_SECRET, or --tls-dir, or try --rpc-listen "
                "unix:/run/sanfran/api.sock"
            )
        host, _ = split_host_port(self.rpc_listen)
        if not is_loopback(host):
            raise ValueError(
                f"--rpc-listen: {self.rpc_listen!r} can be reached from other machines, and services "
                "prove nothing; try --tls-dir, --rpc-secret, or --rpc-listen 127.0.0.1:8091"
            )

    def _check_jwt(self) -> None:
        if not (self.jwt_secret_file or self.jwt_jwks):
            raise ValueError("--auth: jwt needs --jwt-jwks FILE|URL or --jwt-secret-file FILE")
        for flag, value in (("issuer", self.jwt_issuer), ("audience", self.jwt_audience)):
            if not value:
                raise ValueError(
                    f"--jwt-{flag}: missing; without it a token for anything else would do, try "
                    + ("https://login.example.org" if flag == "issuer" else "sanfran")
                )
        parts = urlsplit(self.jwt_jwks)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                f"--jwt-jwks: {self.jwt_jwks!r} is not encrypted, so anybody on the way could give "
                "other keys; try https://"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
