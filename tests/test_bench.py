"""The benchmarks of the router run, whatever of their references is installed."""

import subprocess
import sys
from pathlib import Path


def test_a_quick_run_of_the_routers_benchmarks_prints_every_subject() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "router"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for subject in (
        "router / direct: ",
        "CPU per warm request",
        "added to p50",
        "200 of 200 were answered when asked again",
        "table of 200, all called in turn",
        "while scraping",
        "Router with several workers",
        "Upload of ",
    ):
        assert subject in done.stdout
