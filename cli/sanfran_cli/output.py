"""What commands print: tables and lines for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

if TYPE_CHECKING:
    from sanfran_cli.client import Function, LogLine, Pools, ServiceInfo, Status

_LEVEL_COLOURS = {"error": "red", "warning": "yellow", "debug": "bright_black"}


def print_json(value: object) -> None:
    """One JSON document, indented."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """One JSON document on one line, for a stream of them."""
    click.echo(json.dumps(value, ensure_ascii=False))


def function_url(function: Mapping[str, Any] | str, info: ServiceInfo) -> str:
    """Where a function answers; empty when the service does not know its public URL."""
    if not isinstance(function, str):
        if url := function.get("url"):
            return str(url)
        function = str(function["name"])
    base = info.get("public_url") or ""
    return f"{base.rstrip('/')}/fn/{quote(function, safe='')}" if base else ""


def print_live(function: Function, info: ServiceInfo) -> None:
    """That a function was made or changed, and its URL."""
    click.echo(f"{function['name']} is live, version {function['version']}")
    if url := function_url(function, info):
        click.echo(url)
    if not function.get("applied", True):
        click.echo("Not every controller knows it yet; it will follow in a moment.", err=True)


def print_function(function: Function, url: str) -> None:
    """A function's facts, one a line."""
    rows: list[tuple[str, str]] = []
    for name, value in {**function, "url": url}.items():
        if isinstance(value, dict):
            rows += [(f"{name}.{key}", _shown(one)) for key, one in value.items()]
        else:
            rows.append((name, _shown(value)))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        # What has lines of its own (a stack) stands below its name.
        text = text.replace("\n", "\n" + " " * (width + 2))
        click.echo(f"{name:<{width}}  {text}".rstrip())


def print_functions(functions: Sequence[Function], info: ServiceInfo) -> None:
    """A table of functions, or how to make a first one."""
    if not functions:
        click.echo("No functions yet. Make one: sanfran create hello hello.js", err=True)
        return
    rows = [
        (
            one["name"],
            str(one["version"]),
            local_time(one.get("created_at", "")),
            *_activity(one.get("status")),
            function_url(one, info),
        )
        for one in functions
    ]
    heads = ("NAME", "VERSION", "UPDATED", "PODS", "IN FLIGHT", "CALLS", "LAST COLD START", "URL")
    print_table(heads, rows)


def print_versions(versions: Sequence[Function]) -> None:
    """A table of a function's versions."""
    rows = [
        (
            f"{one['version']}{'' if number else ' (current)'}",
            local_time(one["created_at"]),
            one["created_by"] or "-",
            one["digest"][:12],
            one["note"],
        )
        for number, one in enumerate(versions)
    ]
    print_table(("VERSION", "MADE", "BY", "CODE", "NOTE"), rows)


def _activity(status: Status | None) -> tuple[str, str, str, str]:
    """Pods, requests in flight, calls, last cold start."""
    if status is None:
        return "-", "-", "-", "-"
    versions = Counter(pod["version"] for pod in status["pods"])
    pods = str(versions.total())
    if len(versions) > 1:  # an update is under way
        pods += " (" + ", ".join(f"{versions[one]} v{one}" for one in sorted(versions)) + ")"
    cold = status.get("last_cold_start")
    shown = f"{local_time(cold)}, {status['last_cold_start_ms']:.0f} ms" if cold else "-"
    return pods, str(status["in_flight"]), str(status["calls"]), shown


def print_pools(pools: Pools) -> None:
    """Each controller's pool: what there is, what is wanted, and the latest decisions."""
    for number, pool in enumerate(pools["controllers"]):
        if number:
            click.echo()
        click.echo(click.style(f"{pool['controller']} at {pool['address']}", bold=True))
        overdue = f" ({pool['overdue']} overdue)" if pool["overdue"] else ""
        click.echo(
            f"  generic   {pool['ready']} ready, {pool['starting']} starting{overdue}, "
            f"{pool['returning']} returning; {pool['waiting']} claims wait"
        )
        click.echo(
            f"  target    {pool['target']}, from {pool['size']} to {pool['most']}: "
            f"{pool['claims_per_second']:g} claims/s, a pod starts in {pool['start_seconds']:.2g} s"
        )
        states = ", ".join(f"{count} {state}" for state, count in pool["pods"].items() if count)
        total = sum(pool["pods"].values())
        click.echo(f"  pods      {total} of {pool['max_pods']}: {states or 'none'}")
        click.echo(f"  functions {pool['functions']} with pods")
        if pool["decisions"]:
            click.echo()
            rows = [
                (
                    "  " + local_time(one["time"]),
                    f"{one['kind']} {one['pods']}",
                    one["function"] or "-",
                    one["reason"],
                    one["why"],
                    one["facts"],
                )
                for one in pool["decisions"]
            ]
            print_table(("  TIME", "DECISION", "FUNCTION", "REASON", "WHY", "FACTS"), rows)
    for address in pools["silent"]:
        click.echo(f"The controller at {address} does not answer.", err=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    table = [heads, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if code != ord("\t")}
"""What a terminal would obey instead of show; a function's output may be anything."""


def print_log_line(line: LogLine) -> None:
    """Time, level, pod, version, request and text; coloured on a terminal."""
    level = str(line.get("level", "info"))
    pod = f"{line.get('pod', '')} v{line.get('version', '?')}"
    request = line.get("request_id") or "-"
    head = f"{local_time(line.get('time', ''))}  {level:<7}  {pod}  {request}  "
    text = str(line["text"]).translate(_CONTROLS)
    click.echo(click.style(head, dim=True) + click.style(text, fg=_LEVEL_COLOURS.get(level)))


def local_time(stamp: str) -> str:
    """An ISO 8601 time as this machine's clock shows it; anything else as it stands."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return stamp


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key}={one}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return "\n".join(map(_shown, value)) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value not in (None, "") else "-"
