"""What a soak looks like while it runs: at a terminal a few lines that stay where they are, elsewhere one line now and
then. `picture` and `plain_line` are pure; `Display` is the edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

from faults.nemesis.plan import Fault
from faults.soak.tally import Counts, Faults

PLAIN_EVERY: Final = 5.0  # seconds
_WIDTH: Final = 110


@dataclass(slots=True)
class View:
    """All that is known. None: not known."""

    seed: int
    seconds: float  # of load and faults
    phase: str = "starts"
    elapsed: float = 0.0
    counts: Counts = field(default_factory=Counts)
    faults: Faults = field(default_factory=Faults)
    accepted_rate: float | None = None  # a second, over the last seconds
    committed_rate: float | None = None
    chapters: int = 0  # that have begun
    judged: int = 0  # of them, and found in order
    open_questions: int = 0  # findings of chapters that may not have come to rest yet
    findings: int = 0  # those that stand

    @property
    def left(self) -> float:
        return max(0.0, self.seconds - self.elapsed)


def number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def rate(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}/s"


def clock(seconds: float) -> str:
    """'0:07', '12:40', '1:02:03'"""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_force(faults: Sequence[Fault]) -> str:
    lasting = [
        f"{one.kind} {one.target}" + (f" {one.seconds:.1f} s" if one.seconds else "") for one in faults
    ]
    return ", ".join(lasting) or "none"


def plain_line(view: View) -> str:
    counts, faults = view.counts, view.faults
    parts = [
        f"{clock(view.elapsed):>7} {view.phase}",
        f"accepted {number(counts.accepted)} ({rate(view.accepted_rate)})",
        f"committed {number(counts.committed)}",
        f"backlog {number(counts.backlog)}",
        f"paid {number(counts.paid)}",
        f"cancelled {number(counts.cancelled)}",
        f"reaped {number(counts.reaped)}",
        f"faults {faults.number}",
        f"retries {number(counts.retries)}",
        f"findings {view.findings}" + (f" (+{view.open_questions} open)" if view.open_questions else ""),
        f"now: {in_force(faults.in_force)}",
    ]
    return " · ".join(parts)


def picture(view: View, width: int = _WIDTH) -> list[str]:
    counts, faults = view.counts, view.faults
    kinds = "  ".join(f"{kind} {done}" for kind, done in sorted(faults.done.items())) or "none yet"
    waiting = f"backlog {number(counts.backlog)}"
    judged = f"{view.judged} of {view.chapters} chapters in order"
    rows = [
        ("soak", f"{view.phase}; {clock(view.elapsed)} of {clock(view.seconds)}; seed {view.seed}"),
        ("accepted", f"{number(counts.accepted):>11}  {rate(view.accepted_rate):>9}"),
        ("committed", f"{number(counts.committed):>11}  {rate(view.committed_rate):>9}   {waiting}"),
        ("since", f"paid {number(counts.paid)}, cancelled {number(counts.cancelled)}, reaped {number(counts.reaped)}"),
        ("clients", f"{number(counts.retries)} retries: {number(counts.unanswered)} without an answer, "
                    f"{number(counts.come_again)} told to come again; {number(counts.unknown)} outcomes unknown"),
        ("faults", f"{faults.number}: {kinds}"),
        ("now", in_force(faults.in_force)),
        ("history", f"{judged}, {view.open_questions} open questions, {view.findings} findings"),
    ]  # fmt: skip
    return [f"  {name:<10} {words}"[:width] for name, words in rows]


class Display:
    """Draws over what it drew before, where that is possible."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines = 0
        self._last = float("-inf")

    def show(self, view: View, now: float, *, always: bool = False) -> None:
        """`now`: seconds of a clock that only goes on."""
        if self._out.isatty():
            up = f"\x1b[{self._lines}A" if self._lines else ""
            lines = picture(view)
            self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
            self._lines = len(lines)
        elif always or now - self._last >= PLAIN_EVERY:
            self._last = now
            self._out.write(plain_line(view) + "\n")
        self._out.flush()

    def say(self, words: str) -> None:
        """Stays above what is drawn from now on."""
        self._lines = 0
        self._out.write(words + "\n")
        self._out.flush()
