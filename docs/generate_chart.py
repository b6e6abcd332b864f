"""Writes what follows from the chart's values.yaml and from the services' settings. Run it with `make docs`.

- The table of values in the chart's README.md, from the comments in values.yaml: the comment right above a value
  is its description, and holds for all that is in it.
- In values.schema.json, the settings that each service takes, with their types, from the declarations.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from sanfran_api.config import ApiConfig
from sanfran_common.config import ServiceConfig
from sanfran_controller.config import ControllerConfig
from sanfran_router.config import RouterConfig
from sanfran_sidecar.settings import SidecarConfig

CHART = Path(__file__).parents[1] / "helm-chart/sanfran"
VALUES = CHART / "values.yaml"
README = CHART / "README.md"
SCHEMA = CHART / "values.schema.json"
BEGIN, END = "<!-- values: made by `make docs` -->", "<!-- end of values -->"

SERVICES: dict[str, type[ServiceConfig]] = {
    "router": RouterConfig,
    "controller": ControllerConfig,
    "api": ApiConfig,
    "sidecar": SidecarConfig,
}
TYPES = {bool: "boolean", int: "integer", float: "number"}
LINE = re.compile(r"^(?P<indent> *)(?:# ?(?P<comment>.*)|(?P<key>[A-Za-z]\w*):(?: .*)?)$")


class Value(NamedTuple):
    """A documented value."""

    path: str
    default: Any
    description: str


def documented() -> list[Value]:
    """Every value with a comment of its own, in the order of the file."""
    values = yaml.safe_load(VALUES.read_text())
    found: list[Value] = []
    keys: list[str] = []
    comment: list[str] = []
    for line in VALUES.read_text().splitlines():
        match = LINE.match(line)
        if match is None or line == "":
            comment = []
            continue
        if match["comment"] is not None:
            comment.append(match["comment"])
            continue
        keys = [*keys[: len(match["indent"]) // 2], match["key"]]
        if comment:
            default = values
            for key in keys:
                default = default[key]
            found.append(Value(".".join(keys), default, " ".join(comment)))
        comment = []
    return found


def table() -> str:
    """One table for each part of the values."""
    sections: dict[str, list[str]] = {}
    for value in documented():
        part = value.path.partition(".")[0] if "." in value.path else "the release"
        description = value.description.replace("|", "\\|")
        sections.setdefault(part, []).append(
            f"| `{value.path}` | {shown(value.default)} | {description} |"
        )
    head = "| value | default | |\n| --- | --- | --- |\n"
    return "\n".join(
        f"### {part}\n\n{head}" + "\n".join(rows) + "\n" for part, rows in sections.items()
    )


def shown(default: Any) -> str:
    """A default as one would write it in YAML."""
    if default == "":
        return "none"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def page() -> str:
    """The README with a new table."""
    before, _, rest = README.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}"


def fixed(templates: Path, service: str) -> set[str]:
    """Settings that the chart's templates set themselves."""
    text = "".join(file.read_text() for file in templates.rglob("*") if file.is_file())
    named = re.findall(rf"SANFRAN_{service.upper()}_([A-Z_]+)", text)
    return {name.lower().replace("_", "-") for name in named} | {
        "admin", "log-format", "log-level", "tls-dir", "rpc-secret", "exit-with-stdin",
    }  # fmt: skip


def settings(service: str) -> dict[str, Any]:
    """Schema of the settings of a service that its chart's user may set."""
    taken = fixed(CHART / "templates", service)
    properties = {}
    for field in dataclasses.fields(SERVICES[service]):
        name = field.name.replace("_", "-")
        if name not in taken:
            properties[name] = {
                "type": TYPES.get(type(field.default), "string"),
                "description": field.metadata["help"],
            }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema() -> str:
    """The schema with new settings."""
    read = json.loads(SCHEMA.read_text())
    for service in SERVICES:
        read["definitions"][f"{service}Settings"] = settings(service)
    return json.dumps(read, indent=2) + "\n"


if __name__ == "__main__":
    README.write_text(page())
    SCHEMA.write_text(schema())
