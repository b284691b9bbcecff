"""What the loop asks of the world. An adapter that cannot answer raises; it never makes up a zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from peakclip.messages import PoolStatus
from peakclip_operator.plan import Lag, Memory, Totals


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """The newest word of a living worker."""

    worker: str
    pid: int
    at: float
    in_flight: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Telemetry:
    totals: Totals
    workers: Sequence[WorkerSample]
    starts_max_sliding_second: int | None = None
    """Of the whole pool, since the beginning; None while no worker tells of its starts."""
    starts_recent_most: int | None = None
    """The same of the last minute; None while nobody was heard in it."""
    most_at_once: int | None = None
    """A worker starts no more messages together, whatever R is; None: unknown, or no such limit."""
    finished_ever: int | None = None
    """Unlike in the totals, with what the workers did before this controller began, as far as they told of it; None:
    nobody tells, and the totals are all there is."""
    failed_ever: int | None = None


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes or pods of a pool. `running + starting` is what was asked for, less what has died."""

    running: int
    starting: int
    draining: int = 0


@dataclass(frozen=True, slots=True)
class PaceReading:
    limit_per_second: float
    effective_per_second: float
    paused: bool
    burst: int | None = None
    """Starts above the limit that a sliding second may hold."""
    batch: int = 1
    """How many messages a worker starts together at this rate."""
    share_per_second: float | None = None
    """What the pool may have of an R that it shares; None: R is its own."""


class LagSource(Protocol):
    async def read(self) -> Lag: ...


class DelayedSource(Protocol):
    async def read(self) -> int:
        """Messages that wait for the time of another attempt: they call for no worker yet."""
        ...


class ScheduledSource(Protocol):
    async def read(self) -> int:
        """Messages that wait for a time of their own."""
        ...


class TelemetrySource(Protocol):
    async def read(self, now: float) -> Telemetry: ...


class Scaler(Protocol):
    async def current(self) -> Workers: ...

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        """Starts what is missing; gives back the front of `idle_first` first. Does not wait for either."""
        ...


class PaceSource(Protocol):
    async def read(self) -> PaceReading: ...


class PaceSink(Protocol):
    async def set_effective(self, per_second: float) -> None: ...


class StatusSink(Protocol):
    async def publish(self, status: PoolStatus) -> None: ...


class MemoryStore(Protocol):
    """Keeps what the next decision rests on, for a controller that begins anew or takes over."""

    async def load(self, now: float) -> Memory | None:
        """What was saved last; None: nothing that is of use now. Raises as long as that cannot be known."""
        ...

    async def save(self, memory: Memory, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    lag: LagSource
    delayed: DelayedSource
    telemetry: TelemetrySource
    scaler: Scaler
    pace: PaceSource
    pace_sink: PaceSink
    status: StatusSink
    scheduled: ScheduledSource | None = None
    """None: the pool has no messages with a time of their own."""
    memory: MemoryStore | None = None
    """None: nothing is kept, every controller begins anew."""
