"""Reads `sanfran.yaml`. Values are read from the file's own text, not from what YAML makes of it: a variable
`VERSION: 1.10` is the text 1.10, and `${NAME}` is replaced where a value stands, not before.

Every error names the file, the line, the field, and what would work; no value of a variable or secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from sanfran_cli.errors import Refused
from sanfran_cli.project.fields import CODE, FIELDS, SETTINGS, Kind
from sanfran_cli.settings import Settings, parse_env_file, parse_size

TOP = ("functions", "defaults")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"\$(\$)?\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A function as the file has it.

    Args:
        path: of its code; exists.
        settings: those that the file names, `secrets` with their values.
        lines: where each field stands, for errors that a service finds.
    """

    name: str
    path: Path
    build: bool
    settings: Settings
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Project:
    """The functions of a file, in its order."""

    file: Path
    functions: tuple[Wanted, ...]


def read_project(file: Path, environ: Mapping[str, str]) -> Project:
    """Reads the file and what it refers to.

    Args:
        environ: for `${NAME}`.

    Raises:
        Refused: says where and what is wrong.
    """
    return _Reader(file, environ).read()


class _Reader:
    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self._file = file
        self._environ = environ
        self._loader: Any = None

    def read(self) -> Project:
        try:
            text = self._file.read_text("utf-8")
        except OSError as error:
            raise Refused(
                f"{self._file}: {error.strerror}; `sanfran init NAME` writes a first one"
            ) from None
        except UnicodeDecodeError as error:
            raise Refused(f"{self._file}: not UTF-8 ({error.reason})") from None
        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            at = f":{mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or str(error)
            raise Refused(f"{self._file}{at}: not YAML: {problem}") from None
        if root is None:
            raise Refused(f"{self._file}: empty; `functions:` names what to deploy")
        top = self._mapping(root, "")
        self._known(top, TOP, "")
        if "functions" not in top:
            raise self._wrong(root, "functions", "missing; it names what to deploy")
        defaults: Mapping[str, yaml.Node] = {}
        if "defaults" in top:
            defaults = self._mapping(top["defaults"], "defaults")
            self._known(defaults, SETTINGS, "defaults")
        functions = self._mapping(top["functions"], "functions")
        if not functions:
            raise self._wrong(root, "functions", "names no function")
        return Project(
            self._file,
            tuple(self._function(name, node, defaults) for name, node in functions.items()),
        )

    def _function(self, name: str, node: yaml.Node, defaults: Mapping[str, yaml.Node]) -> Wanted:
        where = f"functions.{name}"
        if not NAME.fullmatch(name):
            raise self._wrong(
                node, where, "no name for a function; a-z, 0-9 and - inside work, at most 63"
            )
        meant = node.value if isinstance(node, yaml.ScalarNode) else "…"
        fields = self._mapping(node, where, example=f"path: {meant}")
        self._known(fields, FIELDS, where)
        if "path" not in fields:
            raise self._wrong(node, f"{where}.path", f"missing; {Kind.PATH.value}")
        path = self._file.parent / self._text(fields["path"], f"{where}.path", Kind.PATH)
        if not path.exists():
            raise self._wrong(fields["path"], f"{where}.path", f"there is no {path}")
        build = "build" not in fields or self._boolean(fields["build"], f"{where}.build")
        settings: dict[str, Any] = {}
        for prefix, nodes in (("defaults", defaults), (where, fields)):
            own = {name: one for name, one in nodes.items() if name not in CODE}
            # Variables, secrets and labels add up; what a function says itself wins.
            for field, value in self._settings(own, prefix).items():
                former = settings.get(field)
                settings[field] = {**former, **value} if isinstance(former, dict) else value
        lines = {name: one.start_mark.line + 1 for name, one in {**defaults, **fields}.items()}
        return Wanted(name, path, build, cast("Settings", settings), lines)

    def _settings(self, nodes: Mapping[str, yaml.Node], where: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field, node in nodes.items():
            at = f"{where}.{field}"
            read = _READ[FIELDS[field].kind]
            if field == "env_file":
                found["env"] = {**read(self, node, at), **found.get("env", {})}
            elif field == "env":
                found["env"] = {**found.get("env", {}), **read(self, node, at)}
            else:
                found[field] = read(self, node, at)
        return found

    # One for each kind of value

    def _boolean(self, node: yaml.Node, where: str) -> bool:
        text = self._text(node, where, Kind.BOOLEAN).lower()
        if text not in ("true", "false"):
            raise self._wrong(node, where, f"{text!r} is not accepted; {Kind.BOOLEAN.value}")
        return text == "true"

    def _number(self, node: yaml.Node, where: str) -> float:
        text = self._text(node, where, Kind.NUMBER)
        try:
            return float(text)
        except ValueError:
            problem = f"{text!r} is not accepted; {Kind.NUMBER.value}"
            raise self._wrong(node, where, problem) from None

    def _whole(self, node: yaml.Node, where: str) -> int:
        text = self._text(node, where, Kind.WHOLE)
        if not re.fullmatch(r"-?[0-9]+", text):
            raise self._wrong(node, where, f"{text!r} is not accepted; {Kind.WHOLE.value}")
        return int(text)

    def _size(self, node: yaml.Node, where: str) -> int:
        try:
            return parse_size(self._text(node, where, Kind.SIZE))
        except ValueError as error:
            raise self._wrong(node, where, str(error)) from None

    def _word(self, node: yaml.Node, where: str) -> str:
        return self._text(node, where, Kind.WORD)

    def _texts(self, node: yaml.Node, where: str) -> dict[str, str]:
        pairs = self._mapping(node, where)
        return {name: self._text(one, f"{where}.{name}", Kind.TEXTS) for name, one in pairs.items()}

    def _values(self, node: yaml.Node, where: str) -> dict[str, str]:
        pairs = self._mapping(node, where)
        return {name: self._value(one, f"{where}.{name}") for name, one in pairs.items()}

    def _value(self, node: yaml.Node, where: str) -> str:
        if isinstance(node, yaml.MappingNode):
            given = self._mapping(node, where)
            self._known(given, ("file",), where)
            path = self._path(given.get("file", node), f"{where}.file")
            # Editors end a file with a line end; no key has one.
            return self._content(path, node, where).removesuffix("\n").removesuffix("\r")
        return self._filled(node, where)

    def _filled(self, node: yaml.Node, where: str) -> str:
        """The text with every `${NAME}` replaced; `$${NAME}` stands for the text `${NAME}`."""

        def fill(found: re.Match[str]) -> str:
            name = found[2]
            if found[1]:
                return f"${{{name}}}"
            if not _VARIABLE_NAME.fullmatch(name):
                raise self._wrong(
                    node, where, f"${{{name}}} names no variable; ${{NAME}} works, and $${{ is ${{"
                )
            if name not in self._environ:
                raise self._wrong(
                    node, where, f"the variable {name} is not set; try `export {name}=…`"
                )
            return self._environ[name]

        return _VARIABLE.sub(fill, self._text(node, where, Kind.VALUES))

    def _env_files(self, node: yaml.Node, where: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            path = self._path(one, where)
            try:
                found.update(parse_env_file(self._content(path, one, where)))
            except ValueError as error:
                raise self._wrong(one, where, f"{path}: {error}") from None
        return found

    def _path(self, node: yaml.Node, where: str) -> Path:
        return self._file.parent / self._text(node, where, Kind.PATHS)

    def _content(self, path: Path, node: yaml.Node, where: str) -> str:
        try:
            return path.read_text("utf-8")
        except OSError as error:
            raise self._wrong(node, where, f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self._wrong(node, where, f"{path}: not UTF-8") from None

    # What YAML gives

    def _text(self, node: yaml.Node, where: str, kind: Kind) -> str:
        empty = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")
        if not isinstance(node, yaml.ScalarNode) or empty:
            raise self._wrong(node, where, kind.value)
        return str(node.value)

    def _mapping(
        self, node: yaml.Node, where: str, *, example: str = "name: …"
    ) -> dict[str, yaml.Node]:
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(
                node, where or "the file", f"has to be names with values, `{example}`"
            )
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise self._wrong(key, f"{where}.{key.value}".lstrip("."), "is there twice")
            seen.add(str(key.value))
        self._loader.flatten_mapping(node)  # `<<` takes over another one's
        return {str(key.value): value for key, value in node.value}

    def _known(self, given: Mapping[str, yaml.Node], known: Any, where: str) -> None:
        for name, node in given.items():
            if name not in known:
                at = f"{where}.{name}".lstrip(".")
                raise self._wrong(node, at, f"unknown; there is {', '.join(known)}")

    def _wrong(self, node: yaml.Node, where: str, problem: str) -> Refused:
        return Refused(f"{self._file}:{node.start_mark.line + 1}: {where}: {problem}")


_READ: Mapping[Kind, Callable[[_Reader, yaml.Node, str], Any]] = {
    Kind.NUMBER: _Reader._number,
    Kind.WHOLE: _Reader._whole,
    Kind.SIZE: _Reader._size,
    Kind.WORD: _Reader._word,
    Kind.TEXTS: _Reader._texts,
    Kind.VALUES: _Reader._values,
    Kind.PATHS: _Reader._env_files,
}
