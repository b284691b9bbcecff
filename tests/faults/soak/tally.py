"""Bookkeeping of a soak, pure: faults, how long after each until a new order had gone through, what clients said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from faults.nemesis.plan import Fault


@dataclass(frozen=True, slots=True)
class Slowest:
    seconds: float
    fault: Fault


@dataclass(slots=True)
class Faults:
    """Times in epoch seconds. A recovery ends when an order that was accepted after the fault is in the database.

    Faults overlap, and orders wait in line: so it is an upper bound of what one fault costs.
    """

    in_force: list[Fault] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # by kind
    missed: Counter[str] = field(default_factory=Counter)  # by kind: nobody was there
    pairs: Counter[str] = field(default_factory=Counter)  # by kind and target, of those done
    slowest: dict[str, Slowest] = field(default_factory=dict)  # by kind
    _open: list[tuple[Fault, float]] = field(default_factory=list)  # with its end

    def begins(self, fault: Fault) -> None:
        self.in_force.append(fault)

    def ends(self, fault: Fault, at: float, *, missed: bool) -> None:
        self.in_force.remove(fault)
        if missed:
            self.missed[fault.kind] += 1
            return
        self.done[fault.kind] += 1
        self.pairs[f"{fault.kind} {fault.target}"] += 1
        self._open.append((fault, at))

    def went_through(self, accepted_at: float, committed_at: float) -> None:
        """An order."""
        for fault, ended_at in self._open:
            took = committed_at - ended_at
            before = self.slowest.get(fault.kind)
            if ended_at < accepted_at and (before is None or took > before.seconds):
                self.slowest[fault.kind] = Slowest(took, fault)
        self._open = [(fault, ended_at) for fault, ended_at in self._open if ended_at >= accepted_at]

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
