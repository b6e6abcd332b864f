"""login, logout and servers."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

import click

from sanfran_cli import output as show
from sanfran_cli.client import Caller, Client, Credentials, Login, Server, Token, is_local, is_url
from sanfran_cli.commands.options import OUTPUT
from sanfran_cli.errors import Refused
from sanfran_cli.servers import NAME, Servers, changing_servers, read_servers, write_servers


@click.command("login")
@click.argument("name", required=False)
@click.option(
    "--server", metavar="URL", help="The api service; not needed for a name that is known."
)
@click.option("--user", metavar="NAME", help="Who you are there; asked for unless given.")
@click.option("--token-stdin", is_flag=True, help="Log in with a token, read from standard input.")
def login_command(
    name: str | None, server: str | None, user: str | None, token_stdin: bool
) -> None:
    """Log in to a server, and use it from now on under NAME (its host, unless given).

    The password is asked for, or read from standard input when that is no terminal.
    """
    if token_stdin and user:
        raise click.UsageError("a token says who you are: leave out --user")
    url = _url(name, server)
    name = name or urlsplit(url).hostname or "server"
    if NAME.fullmatch(name) is None:
        raise click.BadParameter(f"{name!r} is no name; letters, digits, . _ and - work")
    if not url.startswith("https:") and not is_local(url):
        click.echo(
            f"{url} is not encrypted: whoever is on the way can read the password.", err=True
        )
    open_to_all = not user and not token_stdin and _asks_nobody(url)
    credentials = None if open_to_all else _credentials(user, token_stdin=token_stdin)
    logged_in = Server(url, credentials)
    caller = asyncio.run(_caller(logged_in))
    with changing_servers() as path:
        write_servers(path, read_servers().with_server(name, logged_in))
    if caller.get("user"):
        groups = ", ".join(caller["groups"]) or "no groups"
        click.echo(f"{name}: logged in as {caller['user']} ({groups})")
    else:
        click.echo(f"{name}: asks nobody who they are")


@click.command("logout")
@click.argument("name", required=False)
def logout_command(name: str | None) -> None:
    """Forget the server NAME (the one in use, unless given), and its password or token."""
    with changing_servers() as path:
        servers = read_servers()
        name = name or servers.current
        if not name:
            raise Refused("no server is in use; `sanfran servers` shows those that are known")
        _known(servers, name)
        write_servers(path, servers.without(name))
    click.echo(f"{name} is forgotten")


@click.command("servers")
@click.argument("name", required=False)
@OUTPUT
def servers_command(name: str | None, output: str) -> None:
    """Show the servers that you logged in to; with NAME, use that one from now on."""
    if name:
        with changing_servers() as path:
            servers = read_servers()
            _known(servers, name)
            write_servers(path, servers.using(name))
    servers = read_servers()
    rows = [
        {"name": key, "url": one.url, "login": _login(one), "current": key == servers.current}
        for key, one in servers.by_name.items()
    ]
    if output == "json":
        show.print_json(rows)
    elif rows:
        width = max(len(str(row["name"])) for row in rows)
        for row in rows:
            mark = "*" if row["current"] else " "
            click.echo(f"{mark} {row['name']:<{width}}  {row['url']}  {row['login']}")
    else:
        click.echo("No servers yet; `sanfran login --server URL` logs in to one.")


def _login(server: Server) -> str:
    match server.credentials:
        case Login(user, _):
            return user
        case Token():
            return "token"
    return ""


def _known(servers: Servers, name: str) -> None:
    if name not in servers.by_name:
        known = ", ".join(servers.by_name) or "none yet"
        raise Refused(f"{name!r} is no server that you logged in to: {known}")


def _url(name: str | None, server: str | None) -> str:
    if server is None:
        known = read_servers().by_name.get(name or "")
        if known is None:
            raise click.UsageError("--server URL is missing, such as https://sanfran.example.org")
        return known.url
    if not is_url(server):
        raise click.BadParameter(f"{server!r} is no URL; try https://sanfran.example.org")
    if urlsplit(server).username is not None:
        raise click.BadParameter(
            "a URL with a password in it; use --user, the password is asked for"
        )
    return server.rstrip("/")


def _credentials(user: str | None, *, token_stdin: bool) -> Credentials:
    if token_stdin:
        return Token(_line("token"))
    if user is None:
        if not sys.stdin.isatty():
            raise click.UsageError("--user NAME is missing")
        user = click.prompt("User", err=True)
    if sys.stdin.isatty():
        return Login(user, click.prompt("Password", hide_input=True, err=True))
    return Login(user, _line("password"))


def _line(what: str) -> str:
    line = sys.stdin.readline().strip("\r\n")
    if not line:
        raise click.UsageError(f"no {what} on standard input")
    return line


def _asks_nobody(url: str) -> bool:
    async def ask() -> bool:
        from sanfran_cli.errors import Unauthenticated

        try:
            return not (await _caller(Server(url)))["user"]
        except Unauthenticated:
            return False

    return asyncio.run(ask())


async def _caller(server: Server) -> Caller:
    async with Client(server) as client:
        return await client.me()
