"""Labels that say what pods run: in the end they are what was wanted last, whatever came between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from sanfran_controller.providers.kubernetes import labels as module
from sanfran_controller.providers.kubernetes.api import ApiError
from sanfran_controller.providers.kubernetes.facts import PodFacts
from sanfran_controller.providers.kubernetes.labels import Labels, PodTurns


@dataclass
class Server:
    """Keeps one pod's function, and fails as it is told."""

    function: str = ""
    writes: list[str] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    """Numbers of writes that are carried out, and whose answer does not come."""

    async def patch(self, kind: Any, name: str, change: dict[str, Any]) -> None:
        self.function = change["metadata"]["labels"]["sanfran.dev/function"] or ""
        self.writes.append(self.function)
        if len(self.writes) in self.lost:
            raise ApiError(0, "", "no answer")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOON", 0.01)
    monkeypatch.setattr(module, "AGAIN", 0.05)


def facts(function: str) -> PodFacts:
    """As the watch told last."""
    return PodFacts(
        **{
            **dict.fromkeys(PodFacts.__dataclass_fields__),  # type: ignore[arg-type]
            "name": "pod",
            "uid": "1",
            "function": function,
            "function_version": "1" if function else "",
        }
    )


async def settled(labels: Labels) -> None:
    async with asyncio.timeout(5):
        while labels._writing:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("quick")
async def test_a_write_whose_answer_is_lost_does_not_keep_the_label_from_what_it_was() -> None:
    server = Server(lost={2})
    async with Labels(server, PodTurns(), lambda name: facts("")) as labels:  # type: ignore[arg-type]
        labels.want("pod", "a", "1")
        await settled(labels)
        labels.want("pod", "b", "1")
        async with asyncio.timeout(5):
            while len(server.writes) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        labels.want("pod", "a", "1")
        await settled(labels)
        assert server.function == "a", server.writes


@pytest.mark.usefixtures("quick")
async def test_what_another_owner_has_written_meanwhile_is_written_over() -> None:
    server = Server()
    async with Labels(server, PodTurns(), lambda name: facts(server.function)) as labels:  # type: ignore[arg-type]
        labels.want("pod", "a", "1")
        await settled(labels)
        labels.forget("pod")  # it changes hands, twice
        server.function = "b"
        labels.want("pod", "a", "1")
        await settled(labels)
        assert server.function == "a", server.writes
