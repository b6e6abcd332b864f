"""Secrets in messages: a version carries their values between services, and empty ones elsewhere."""

from __future__ import annotations

from dataclasses import replace

from sanfran_proto.sanfran import v1 as pb


def without_values(version: pb.FunctionVersion) -> pb.FunctionVersion:
    """The version with the names of its secrets only."""
    settings = version.settings
    if settings is None or not settings.secrets:
        return version
    return replace(version, settings=replace(settings, secrets=dict.fromkeys(settings.secrets, "")))


def lacks_values(version: pb.FunctionVersion) -> bool:
    """Whether values of its secrets were withheld."""
    settings = version.settings
    return settings is not None and not all(settings.secrets.values())


def environment(version: pb.FunctionVersion) -> dict[str, str]:
    """What the function finds in its environment."""
    settings = version.settings
    if settings is None:
        return {}
    secrets = {name: value for name, value in settings.secrets.items() if value}
    return {**settings.env, **secrets}
