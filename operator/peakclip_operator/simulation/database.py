"""What the database can do. Its throughput falls when too much is asked of it at once. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

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
