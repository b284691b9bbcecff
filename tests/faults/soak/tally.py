"""Bookkeeping of a soak, pure: faults, how long after each until a new order had gone through, what clients said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from faults.nemesis.plan import Fault


class Step(StrEnum):
    """What has to be possible again after a fault."""

    ACCEPTED = "accepted"  # an order that was sent afterwards
    COMMITTED = "committed"  # any order
    THROUGH = "through"  # an order that was accepted afterwards is in the database, though others were in front of it


@dataclass(frozen=True, slots=True)
class Slowest:
    seconds: float
    fault: Fault

    @property
    def words(self) -> str:
        return f"{self.seconds:.1f} s after {str(self.fault).strip()}"


@dataclass(slots=True)
class Faults:
    """Times in epoch seconds. Faults overlap: what is told of one is an upper bound of what it costs."""

    in_force: list[Fault] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # by kind
    missed: Counter[str] = field(default_factory=Counter)  # by kind: nobody was there
    pairs: Counter[str] = field(default_factory=Counter)  # by kind and target, of those done
    slowest: dict[tuple[Step, str], Slowest] = field(default_factory=dict)  # by kind
    _open: dict[Step, list[tuple[Fault, float]]] = field(  # with its end
        default_factory=lambda: {step: [] for step in Step}
    )

    def begins(self, fault: Fault) -> None:
        self.in_force.append(fault)

    def ends(self, fault: Fault, at: float, *, missed: bool) -> None:
        self.in_force.remove(fault)
        if missed:
            self.missed[fault.kind] += 1
            return
        self.done[fault.kind] += 1
        self.pairs[f"{fault.kind} {fault.target}"] += 1
        for waiting in self._open.values():
            waiting.append((fault, at))

    def took(self, step: Step, since: float, at: float) -> None:
        """An order took the step at this time. It shows that faults are over that ended before `since`."""
        for fault, ended_at in self._open[step]:
            before = self.slowest.get((step, fault.kind))
            if ended_at < since and (before is None or at - ended_at > before.seconds):
                self.slowest[step, fault.kind] = Slowest(at - ended_at, fault)
        self._open[step] = [(fault, ended_at) for fault, ended_at in self._open[step] if ended_at >= since]

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
                kind: {"done": self.done[kind], "missed": self.missed[kind], "slowest": self._slowest(kind)}
                for kind in kinds
            },
            "pairs": dict(sorted(self.pairs.items())),
        }

    def _slowest(self, kind: str) -> dict[str, Any]:
        found = {step: self.slowest.get((step, kind)) for step in Step}
        return {
            str(step): None if slow is None else {"seconds": round(slow.seconds, 2), "words": slow.words}
            for step, slow in found.items()
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
