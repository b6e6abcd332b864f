"""Writes to a store until it is killed: a fresh process for each line `FOLDER SEED` on standard input.

Tells `pid N` when the store is open, `NAME VERSION DIGEST` for each write that was acknowledged, and `over`
when the process has ended. Forked, because to start an interpreter fifty times takes a minute.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from sanfran_api.store.transactions import Stored
from sanfran_proto.sanfran import v1 as pb

from api.tests.stores import bundle, function, opened

WRITERS = 600
"""At the same time; each makes five writes."""


def tell(line: str) -> None:
    os.write(1, line.encode() + b"\n")  # one write, so that no line is cut


def acknowledged(made: Stored) -> None:
    tell(f"{made.version.name} {made.version.version} {made.version.digest}")


async def write(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with opened(folder, keep_versions=3) as store:
        tell(f"pid {os.getpid()}")

        async def life(number: int) -> None:
            name = f"s{seed}-{number}"
            large = 1_200_000 if number % 300 == 150 else 60_000 if number % 40 == 20 else 1000
            made = function(name)
            made.settings = pb.FunctionSettings(secrets={"KEY": f"value of {name}"})
            acknowledged(await store.create(made, bundle(rng.randbytes(rng.randint(1, large)))))
            for _ in range(4):
                content = bundle(rng.randbytes(rng.randint(1, 1000)))
                acknowledged(await store.update(name, lambda now: now, content))

        await asyncio.gather(*(life(number) for number in range(WRITERS)))


def main() -> None:
    for line in sys.stdin:
        folder, seed = line.split()
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(write(Path(folder), int(seed)))
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        tell("over")


if __name__ == "__main__":
    main()
