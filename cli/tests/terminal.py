"""The command line in a terminal, typed at."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

ENTER, DOWN, CTRL_C, CTRL_D = "\r", "\x1b[B", "\x03", "\x04"
SANFRAN = Path(sys.executable).with_name("sanfran")
PATIENCE = 20.0


class Terminal:
    """`sanfran` in a pseudo-terminal, with these arguments."""

    def __init__(self, api: str, *args: str) -> None:
        self._ours, theirs = pty.openpty()
        self._seen = ""
        self._process = subprocess.Popen(
            [SANFRAN, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "SANFRAN_API": api, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read_until(self, text: str) -> None:
        """Reads what is shown; forgets everything up to the text."""
        until = time.monotonic() + PATIENCE
        while text not in self._seen:
            ready, _, _ = select.select([self._ours], [], [], until - time.monotonic())
            assert ready, f"{text!r} was not shown: {self._seen!r}"
            self._seen += os.read(self._ours, 65536).decode(errors="replace")
        self._seen = self._seen.partition(text)[2]

    def answer(self, question: str, keys: str) -> None:
        """Types once the question is shown."""
        self.read_until(question)
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        return self._process.wait(PATIENCE)
