"""The account: every request, by the fault during which it ended, and whether it may have failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from tests.chaos.changes import Change
from tests.chaos.faults import Damage
from tests.chaos.load import Call

SAMPLES = 5
"""Of each violation, shown."""


class Window:
    """The time from one fault to the next."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.damage: Damage | None = None
        self.sent = 0
        self.calls = 0
        self.answered = 0
        self.failed: list[Call] = []
        self.changes: list[Change] = []
        self.retried: Counter[str] = Counter()
        self.recovery: float | None = None
        """Seconds until all kinds of requests were answered; None when they never were."""


@dataclass
class Row:
    """A fault's line."""

    count: int = 0
    calls: int = 0
    answered: int = 0
    retried: int = 0
    allowed: Counter[str] = field(default_factory=Counter)
    violations: int = 0
    recoveries: list[float] = field(default_factory=list)


class Ledger:
    """Takes what happens, and judges it.

    Args:
        seed: of the run, told with the result.
        bound: seconds that recovery may take.
    """

    def __init__(self, seed: int, bound: float) -> None:
        self.seed = seed
        self.bound = bound
        self.rows: dict[str, Row] = {}
        self.violations: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.kinds: dict[str, Counter[str]] = {}
        self.began = 0.0
        self._former: Damage | None = None

    def open(self, fault: str) -> Window:
        """A fault begins; what ends from now on is its."""
        return Window(fault)

    def take(self, window: Window, call: Call) -> None:
        """A call has ended."""
        window.calls += 1
        kind = self.kinds.setdefault(call.kind.name, Counter())
        kind["sent"] += 1
        if call.answered and not call.wrong:
            window.answered += 1
            kind["answered"] += 1
        else:
            window.failed.append(call)
            kind["failed"] += 1

    def close(self, window: Window) -> None:
        """What ended in a window is judged, also by what the fault before it may still have cost."""
        row = self.rows.setdefault(window.fault, Row())
        damages = [one for one in (window.damage, self._former) if one is not None]
        for call in window.failed:
            reasons = [reason for one in damages if (reason := one.excuse(call))]
            if reasons and not call.wrong:
                row.allowed[f"{call.outcome.partition(':')[0]}: {reasons[0]}"] += 1
            else:
                self.accuse(window.fault, _told(call, self.began, window.damage), row)
        for change in window.changes:
            self.changes[change.outcome] += 1
            if not change.applied and not any(change.outcome in one.changes for one in damages):
                when = f"{change.began - self.began:.2f}-{change.ended - self.began:.2f} s"
                self.accuse(window.fault, f"{when}: {change.what}: {change.outcome}", row)
        row.count += window.damage is not None
        row.calls += window.calls
        row.answered += window.answered
        row.retried += window.retried.total()
        self.retried += window.retried
        self.counts["sent"] += window.sent
        self.counts["ended"] += window.calls
        self.counts["answered"] += window.answered
        if window.damage is not None:
            if window.recovery is None or window.recovery > self.bound:
                took = "never" if window.recovery is None else f"after {window.recovery:.2f} s"
                self.accuse(window.fault, f"recovered {took}", row)
            if window.recovery is not None:
                row.recoveries.append(window.recovery)
        self._former = window.damage

    def accuse(self, where: str, what: str, row: Row | None = None) -> None:
        """Something happened that may not."""
        self.violations.setdefault(where, []).append(what)
        if row is not None:
            row.violations += 1

    def text(self) -> str:
        """The whole account, for people."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        head = f"{'fault':26}{'times':>6}{'requests':>10}{'answered':>10}{'retried':>9}"
        yield f"{head}{'allowed':>9}{'NOT':>5}{'recovery p50':>14}{'max':>8}"
        for fault, row in self.rows.items():
            line = f"{fault:26}{row.count:6}{row.calls:10}{row.answered:10}{row.retried:9}"
            line += f"{row.allowed.total():9}{row.violations:5}"
            if row.recoveries:
                line += f"{median(row.recoveries):12.2f} s{max(row.recoveries):6.2f} s"
            yield line
        yield ""
        allowed = sum((row.allowed for row in self.rows.values()), Counter[str]())
        yield (
            f"requests: {self.counts['sent']} sent, {self.counts['answered']} answered right, "
            f"{self.retried.total()} sent again by routers{_listed(self.retried)}"
        )
        yield f"failed as they may: {allowed.total()}"
        for reason, count in allowed.most_common():
            yield f"  {count:5}  {reason}"
        yield f"changes: {self.changes.total()}{_listed(self.changes)}"
        for name, counts in self.kinds.items():
            yield (
                f"  {name:18}{counts['sent']:7} sent{counts['answered']:7} answered"
                f"{counts['failed']:5} failed"
            )
        yield ""
        total = sum(map(len, self.violations.values()))
        yield f"what may NOT happen: {total}"
        for where, happened in self.violations.items():
            yield f"  {where}: {len(happened)}"
            yield from (f"    {what}" for what in happened[:SAMPLES])
        yield f"seed {self.seed}"


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {what}' for what, count in counts.items())})" if counts else ""


def _told(call: Call, began: float, damage: Damage | None) -> str:
    when = f"{call.began - began:.2f}-{call.ended - began:.2f} s"
    if damage is not None:
        when += f" (fault at {damage.since - began:.2f})"
    what = f"{call.kind.method} {call.function} {call.request_id} ({call.kind.name})"
    return f"{when}: {what}: {call.outcome}{f', {call.wrong}' if call.wrong else ''}"
