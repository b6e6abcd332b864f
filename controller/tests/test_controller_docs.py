"""The page about the controller names every setting, with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from sanfran_common.config import ServiceConfig, parse_config
from sanfran_controller.config import ControllerConfig

DOCS = (Path(__file__).parents[2] / "docs" / "controller.md").read_text()


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| `([^`]*)` \|", DOCS, re.MULTILINE))
    common = {one.name for one in fields(ServiceConfig)}
    own = {
        one.name.replace("_", "-"): f"{one.default:g}"
        if isinstance(one.default, float)
        else str(one.default)
        for one in fields(ControllerConfig)
        if one.name not in common
    }
    assert rows == own


@pytest.mark.parametrize(
    "argv", [["--name", "Not A Label"], ["--max-pods", "1"], ["--pods", "nowhere"]]
)
def test_settings_that_cannot_work_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_config(ControllerConfig, prefix="X", prog="x", description="", argv=argv, environ={})
    assert caught.value.code == 2
