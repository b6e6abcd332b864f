"""Runs everything that may go wrong against an engine under load. Usage: python -m tests.chaos [--seconds S]"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from tests.chaos.faults import FAULTS
from tests.chaos.ledger import Ledger
from tests.chaos.run import run


def main() -> None:
    """Exits with 1 when anything happened that may not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="for faults (120)")
    parser.add_argument("--seed", type=int, help="of an earlier run, for the same order of faults")
    parser.add_argument("--bound", type=float, default=5.0, help="seconds to recover in (5)")
    parser.add_argument(
        "--fault", action="append", choices=FAULTS, metavar="NAME", help=", ".join(FAULTS)
    )
    parser.add_argument("--controllers", type=int, choices=(1, 2), default=2, help="of them (2)")
    parser.add_argument("--keep", type=Path, help="an empty folder for data and logs, which stays")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    ledger = Ledger(seed, options.bound)
    print(f"seed {seed}", flush=True)
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="sanfran-chaos-") as folder:
        try:
            run(
                options.keep or Path(folder),
                ledger,
                seconds=options.seconds,
                faults=options.fault or tuple(FAULTS),
                controllers=options.controllers,
                say=lambda line: print(line, flush=True),
            )
        except KeyboardInterrupt:
            interrupted = True
    print(f"\n{ledger.text()}", end="")
    if interrupted:
        sys.exit(130)
    sys.exit(1 if ledger.violations else 0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
