"""What a function's author may set: checked, merged and completed before it is stored.

REST speaks seconds and names fields as here; gRPC has the same in milliseconds
(`FunctionSettings` in types.proto), where zero stands for the default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import BadRequest
from sanfran_api.labels import MAX_LABELS, label_problem
from sanfran_api.names import shorten

MAX_ENV_BYTES = 64 * 1024
"""Names and values together, UTF-8. Every route change and activation carries them."""
MAX_SECONDS = 7 * 24 * 3600
MIN_MEMORY, MAX_MEMORY = 64, 1 << 20
"""Megabytes. A process that does nothing has about 25 that count."""
MAX_BODY = 1 << 40
"""Bytes."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

RESERVED_PREFIX = "SANFRAN_"
RESERVED = {"NODE_OPTIONS": "Node reads it at its start, before a function's settings reach it"}

Env = Annotated[
    dict[str, str],
    Field(
        description=f"Environment variables; together at most {MAX_ENV_BYTES} bytes. Not for "
        f"secrets: they are shown to whoever may read the function. Names begin with a letter "
        f"or _, and not with {RESERVED_PREFIX}; NODE_OPTIONS is refused.",
        examples=[{"GREETING": "Hello"}],
    ),
]


Secrets = Annotated[
    dict[str, str],
    Field(
        description="More of the environment, whose values are stored encrypted and never shown. Names "
        "as in env, and none that is there. In an update each stays that is not named; null removes one.",
        examples=[{"API_KEY": "s3cr3t"}],
    ),
]


class OpenSettings(BaseModel):
    """A function's settings but its secrets."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    env: Env = Field(default_factory=dict)
    timeout: float = Field(
        default=60.0,
        ge=0.001,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="Seconds for one request, from its head to the last byte of the answer.",
        examples=[60],
    )
    concurrency: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Requests that one pod runs at once.",
        examples=[100],
    )
    min_scale: int = Field(
        default=0, ge=0, le=1000, description="Pods that stay active without traffic.", examples=[0]
    )
    max_scale: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Pods at most; 0: only the engine's limit.",
        examples=[10],
    )
    idle_timeout: float = Field(
        default=0.0,
        ge=0,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="Seconds without traffic until a pod is recycled; 0: the engine's setting.",
        examples=[60],
    )
    memory: int = Field(
        default=512,
        ge=MIN_MEMORY,
        le=MAX_MEMORY,
        description="Megabytes of a pod's process and those it starts; one that has more is ended.",
        examples=[512],
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        description=f"To find functions by: keys and values as Kubernetes has them, at most {MAX_LABELS}.",
        examples=[{"team": "payments"}],
    )
    body_limit: int = Field(
        default=0,
        ge=0,
        le=MAX_BODY,
        description="Bytes of a request's body; a longer one gets 413. 0: the router's limit, which "
        "holds beside this one.",
        examples=[10_485_760],
    )
    invoke: Literal["public", "private"] = Field(
        default="public",
        description="Who may call it: anybody, or only those who have the privilege to.",
        examples=["private"],
    )

    @field_validator("env")
    @classmethod
    def _check_env(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if problem := _env_problem(name, value):
                raise ValueError(problem)
        size = sum(len(name) + len(value.encode()) for name, value in env.items())
        if size > MAX_ENV_BYTES:
            raise ValueError(f"{size} bytes of names and values, {MAX_ENV_BYTES} are allowed")
        return env

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            if problem := label_problem(key, value):
                raise ValueError(problem)
        if len(labels) > MAX_LABELS:
            raise ValueError(f"{len(labels)} labels, {MAX_LABELS} are allowed")
        return labels

    @field_validator("idle_timeout")
    @classmethod
    def _check_idle_timeout(cls, seconds: float) -> float:
        # Stored in whole milliseconds, where 0 would mean the engine's setting.
        if 0 < seconds < 0.001:
            raise ValueError(f"{seconds:g} is not accepted; {FIELDS['idle_timeout']}")
        return seconds

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.max_scale and self.min_scale > self.max_scale:
            raise ValueError(
                f"min_scale: {self.min_scale} is more than max_scale, {self.max_scale}; "
                "lower it, or set max_scale to 0 for no limit"
            )
        return self


class Settings(OpenSettings):
    """A function's settings, complete. A secret that is stored has an empty value."""

    secrets: Secrets = Field(default_factory=dict, repr=False)

    @field_validator("secrets")
    @classmethod
    def _check_secrets(cls, secrets: dict[str, str]) -> dict[str, str]:
        for name, value in secrets.items():
            if problem := _env_problem(name, value):
                raise ValueError(problem)
        return secrets

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.secrets.keys() & self.env.keys():
            raise ValueError(
                f"secrets: {shorten(name)!r} is in env, too; take it out of one of them"
            )
        return self


