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

    @property
    def total(self) -> int:
        return self.ready + self.in_flight


@dataclass(frozen=True, slots=True)
class Totals:
    """Telemetry of all workers added up since the controller's start. Only ever grows, whoever dies."""

    finished: int
    failed: int
    busy_seconds: float
    """Time spent on messages, the wait for the limiter excluded: throttled is not slow."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the ports said at this tick."""

    lag: Lag | None = None
    totals: Totals | None = None
    replicas: int | None = None
    """Workers that run or start, the draining ones not counted."""
