"""A pool on a virtual clock: arrivals, a queue, workers under one limiter, and the real control loop around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from peakclip.errors import UnavailableError
from peakclip.messages import PoolStatus
from peakclip_operator.loop import ControlLoop
from peakclip_operator.plan import Lag, PoolSpec, Totals
from peakclip_operator.ports import PaceReading, Ports, Telemetry, Workers, WorkerSample

_STEP_SECONDS = 0.05


@dataclass
class Pool:
    """The world. Every port of the loop is answered from here; `per_worker` is the truth that the loop must find."""

    spec: PoolSpec
    arrivals: Callable[[float], float]
    """Messages per second at a time."""
    per_worker: float = 22.0
    noise: float = 0.0
    """Standard deviation of the speed of one worker from one moment to the next, as a share."""
    limit: float = 100.0
    start_seconds: float = 0.1
    telemetry_seconds: float = 1.0
    lag_known: bool = True
    overhead: float = 0.0
    """Share of a worker's time that its telemetry does not call busy, and that it needs all the same."""
    now: float = 1000.0
    stored: float = 0.0
    finished: float = 0.0
    busy_seconds: float = 0.0
    ready_at: list[float] = field(default_factory=list)
    history: list[PoolStatus] = field(default_factory=list)
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def __post_init__(self) -> None:
        self._told = Totals(0, 0, 0.0)
        self._told_at = self.now
        self._credit = 0.0
        ports = Ports(
            lag=_LagPort(self),
            delayed=_DelayedPort(),
            telemetry=_TelemetryPort(self),
            scaler=_ScalerPort(self),
            pace=_PacePort(self),
            pace_sink=_PacePort(self),
            status=_StatusPort(self),
        )
        self.loop = ControlLoop("simulated", self.spec, ports, clock=lambda: self.now, tick_seconds=0.5)

    async def run(self, seconds: float) -> list[PoolStatus]:
        """The statuses of this stretch, two a second."""
        first = len(self.history)
        for _ in range(round(seconds / 0.5)):
            for _ in range(round(0.5 / _STEP_SECONDS)):
                self._step()
            await self.loop.tick()
        return self.history[first:]

    @property
    def waiting(self) -> int:
        return int(self.stored) - int(self.finished)

    def _step(self) -> None:
        self.now += _STEP_SECONDS
        self.stored += self.arrivals(self.now) * _STEP_SECONDS
        working = sum(ready_at <= self.now for ready_at in self.ready_at)
        # The workers are slow and fast independently of each other.
        speed = self.per_worker * max(0.1, 1 + self.random.gauss(0, self.noise / max(1, working) ** 0.5))
        # Nothing is banked: what the workers leave of R in this step is gone.
        done = min(
            self.stored - self.finished,
            self.limit * _STEP_SECONDS,
            working * speed * (1 - self.overhead) * _STEP_SECONDS,
        )
        self.finished += done
        self.busy_seconds += done / speed
        if self.now - self._told_at >= self.telemetry_seconds:
            self._told, self._told_at = Totals(int(self.finished), 0, self.busy_seconds), self.now


@dataclass
class _LagPort:
    pool: Pool

    async def read(self) -> Lag:
        if not self.pool.lag_known:
            raise UnavailableError
        in_flight = min(self.pool.waiting, len(self.pool.ready_at))
        return Lag(
            ready=self.pool.waiting - in_flight,
            in_flight=in_flight,
            last_seq=int(self.pool.stored),
            finished_seq=int(self.pool.finished),
        )


@dataclass
class _DelayedPort:
    async def read(self) -> int:
        return 0


@dataclass
class _TelemetryPort:
    pool: Pool

    async def read(self, now: float) -> Telemetry:
        return Telemetry(self.pool._told, ())


@dataclass
class _ScalerPort:
    pool: Pool

    async def current(self) -> Workers:
        running = sum(ready_at <= self.pool.now for ready_at in self.pool.ready_at)
        return Workers(running=running, starting=len(self.pool.ready_at) - running)

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        del self.pool.ready_at[replicas:]
        missing = replicas - len(self.pool.ready_at)
        self.pool.ready_at.extend([self.pool.now + self.pool.start_seconds] * missing)


@dataclass
class _PacePort:
    pool: Pool

    async def read(self) -> PaceReading:
        return PaceReading(self.pool.limit, self.pool.limit, paused=False)

    async def set_effective(self, per_second: float) -> None:
        raise AssertionError("the first version of the plan never lowers the rate by itself")


@dataclass
class _StatusPort:
    pool: Pool

    async def publish(self, status: PoolStatus) -> None:
        self.pool.history.append(status)
