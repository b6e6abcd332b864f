"""Settings of the controller that cannot work are refused at the start."""

from __future__ import annotations

import pytest
from sanfran_common.config import parse_config
from sanfran_controller.config import ControllerConfig


@pytest.mark.parametrize(
    "argv", [["--name", "Not A Label"], ["--max-pods", "1"], ["--pods", "nowhere"]]
)
def test_settings_that_cannot_work_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_config(ControllerConfig, prefix="X", prog="x", description="", argv=argv, environ={})
    assert caught.value.code == 2
