"""Writes docs/settings.md from the services' own declarations. Run it with `make docs`."""

import dataclasses
from pathlib import Path
from typing import Any

from sanfran_api.config import ApiConfig
from sanfran_common.config import ServiceConfig
from sanfran_controller.config import ControllerConfig
from sanfran_router.config import RouterConfig
from sanfran_sidecar.settings import PodHostConfig, SidecarConfig

PAGE = Path(__file__).with_name("settings.md")
INTRODUCTION = """\
# Settings

Every service takes its settings from flags, then from environment variables, then from defaults; `--help` prints
them. A bad value ends the service with exit code 2 and a line that names the setting, the value and one that
works. Durations are in seconds, sizes in bytes, unless a name says otherwise. The settings of
`sanfran up` and of the other commands are in [cli.md](cli.md).

This page is generated from the code by `make docs`.
"""
SERVICES: list[tuple[str, str, type[ServiceConfig]]] = [
    ("sanfran-router", "SANFRAN_ROUTER", RouterConfig),
    ("sanfran-controller", "SANFRAN_CONTROLLER", ControllerConfig),
    ("sanfran-api", "SANFRAN_API", ApiConfig),
    ("sanfran-pod-host", "SANFRAN_POD_HOST", PodHostConfig),
    ("sanfran-sidecar", "SANFRAN_SIDECAR", SidecarConfig),
]


def page() -> str:
    """The whole page."""
    common = {field.name for field in dataclasses.fields(ServiceConfig)}
    sections = [
        INTRODUCTION,
        "## Every service\n",
        table("SANFRAN_<SERVICE>", ServiceConfig, set()),
    ]
    sections.append(
        "`SANFRAN_LOG_FORMAT`, `SANFRAN_LOG_LEVEL`, `SANFRAN_RPC_SECRET` and `SANFRAN_TLS_DIR` hold "
        "for every service\nthat has no variable of its own for it. `SANFRAN_<SERVICE>` stands for the "
        "prefixes below.\n"
    )
    for name, prefix, config in SERVICES:
        sections += [f"## {name}\n", table(prefix, config, common)]
    return "\n".join(sections)


def table(prefix: str, config: type[ServiceConfig], without: set[str]) -> str:
    """One row for each setting."""
    rows = ["| flag | variable | default | |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(config):
        if field.name in without:
            continue
        flag = "--" + field.name.replace("_", "-")
        rows.append(
            f"| `{flag}` | `{prefix}_{field.name.upper()}` | {shown(field.default)} "
            f"| {field.metadata['help']} |"
        )
    return "\n".join(rows) + "\n"


def shown(default: Any) -> str:
    """A default as one would write it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default}`" if str(default) else "none"


if __name__ == "__main__":
    PAGE.write_text(page())