class ShownSettings(OpenSettings):
    """A function's settings as people see them."""

    secrets: list[str] = Field(
        default_factory=list,
        description="Names of the secrets. Their values are never shown.",
        examples=[["API_KEY"]],
    )


FIELDS: Mapping[str, str] = {
    "env": 'an object of strings works, such as {"GREETING": "Hello"}',
    "secrets": 'an object of strings works, and null for one to remove, such as {"API_KEY": "s3cr3t"}',
    "timeout": f"seconds from 0.001 to {MAX_SECONDS} work, such as 60",
    "concurrency": "a whole number from 1 to 10000 works, such as 100",
    "min_scale": "a whole number from 0 to 1000 works, such as 0",
    "max_scale": "a whole number from 0 (no limit) to 10000 works, such as 10",
    "idle_timeout": f"0 (the engine's setting) and seconds from 0.001 to {MAX_SECONDS} work, such as 60",
    "memory": f"megabytes, a whole number from {MIN_MEMORY} to {MAX_MEMORY}, work, such as 512",
    "labels": 'an object of strings works, such as {"team": "payments"}',
    "body_limit": f"bytes, a whole number from 0 (the router's limit) to {MAX_BODY}, work, such as 10485760",
    "invoke": '"public" and "private" work',
}
"""Every field, and what its errors say would work."""


def _default(field: FieldInfo) -> Callable[[], Any]:
    value = field.default
    return cast("Callable[[], Any] | None", field.default_factory) or (lambda: value)


_DEFAULTS = {name: _default(field) for name, field in Settings.model_fields.items()}


def _env_problem(name: str, value: str) -> str | None:
    shown = repr(shorten(name))
    if not _VARIABLE.fullmatch(name):
        return f"{shown} is no variable name; letters, digits and _ work, such as API_URL"
    if name.startswith(RESERVED_PREFIX):
        return f"{shown} is reserved: the engine's own variables begin with {RESERVED_PREFIX}"
    if name in RESERVED:
        return f"{shown} is reserved: {RESERVED[name]}"
    if "\0" in value:
        return f"the value of {shown} has a NUL character, which no environment can hold"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"the value of {shown} is not UTF-8; text works, and base64 for anything else"
    return None


def revise(current: Settings, given: Mapping[str, object]) -> Settings:
    """Replaces the fields that are given, each as a whole; None restores a default. Of secrets only
    those that are named.

    Raises:
        BadRequest: a field is unknown or its value is not accepted; names it and what would work.
    """
    for field in given:
        if field not in FIELDS:
            raise _refuse(shorten(field), f"unknown; the settings are {', '.join(FIELDS)}")
    values: dict[str, object] = {**current.model_dump(), **given}
    secrets = given.get("secrets")
    if isinstance(secrets, Mapping):
        values["secrets"] = _merge(current.secrets, secrets)
    try:
        return Settings.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise _explain(error) from None


def _merge(current: Mapping[str, str], given: Mapping[object, object]) -> dict[object, object]:
    for name, value in given.items():
        if value == "":
            shown = repr(shorten(str(name)))
            raise _refuse("secrets", f"the value of {shown} is empty; null removes a secret")
    merged: dict[object, object] = {}
    merged.update(current)
    merged.update(given)
    return {name: value for name, value in merged.items() if value is not None}


