"""What the database can do. Its throughput falls when too much is asked of it at once. Times in seconds."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from math import inf

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets by which workers tell how long their calls took."""


@dataclass(frozen=True, slots=True)
class Database:
    """Orders queue in it, at most one for each that a worker has in hand."""

    capacity_per_second: float = 400.0
    """Orders that it does as long as no more than `knee` are in it at once."""
    knee: float = 16.0
    collapse: float = 0.5
    """How much throughput falls beyond the knee: capacity / (1 + collapse * (n / knee - 1)) with n orders in it."""
    call_seconds: float = 0.005
    """What a call takes when nobody else is there; a part of the work."""
    connections: int = 24
    """More than these wait for a connection, and tell of it."""
    timeout_seconds: float = 1.0
    """A call that would take longer than this fails, the more surely the longer it would take."""
    away: tuple[tuple[float, float], ...] = ()
    """Stretches from, to in which every call fails."""
    capacities: tuple[tuple[float, float], ...] = ()
    """From a second on another capacity: (second, orders per second)."""

    def capacity(self, inside: float, now: float) -> float:
        """Orders per second with so many in it.

        Worked number: capacity 80, knee 16, collapse 0.5; with 32 orders in it, it does 80 / 1.5 = 53.3.
        """
        most = self.most(now)
        if inside <= self.knee:
            return most
        return most / (1 + self.collapse * (inside / self.knee - 1))

    def most(self, now: float) -> float:
        most = self.capacity_per_second
        for since, per_second in self.capacities:
            if now >= since:
                most = per_second
        return most

    def error_share(self, took: float, now: float) -> float:
        """Of calls that would take so long, how many fail: none at the timeout, all at twice of it."""
        for since, until in self.away:
            if since <= now < until:
                return 1.0
        return min(1.0, max(0.0, took / self.timeout_seconds - 1))


class Calls:
    """The orders that are in the database at the moment, and what the workers count of its answers."""

    def __init__(self, database: Database, step_seconds: float, rng: random.Random) -> None:
        self._database = database
        self._dt = step_seconds
        self._rng = rng
        self._able = 0.0  # parts of an order that it could have done
        self._usual = bisect_left(BOUNDS, database.call_seconds)
        self.inside = 0
        self.errors = 0
        self.wait_seconds = 0.0
        self.took = [0] * (len(BOUNDS) + 1)

    def rough(self, now: float) -> bool:
        """Orders do not just pass through: some are inside, or all of them fail."""
        return self.inside > 0 or self._database.error_share(0.0, now) > 0

    def at_once(self, count: int) -> None:
        """So many orders just pass through."""
        self.took[self._usual] += count

    def step(self, count: int, in_hand: int, now: float) -> tuple[int, int, int]:
        """So many would begin, and no more can be inside than workers have in hand.

        Returns how many began, how many ended, and how many of these failed.
        """
        database, dt = self._database, self._dt
        able = database.capacity(self.inside, now) * dt
        self._able += able
        count = max(0, min(count, int(in_hand - self.inside + able)))
        inside = self.inside + count
        ended = min(inside, int(self._able))
        self._able = min(self._able - ended, 1.0)
        inside -= ended
        took = database.call_seconds + inside * dt / able if able else inf
        share = database.error_share(took, now)
        failed = min(ended, int(ended * share + self._rng.random())) if share else 0
        self.took[bisect_left(BOUNDS, took)] += ended
        waiting = max(0, inside - database.connections)
        if waiting and able:
            self.wait_seconds += ended * waiting * dt / able
        self.errors += failed
        self.inside = inside
        return count, ended, failed
