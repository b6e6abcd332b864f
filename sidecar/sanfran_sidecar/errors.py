"""What may go wrong in a sidecar, by whose fault. `edge` translates these for gRPC, nobody else."""

from __future__ import annotations


class SidecarError(Exception):
    """Root of the sidecar's own errors; the text is for the caller."""


class BadRequest(SidecarError):
    """The caller's fault: the message itself makes no sense."""


class WrongState(SidecarError):
    """The pod is not where the caller thinks."""


class NameTaken(SidecarError):
    """A pod of this name belongs to another controller, or a controller of this name lives."""


class NotOwner(SidecarError):
    """The pod is not the caller's, or the caller does not live."""


class HostFull(SidecarError):
    """The host's limit on pods is reached."""


class Stopping(SidecarError):
    """The process is being stopped and takes no new work."""


class BundleUnavailable(SidecarError):
    """The bundle could not be fetched, verified or written. Another attempt may succeed."""


class BundleRefused(SidecarError):
    """The bundle is what the digest says and still unacceptable. No attempt will succeed."""


class NoAnswer(SidecarError):
    """The runtime lives but did not answer in time: a handler may hold its event loop."""


class StartFailed(SidecarError):
    """The Node process did not become ready."""


class PodGone(SidecarError):
    """The pod ended while the call ran."""
