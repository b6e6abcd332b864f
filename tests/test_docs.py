"""The docs say what is there, and name nothing that is not."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_page_of_settings_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    broken = [link for link in links if not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize(
    "command",
    ["sanfran-router", "sanfran-controller", "sanfran-api", "sanfran-sidecar", "sanfran-pod-host"],
)
def test_help_of_a_service_lists_every_setting(command: str) -> None:
    said = subprocess.run(
        [Path(sys.executable).with_name(command), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    section = (ROOT / "docs/settings.md").read_text().partition(f"## {command}\n")[2]
    flags = re.findall(r"^\| `(--[a-z-]+)`", section.partition("\n## ")[0], re.MULTILINE)
    assert flags
    assert [flag for flag in flags if flag not in said] == []


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z]+)`", page.read_text()))
        assert named <= targets, page.name