def parse_settings(text: str | bytes) -> Mapping[str, object]:
    """Reads the JSON object that REST clients send; `revise` judges its fields.

    Raises:
        BadRequest: it is no JSON object.
    """
    try:
        given = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f'settings: not JSON ({shorten(str(error))}); try {{"timeout": 30}}', field="settings"
        ) from None
    if not isinstance(given, dict):
        raise BadRequest(
            'settings: not a JSON object; try {"timeout": 30}',
            field="settings",
        )
    return given


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} is there twice")
        found[key] = value
    return found


def _explain(error: ValidationError) -> BadRequest:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        problem = str(first["ctx"]["error"])
        return _refuse(problem.partition(":")[0], problem.partition(": ")[2])
    field = str(first["loc"][0])
    if first["type"] == "value_error":
        return _refuse(field, str(first["ctx"]["error"]))
    if len(first["loc"]) > 1:  # one entry of a map, whose value may be nobody's business
        name = shorten(str(first["loc"][1]))
        return _refuse(field, f"the value of {name!r} is not a string; {FIELDS[field]}")
    if field == "secrets":  # whatever it is, it may be a secret
        return _refuse(field, FIELDS[field])
    return _refuse(field, f"{shorten(repr(first['input']))} is not accepted; {FIELDS[field]}")


def _refuse(field: str, problem: str) -> BadRequest:
    return BadRequest(f"settings.{field}: {problem}", field=f"settings.{field}")


_INVOKE = {pb.Invoke.PUBLIC: None, pb.Invoke.PRIVATE: "private"}


def from_message(message: pb.FunctionSettings) -> dict[str, object]:
    """What a gRPC client gave, as `revise` takes it: every field, None where it is zero."""
    return {
        "env": dict(message.env) or None,
        "secrets": dict(message.secrets) or None,
        "timeout": message.timeout_ms / 1000 or None,
        "concurrency": message.concurrency or None,
        "min_scale": message.min_scale or None,
        "max_scale": message.max_scale or None,
        "idle_timeout": message.idle_timeout_ms / 1000 or None,
        "memory": message.memory_mb or None,
        "labels": dict(message.labels) or None,
        "body_limit": message.body_limit or None,
        "invoke": _INVOKE.get(message.invoke, str(int(message.invoke))),
    }


def to_message(settings: Settings) -> pb.FunctionSettings:
    """As it is stored and sent to other services."""
    return pb.FunctionSettings(
        env=dict(sorted(settings.env.items())),
        secrets=dict(sorted(settings.secrets.items())),
        timeout_ms=round(settings.timeout * 1000),
        concurrency=settings.concurrency,
        min_scale=settings.min_scale,
        max_scale=settings.max_scale,
        idle_timeout_ms=round(settings.idle_timeout * 1000),
        memory_mb=settings.memory,
        labels=dict(sorted(settings.labels.items())),
        body_limit=settings.body_limit,
        invoke=pb.Invoke.PRIVATE if settings.invoke == "private" else pb.Invoke.PUBLIC,
    )


def labels_of(version: pb.FunctionVersion) -> Mapping[str, str]:
    """The labels of a version."""
    return version.settings.labels if version.settings is not None else {}


def stored(message: pb.FunctionSettings | None) -> Settings:
    """The opposite of `to_message`."""
    # Not judged again: a limit that was lowered later must not make old functions unreadable.
    return Settings.model_construct(**_complete(message))


def shown(message: pb.FunctionSettings | None) -> ShownSettings:
    """The same for people."""
    complete = _complete(message)
    complete["secrets"] = list(complete["secrets"])
    return ShownSettings.model_construct(**complete)


def _complete(message: pb.FunctionSettings | None) -> dict[str, Any]:
    """Every field: what is missing takes `model_construct` ten times as long to find."""
    # Not `or`: whether a message is true, betterproto2 takes longer to find than all the rest.
    given = from_message(message if message is not None else pb.FunctionSettings())
    return {field: _DEFAULTS[field]() if value is None else value for field, value in given.items()}
