"""The table of a pod's life, and what the runtime must not import."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.state import TRANSITIONS, Event, IllegalTransition, Phase, advance

LEGAL = {
    "starting": {"ready": "generic"},
    "generic": {"activate": "activating"},
    "activating": {"bundle_failed": "generic", "loaded": "active"},
    "active": {"drain": "draining"},
    "draining": {"recycle": "recycling"},
    "recycling": {"ready": "generic"},
    "gone": {},
}


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_every_phase_meets_every_event(phase: Phase, event: Event) -> None:
    expected = LEGAL[phase.value].get(event.value)
    if event is Event.END and phase is not Phase.GONE:
        expected = "gone"
    if expected is None:
        with pytest.raises(IllegalTransition, match=f"^{event.value} while {phase.value}$"):
            advance(phase, event)
    else:
        assert advance(phase, event).value == expected


def test_every_phase_but_the_first_can_be_reached_and_has_a_name_in_the_contract() -> None:
    assert {*TRANSITIONS.values(), Phase.STARTING} == set(Phase)
    assert {phase.name for phase in Phase} == {one.name for one in pb.PodPhase} - {"UNSPECIFIED"}


@pytest.mark.parametrize("module", ["sanfran_sidecar.main", "sanfran_sidecar.host.main"])
def test_a_sidecar_imports_nothing_of_the_other_services(module: str) -> None:
    heavy = {"lmdb", "fastapi", "starlette", "uvicorn", "httpx", "kubernetes_asyncio", "kubernetes",
             "click", "questionary", "httptools", "multipart"}  # fmt: skip
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    loaded = set(printed.split())
    assert "sanfran_sidecar" in loaded
    assert loaded & heavy == set()
    ours = {name for name in loaded if name.startswith("sanfran_")}
    assert ours == {"sanfran_sidecar", "sanfran_common", "sanfran_proto"}
