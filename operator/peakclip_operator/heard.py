"""PURE. What the workers of a pool say of themselves, added up: however late, however often, in whatever order.

A process is known by its name, its pid and when it began. Its totals only grow, so of all its words the largest numbers
count, and a word that comes late or twice adds nothing.

    began after this controller    all that it did is counted
    began before                   what it did since its first word, or a controller that begins anew would see the work
                                   of hours in a second

Which of the two it is follows from the worker's age, on its own clock, and from when the word came, on ours: what its
clock says of the time of day is not used. Older workers do not tell their age; they count as begun before.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from peakclip.limiter.sliding import SlidingSecond
from peakclip.messages import DATABASE_BOUNDS, DatabaseWord, WorkerTelemetry
from peakclip_operator.plan import DatabaseTotals, Totals
from peakclip_operator.ports import Telemetry, WorkerSample

SILENT_SECONDS = 5.0  # a worker not heard for this long is gone
LATE_SECONDS = 12.0  # after an outage of NATS a worker tells of its last ten seconds
FORGET_SECONDS = 300.0  # what a process has done stays counted; that it was this one is forgotten
REMEMBERED = 4000  # processes, at most: a pool has up to a thousand workers, and twice as many in an update
_RECENT_SECONDS = 60.0
_STRETCH_SECONDS = 5.0

_Key = tuple[str, int, float | None]
_Numbers = tuple[
    float, ...
]  # finished, failed, busy, batches; calls, errors, wait and the buckets of the database
_NO_DATABASE = DatabaseWord(0, 0, 0.0, (0,) * (len(DATABASE_BOUNDS) + 1))
_NOTHING: _Numbers = (0,) * (7 + len(_NO_DATABASE.took))


@dataclass(slots=True)
class _Process:
    heard_at: float
    """On our clock, when it last said something new."""
    began_at: float
    """The same, as far as its age tells."""
    newest: WorkerTelemetry
    most: _Numbers
    base: _Numbers | None
    """The least that it told; None: all that it did is counted."""

    def done(self) -> _Numbers:
        return self.most if self.base is None else tuple(map(_less, self.most, self.base))


class WorkersHeard:
    """Newest word per process, and totals that only grow: what the dead have finished stays counted."""

    def __init__(self, began: float) -> None:
        """`began`: since when this controller listens."""
        self._known: dict[_Key, _Process] = {}  # in order of hearing
        self._gone: _Numbers = _NOTHING
        self._gone_ever = (0.0, 0.0)
        self._horizon = began  # who began before it may have been counted before
        self._spoken_at = began  # when somebody said anything
        self._measured_at = -math.inf  # when somebody told of a database
        self._uncounted_at = -math.inf  # when somebody was silent about batches
        self._most_at_once: int | None = None  # of the newest word: workers of a pool are alike
        self._starts = PoolStarts()

    def hear(self, word: WorkerTelemetry, now: float) -> None:
        """`now` is when it came, on our clock."""
        key = (word.worker, word.pid, word.since)
        numbers = _numbers(word)
        self._spoken_at = now
        if _database(word) is not None:
            self._measured_at = now
        if word.batches is None:
            self._uncounted_at = now
        known = self._known.get(key)
        if known is not None and word.since is None and _is_another(word, known.newest):
            self._fold(key)
            known = None
        if known is None:
            began_at = -math.inf if word.since is None else now - (word.at - word.since)
            base = None if began_at >= self._horizon else numbers
            self._known[key] = _Process(now, began_at, word, numbers, base)
            self._most_at_once = word.most_at_once
        else:
            self._hear_more(key, known, word, now)
        self._starts.add((key, _place(word)), word.starts, now)
        while len(self._known) > REMEMBERED:
            self._fold(next(iter(self._known)))

    def _hear_more(self, key: _Key, known: _Process, word: WorkerTelemetry, now: float) -> None:
        numbers = _numbers(word)
        known.most = tuple(map(max, known.most, numbers))
        if known.base is not None:
            known.base = tuple(map(min, known.base, numbers))
        if _place(word) > _place(known.newest):
            known.newest, known.heard_at = word, now
            self._most_at_once = word.most_at_once
            self._known[key] = self._known.pop(key)  # moves to the end

    def report(self, now: float) -> Telemetry:
        for key in [key for key, one in self._known.items() if abs(now - one.heard_at) > FORGET_SECONDS]:
            self._fold(key)
        totals = self._sum([self._gone, *(one.done() for one in self._known.values())])
        counted = abs(now - self._uncounted_at) > LATE_SECONDS
        # By the others' words and not by the clock: where nobody says anything, nobody was replaced.
        measured = abs(self._spoken_at - self._measured_at) <= LATE_SECONDS
        most = self._starts.most(now)
        return Telemetry(
            totals=self._totals(totals, counted=counted, measured=measured),
            workers=self._living(now),
            starts_max_sliding_second=most,
            most_at_once=self._most_at_once,
            starts_recent_most=self._starts.recent_most(now),
            finished_ever=int(self._gone_ever[0] + sum(one.most[0] for one in self._known.values())),
            failed_ever=int(self._gone_ever[1] + sum(one.most[1] for one in self._known.values())),
        )

    def _fold(self, key: _Key) -> None:
        """Should it speak again after all, it counts as begun before, since that is what it is."""
        known = self._known.pop(key)
        self._gone = self._sum([self._gone, known.done()])
        self._gone_ever = (self._gone_ever[0] + known.most[0], self._gone_ever[1] + known.most[1])
        self._horizon = max(self._horizon, known.heard_at)

    def _living(self, now: float) -> list[WorkerSample]:
        """One for each name: a pid is used again, and the last words of the one before may come late."""
        found: dict[str, _Process] = {}
        for one in self._known.values():
            name = one.newest.worker
            if now - one.heard_at <= SILENT_SECONDS and (
                name not in found or one.began_at >= found[name].began_at
            ):
                found[name] = one
        return [
            WorkerSample(name, one.newest.pid, one.heard_at, one.newest.in_flight, one.newest.draining)
            for name, one in found.items()
        ]

    def _totals(self, done: _Numbers, *, counted: bool, measured: bool) -> Totals:
        finished, failed, busy, batches, calls, errors, wait, *took = done
        database = DatabaseTotals(int(calls), int(errors), wait, tuple(map(int, took)), DATABASE_BOUNDS)
        return Totals(
            finished=int(finished),
            failed=int(failed),
            busy_seconds=busy,
            batches=int(batches) if counted else None,
            database=database if measured else None,
        )

    @staticmethod
    def _sum(rows: Sequence[_Numbers]) -> _Numbers:
        """Exact, so that it does not depend on the order."""
        return tuple(map(math.fsum, zip(*rows, strict=True)))


def _numbers(word: WorkerTelemetry) -> _Numbers:
    told = _database(word) or _NO_DATABASE
    return (
        *(word.finished, word.failed, word.busy_seconds, word.batches or 0),
        *(told.calls, told.errors, told.wait_seconds, *told.took),
    )


def _database(word: WorkerTelemetry) -> DatabaseWord | None:
    """None for the histogram of another version, too: it cannot be added to ours."""
    told = word.database
    return told if told is not None and len(told.took) == len(_NO_DATABASE.took) else None


def _place(word: WorkerTelemetry) -> float:
    """Among the words of its process."""
    return word.at if word.number is None else word.number


def _is_another(word: WorkerTelemetry, newest: WorkerTelemetry) -> bool:
    """Of a worker that does not tell when it began: smaller totals later on mean a new process of that name."""
    return word.at > newest.at and word.finished < newest.finished


def _less(one: float, another: float) -> float:
    return one - another


class PoolStarts:
    """The most starts in any sliding second over all workers, from what each of them tells of its own.

    Words come late, twice and in any order, so those of the last seconds are looked at again each time. A lost word
    makes the number smaller, never larger: what it shows did happen. A word is forgotten by when it came, not by the
    times that it tells: its sender may be wrong about the clock, and is not to push out the others.
    """

    def __init__(self) -> None:
        self._recent: dict[Hashable, tuple[float, Sequence[tuple[float, int]]]] = {}
        self._fresh = False
        self._most: int | None = None
        self._by_stretch: dict[int, int] = {}  # the most, by when it was seen, in stretches of time

    def add(self, word: Hashable, starts: Sequence[tuple[float, int]], now: float) -> None:
        """`word` tells which one it is."""
        if starts and word not in self._recent:
            self._recent[word] = (now, starts)
            self._fresh = True

    def most(self, now: float) -> int | None:
        """None until a worker has told of a start."""
        if self._fresh:
            self._fresh = False
            most = lately = self._look()
            self._most = max(most, self._most or 0)
            if self._forget(now):
                lately = self._look()  # after a silence
            stretch = int(now // _STRETCH_SECONDS)
            self._by_stretch[stretch] = max(lately, self._by_stretch.get(stretch, 0))
        return self._most

    def recent_most(self, now: float) -> int | None:
        """Of the last minute and a little more: at another rate, what was at the one before says nothing."""
        oldest, newest = (now - LATE_SECONDS - _RECENT_SECONDS) // _STRETCH_SECONDS, now // _STRETCH_SECONDS
        self._by_stretch = {at: most for at, most in self._by_stretch.items() if oldest <= at <= newest}
        return max(self._by_stretch.values(), default=0) if self._most is not None else None

    def _forget(self, now: float) -> bool:
        """Whether there was anything to forget."""
        before = len(self._recent)
        self._recent = {
            word: told for word, told in self._recent.items() if abs(now - told[0]) <= LATE_SECONDS
        }
        return len(self._recent) < before

    def _look(self) -> int:
        second = SlidingSecond()
        for at, count in sorted(start for _, starts in self._recent.values() for start in starts):
            second.add(at, count)
        return second.most
