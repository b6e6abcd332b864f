"""A store whose process is killed in the middle of thousands of writes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from sanfran_api.store.rebuilding import rebuild

from api.tests.stores import MIB, content_of, opened

ROUNDS = 50


async def test_what_was_acknowledged_is_there_after_fifty_times_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "api.tests.killed"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    acknowledged: dict[str, list[tuple[int, str]]] = {}
    total = 0
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, text=True, bufsize=1, cwd=root, **pipes) as writer:  # noqa: ASYNC220
        try:
            for seed in range(ROUNDS):
                writer.stdin.write(f"{tmp_path} {seed}\n")
                word, _, pid = writer.stdout.readline().partition(" ")
                while word != "pid":  # its log
                    word, _, pid = writer.stdout.readline().partition(" ")
                until = random.randint(0, 300)
                found = 0
                while (line := writer.stdout.readline().strip()) != "over":
                    if line.count(" ") == 2 and line.startswith(f"s{seed}-"):
                        name, version, digest = line.split()
                        acknowledged.setdefault(name, []).append((int(version), digest))
                        found += 1
                    if found == until or not line:
                        os.kill(int(pid), signal.SIGKILL)
                        until = -1
                total += found
                async with opened(tmp_path, keep_versions=3) as store:
                    for name in [one for one in acknowledged if one.startswith(f"s{seed}-")]:
                        kept = {one.version: one.digest for one in store.versions(name)}
                        for version, digest in acknowledged[name][-3:]:
                            assert kept[version] == digest
                            content = content_of(store, digest)
                            assert hashlib.sha256(content).hexdigest() == digest
                        told = store.get(name, reveal=True).settings
                        assert told is not None
                        assert told.secrets == {"KEY": f"value of {name}"}
        finally:
            writer.stdin.close()
    assert total > 10 * ROUNDS
    # And what nobody was told of is whole, or not there: every bundle, count and reference fits.
    again = tmp_path / "again"
    again.mkdir()
    judged = rebuild(tmp_path / "data/store/data.mdb", again, 1024 * MIB)
    assert judged.functions >= len(acknowledged)
