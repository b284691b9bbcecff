"""What the controller has heard of the workers: late by half a second on the average, or lost."""

from __future__ import annotations

import random
from collections import deque

from peakclip_operator.plan import DatabaseTotals, Totals
from peakclip_operator.simulation.database import BOUNDS
from peakclip_operator.simulation.scenario import Scenario

Counters = tuple[float, ...]
"""finished, failed, busy seconds, batches, calls, errors, seconds of wait, and calls by how long they took."""

NOTHING: Counters = (0.0,) * (7 + len(BOUNDS) + 1)
_MOST_LOST = 8  # words in a row
_FEW = 8.0  # orders


class Telling:
    """Each worker tells its own totals once a second, at a moment of its own; the controller adds up the newest."""

    def __init__(self, scenario: Scenario, rng: random.Random) -> None:
        self._scenario = scenario
        self._rng = rng
        kept = (scenario.telemetry_late + 2 + _MOST_LOST) / scenario.tick_seconds
        self._history: deque[tuple[float, Counters]] = deque([(0.0, NOTHING)], maxlen=int(kept) + 2)
        self._heard = NOTHING
        self._heard_at = 0.0
        self._unheard = False

    def forget(self) -> None:
        """A new controller has heard nothing; what it hears first is all that the workers have done in their lives."""
        self._unheard = True

    def tell(self, counters: Counters, workers: int, now: float) -> Totals:
        """The totals as they are known at a tick. They only grow."""
        self._history.append((now, counters))
        if self._unheard:
            self._unheard = False
            return totals(NOTHING)
        if any(since <= now < until for since, until in self._scenario.telemetry_out):
            return totals(self._heard)
        at = now - self._age(max(1, workers))
        if at > self._heard_at:
            self._heard_at, self._heard = at, self._at(at)
        return totals(self._heard)

    def _age(self, workers: int) -> float:
        """Of the newest words: half a second on the average of many, anything up to a second of one."""
        draw, lost = self._rng.random, self._scenario.telemetry_lost
        age = self._scenario.telemetry_late + 0.5 + (draw() - 0.5) / workers
        if not lost:
            return age
        asked = min(workers, 4)
        missing = 0
        for _ in range(asked):
            for _ in range(_MOST_LOST):
                if draw() >= lost:
                    break
                missing += 1
        return age + missing / asked

    def _at(self, at: float) -> Counters:
        """The counters as they were then: straight lines between two ticks, but for a handful of batches, which are
        told when they are done."""
        after_at, after = self._history[-1]
        for index in range(len(self._history) - 2, -1, -1):
            before_at, before = self._history[index]
            if before_at <= at:
                share = (at - before_at) / (after_at - before_at)
                if after[0] + after[1] - before[0] - before[1] < _FEW:
                    return after if share >= 0.5 else before
                return tuple([low + (high - low) * share for low, high in zip(before, after, strict=True)])
            after_at, after = before_at, before
        return after


def totals(counters: Counters) -> Totals:
    finished, failed, busy_seconds, batches, calls, errors, wait_seconds, *took = counters
    database = DatabaseTotals(int(calls), int(errors), wait_seconds, tuple(map(int, took)), BOUNDS)
    return Totals(int(finished), int(failed), busy_seconds, batches=int(batches), database=database)
