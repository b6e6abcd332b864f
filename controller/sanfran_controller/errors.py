"""Why a function cannot be activated. `service` translates these to gRPC statuses, nobody else."""

from __future__ import annotations


class ActivationError(Exception):
    """A function cannot be served now; the text says why, for people."""


class FunctionNotFound(ActivationError):
    """There is no such function."""


class LoadFailed(ActivationError):
    """The function's own code does not load. `detail` is its message and stack."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class NoCapacity(ActivationError):
    """No pod could be had in time, or too many claims wait already."""


class Barren(NoCapacity):
    """This controller has no pod and can get none; another one may have some."""


class Unavailable(ActivationError):
    """Pods or the api service cannot be reached; another controller may fare better."""
