"""Runs the engine of `sanfran up` with fake services, as a process of its own.

fake_engine.py DATA LEDGER [NAME:BEHAVIOUR ...]
"""

import asyncio
import signal
import sys
from pathlib import Path

from sanfran_cli.errors import Refused
from sanfran_cli.up.engine import STOP_ORDER, Engine
from sanfran_cli.up.folder import DataFolder
from sanfran_cli.up.terminal import tell


async def run(folder: DataFolder, ledger: str, behaviours: dict[str, str]) -> None:
    fake = str(Path(__file__).with_name("fake_service.py"))
    lines = {
        name: [sys.executable, "-S", fake, name, ledger, behaviours.get(name, "good")]
        for name in STOP_ORDER
    }
    engine = Engine(lines, folder, {"url": "http://127.0.0.1:1"})
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(which, engine.stop)

    async def announce() -> None:
        tell("ready:")

    await engine.run(announce)


def main() -> None:
    data, ledger, *behaviours = sys.argv[1:]
    try:
        with DataFolder(Path(data)) as folder:
            asyncio.run(run(folder, ledger, dict(one.split(":") for one in behaviours)))
    except Refused as error:
        sys.exit(str(error))


main()
