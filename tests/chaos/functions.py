"""The functions of the load: their code, and what each has to answer at any moment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHILD_SECONDS = 86399
"""What the children of `family` sleep for; nobody else sleeps for so long."""

CODE = """
const { appendFileSync } = require('node:fs');
const { spawn } = require('node:child_process');
for (let n = 0; n < %(children)d; n++) spawn('sleep', ['%(seconds)d']);
const me = { function: '%(name)s', stamp: %(stamp)d, pid: process.pid };
const pause = (ms) => new Promise((go) => setTimeout(go, ms));
module.exports = async (req, res) => {
  const answer = JSON.stringify({ ...me, id: req.get('x-request-id'), body: req.body ?? '' });
  // One file for each request, so that it is seen when its handler runs twice.
  if (req.method === 'POST') appendFileSync(`%(records)s/${req.get('x-request-id')}`, 'x');
  await pause(%(ms)d);
  for (let n = 0; n < %(parts)d; n++) { res.write(' '.repeat(1000)); await pause(60); }
  res.end(answer);
};
"""


@dataclass(frozen=True, slots=True)
class Code:
    """What a function does.

    Args:
        ms: that it takes.
        parts: that its answer comes in, 60 ms each.
        children: processes that it starts when it loads.
        settings: of the function, as REST takes them.
    """

    ms: int = 0
    parts: int = 0
    children: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str, stamp: int, records: Path) -> str:
        """The module, for one version of the function."""
        return CODE % {
            "name": name,
            "stamp": stamp,
            "records": records,
            "ms": self.ms,
            "parts": self.parts,
            "children": self.children,
            "seconds": CHILD_SECONDS,
        }


EDGES = 4
"""Functions that are called just when they have been idle for so long that they are recycled."""
WARM = {
    "quick": Code(),
    "slow": Code(ms=200),
    "stream": Code(parts=4),
    "record": Code(ms=30),
    "family": Code(ms=10, children=3),
    "updated": Code(ms=20),
    "phoenix": Code(),
    "wave": Code(ms=80, settings={"concurrency": 2, "max_scale": 4}),
    **{f"edge-{number}": Code() for number in range(EDGES)},
}
COLD = Code()


def cold_name(number: int) -> str:
    """Of a function that is called once in a long while."""
    return f"cold-{number}"


class Life:
    """One function as those who deploy it know it.

    Attributes:
        begun: the newest stamp that the engine was ever sent.
        acknowledged: the newest stamp whose update or creation has returned.
        state: `there`, `leaving`, `gone` or `coming`.
        changes: of the state, counted.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.acknowledged = 0
        self.state = "coming"
        self.changes = 0

    def become(self, state: str) -> None:
        """Another state, from now on."""
        self.state = state
        self.changes += 1


@dataclass(frozen=True, slots=True)
class Expected:
    """What was known of a function when a request began."""

    name: str
    life: Life
    floor: int
    state: str
    changes: int

    @classmethod
    def of(cls, name: str, life: Life) -> Expected:
        """At this moment."""
        return cls(name, life, life.acknowledged, life.state, life.changes)

    def absence(self) -> bool:
        """Whether 404 is right, for a request that ends now."""
        return self.state != "there" or self.life.changes != self.changes

    def wrong(self, status: int, body: bytes, request_id: str, sent: str) -> str:
        """What is wrong with an answer that came now; nothing when it is right.

        Args:
            sent: the request's body.
        """
        if status == 404:
            return "" if self.absence() else "404 though the function is there"
        if status != 200:
            return ""
        if self.state == "gone" and self.life.changes == self.changes:
            return "answered though its delete had returned"
        try:
            said = json.loads(body)
        except ValueError:
            return f"another body: {body[:100]!r}"
        if said["function"] != self.name:
            return f"answered by {said['function']}"
        if said["id"] != request_id:
            return f"the answer of another request, {said['id']}"
        if said["body"] != sent:
            return "the function saw another body"
        if said["stamp"] < self.floor:
            return f"answered by version {said['stamp']} after {self.floor} was acknowledged"
        if said["stamp"] > self.life.begun:
            return f"answered by version {said['stamp']}, which nobody has sent"
        return ""
