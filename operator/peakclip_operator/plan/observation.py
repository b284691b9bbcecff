"""What is known of a pool at one moment. None means unknown and is never read as zero."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lag:
    """One look at the consumer and its stream, taken from their leaders."""

    ready: int
    """Not yet delivered."""

    in_flight: int
    """Delivered and not yet finished; a failed message that waits for its retry is among them."""

    last_seq: int
    """Messages ever stored: grows with the arrivals."""

    finished_seq: int
    """Messages ever finished: grows with the drain."""

    oldest_seconds: float | None = None
    """Age of the oldest unfinished message; None if there is none or its time could not be read."""

    redelivered: int | None = None
    """Of those in flight, how many were delivered before: a worker died, or the message is poison."""

    floor_seq: int | None = None
    """Every message up to here is finished."""

    @property
    def total(self) -> int:
        return self.ready + self.in_flight


@dataclass(frozen=True, slots=True)
class DatabaseTotals:
    """How the database answered all workers, added up like `Totals`."""

    calls: int
    """Transactions that were tried."""

    errors: int
    """Of these, the ones that the database did not do: away, out of connections, timed out. A message that is refused
    for what it says is none."""

    wait_seconds: float
    """Time spent waiting for a connection of the worker's pool, over all calls."""

    took: tuple[int, ...]
    """Calls by how long they took: one number for each of `bounds`, and one for those above the last."""

    bounds: tuple[float, ...]
    """Upper bounds in seconds, ascending."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Telemetry of all workers added up since the controller's start. Only ever grows, whoever dies."""

    finished: int
    failed: int
    busy_seconds: float
    """Time spent on messages, the wait for the limiter excluded: throttled is not slow."""

    database: DatabaseTotals | None = None
    """None: those who speak tell nothing of a database, or not any more."""

    batches: int | None = None
    """How often something was started; None: these workers do not tell, and every batch counts as a full one."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the ports said at this tick."""

    lag: Lag | None = None
    totals: Totals | None = None
    replicas: int | None = None
    """Workers that run or start, the draining ones not counted."""

    ready: int | None = None
    """Of these, the ones that work."""

    delayed: int | None = None
    """Messages that wait for the time of another attempt: no worker can do anything for them yet."""

    scheduled: int | None = None
    """Messages that wait for a time of their own, such as the one to expire."""
