"""Bookkeeping of a soak, pure: faults, and how long after each until orders were accepted and committed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from faults.nemesis.plan import Fault


@dataclass(slots=True)
class _Open:
    fault: Fault
    ended_at: float
    accepted: bool = False
    committed: bool = False


@dataclass(frozen=True, slots=True)
class Slowest:
    seconds: float
    fault: Fault


@dataclass(slots=True)
class Faults:
    """Times in epoch seconds. Of faults that overlap each waits for the last one, so a recovery is an upper bound."""

    in_force: list[Fault] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # by kind
    missed: Counter[str] = field(default_factory=Counter)  # by kind: nobody was there
    pairs: Counter[str] = field(default_factory=Counter)  # by kind and target, of those done
    slowest: dict[str, Slowest] = field(default_factory=dict)  # by kind
    _open: list[_Open] = field(default_factory=list)

    def begins(self, fault: Fault) -> None:
        self.in_force.append(fault)

    def ends(self, fault: Fault, at: float, *, missed: bool) -> None:
        self.in_force.remove(fault)
        if missed:
            self.missed[fault.kind] += 1
            return
        self.done[fault.kind] += 1
        self.pairs[f"{fault.kind} {fault.target}"] += 1
        self._open.append(_Open(fault, at))

    def accepted(self, at: float) -> None:
        """An order was accepted at this time."""
        for one in self._open:
            one.accepted = one.accepted or at > one.ended_at
        self._close(at)

    def committed(self, at: float) -> None:
        for one in self._open:
            one.committed = one.committed or at > one.ended_at
        self._close(at)

    def _close(self, at: float) -> None:
        over = [one for one in self._open if one.accepted and one.committed]
        for one in over:
            took = at - one.ended_at
            before = self.slowest.get(one.fault.kind)
            if before is None or took > before.seconds:
                self.slowest[one.fault.kind] = Slowest(took, one.fault)
        if over:
            self._open = [one for one in self._open if not (one.accepted and one.committed)]

    @property
    def number(self) -> int:
        return self.done.total()

    def told(self) -> dict[str, Any]:
        """For the report."""
        kinds = sorted({*self.done, *self.missed})
        return {
            "done": self.number,
            "missed": self.missed.total(),
            "kinds": {
                kind: {
                    "done": self.done[kind],
                    "missed": self.missed[kind],
                    "slowest_recovery_seconds": None
                    if (slow := self.slowest.get(kind)) is None
                    else round(slow.seconds, 2),
                    "slowest_after": None if slow is None else str(slow.fault).strip(),
                }
                for kind in kinds
            },
            "pairs": dict(sorted(self.pairs.items())),
        }


@dataclass(slots=True)
class Counts:
    """What clients and the database said until now. None: nobody could be asked."""

    accepted: int = 0  # orders that somebody was told of
    committed: int | None = None
    paid: int = 0
    cancelled: int = 0
    cancellations: int | None = None  # of anybody, as the figures of the day tell
    retries: int = 0
    unanswered: int = 0  # attempts without an answer
    come_again: int = 0  # attempts that were told to come again
    ok: int = 0
    refused: int = 0
    unknown: int = 0
    causes: Counter[str] = field(default_factory=Counter)

    @property
    def backlog(self) -> int | None:
        return None if self.committed is None else max(0, self.accepted - self.committed)

    @property
    def reaped(self) -> int | None:
        """Nobody else cancels."""
        return None if self.cancellations is None else max(0, self.cancellations - self.cancelled)

    def ended(self, chapter: Mapping[str, int]) -> None:
        """How its attempts ended."""
        self.ok += chapter["ok"]
        self.refused += chapter["refused"]
        self.unknown += chapter["unknown"]

    def told(self) -> dict[str, Any]:
        """For the report; what is counted exactly elsewhere is left out."""
        return {
            "paid": self.paid,
            "cancelled": self.cancelled,
            "ok": self.ok,
            "refused": self.refused,
            "unknown": self.unknown,
            "retries": self.retries,
            "without_answer": self.unanswered,
            "told_to_come_again": self.come_again,
            "causes": dict(self.causes.most_common()),
        }

    def retried(self, retries: int, causes: Counter[str]) -> None:
        self.retries += retries
        self.causes += causes
        silent = sum(number for cause, number in causes.items() if _is_silence(cause))
        self.unanswered += silent
        self.come_again += causes.total() - silent


_SILENCE: Final = frozenset({"timeout", "connection-lost", "not-http", "answer-without-request"})


def _is_silence(cause: str) -> bool:
    """No answer; errors have the names of their classes."""
    return cause in _SILENCE or cause[0].isupper()
