"""What happens in a run, as data. Durations in seconds, rates in orders per second."""

from __future__ import annotations

from dataclasses import dataclass

from peakclip.limiter.grid import chunk, default_burst, rate_milli
from peakclip_operator.plan import PoolSpec
from peakclip_operator.simulation.arrivals import Trace
from peakclip_operator.simulation.database import Database

Span = tuple[float, float]  # from, to

HEALTHY = Database()


@dataclass(frozen=True, slots=True)
class Restart:
    """The controller is away for so long, and comes back with or without its memory."""

    at: float
    seconds: float
    memory_kept: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run is this and a seed. Every time is counted from the beginning of the run."""

    name: str
    arrivals: Trace
    words: str = ""
    """What it shows, in a line."""
    seed: int = 1
    poisson: bool = True
    """False: the orders of a second come evenly."""

    limit_per_second: float = 100.0
    """R."""
    limits: tuple[Span, ...] = ()
    """From a second on another R. Batches stay as they are, so both are below 200/s, or near to each other."""
    min_replicas: int = 1
    max_replicas: int = 20
    catch_up_seconds: float = 120.0
    stabilization_seconds: float = 60.0
    told_start_seconds: float = 1.5
    """What the pool is told of the time that a worker takes to start."""
    prior_work_seconds: float = 0.05
    """What it is told of the work on a batch, until it has seen some."""

    work: tuple[Span, ...] = ((0.0, 0.0433),)
    """From a second on, what a worker takes for a batch."""
    work_noise: float = 0.3
    """Standard deviation of the time of one batch, as a share of its mean."""
    contention: tuple[Span, ...] = ()
    """With so many workers busy each takes so many times longer; straight lines in between. Empty: they do not meet."""
    start_seconds: float = 1.5
    """From the wish for a worker to one that works."""
    drain_seconds: float = 0.5
    """From the wish for one less to its end; it takes no order in this time."""
    fits: int | None = None
    """There is room for so many workers; the others never start. None: for all."""
    never_start: float = 0.0
    """Of the starts, the share that hangs for ever, until it is given back."""
    database: Database = HEALTHY

    crashes: tuple[tuple[float, int], ...] = ()
    """So many workers die at once."""
    crashes_per_hour: float = 0.0
    """Of each worker, at random."""
    ack_wait_seconds: float = 10.0
    """What a dead worker had in hand comes back after this."""
    retry_seconds: float = 2.0
    """What the database did not do is tried again after this."""

    telemetry_lost: float = 0.0
    """Share of the words of workers that nobody hears."""
    telemetry_late: float = 0.0
    telemetry_out: tuple[Span, ...] = ()
    """Stretches in which no word is heard."""
    lag_unknown: tuple[Span, ...] = ()
    restarts: tuple[Restart, ...] = ()

    slo_seconds: float = 120.0
    """An order that waits longer than this for its start is a miss."""
    tick_seconds: float = 0.5
    """The autoscaler is asked once in this time."""
    turns: int = 2
    """How often the wanted number may change its direction: what in this scenario calls for it, and no more."""

    @property
    def seconds(self) -> int:
        return len(self.arrivals)

    @property
    def burst(self) -> int:
        """Starts above R that a sliding second may hold."""
        return default_burst(self.greatest_limit)

    @property
    def greatest_limit(self) -> float:
        return max([self.limit_per_second, *(limit for _, limit in self.limits)])

    @property
    def batch(self) -> int:
        """Orders that a worker starts together."""
        return chunk(rate_milli(self.limit_per_second), default_burst(self.limit_per_second))

    def spec(self) -> PoolSpec:
        """The wish, as the pool's owner would write it."""
        return PoolSpec(
            limit_per_second=self.limit_per_second,
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            catch_up_seconds=self.catch_up_seconds,
            stabilization_seconds=self.stabilization_seconds,
            start_seconds=self.told_start_seconds,
            prior_batch_seconds=self.prior_work_seconds,
            batch=self.batch,
        )

    def limit_at(self, now: float) -> float:
        """R at this time."""
        limit = self.limit_per_second
        for since, per_second in self.limits:
            if now >= since:
                limit = per_second
        return limit

    def work_seconds(self, now: float) -> float:
        """What a worker takes for a batch at this time, alone on its machine."""
        took = self.work[0][1]
        for since, seconds in self.work:
            if now >= since:
                took = seconds
        return took

    def slower(self, busy: float) -> float:
        """How many times longer work takes with as many workers busy."""
        if not self.contention:
            return 1.0
        before, longer = self.contention[0]
        if busy <= before:
            return longer
        for most, times in self.contention[1:]:
            if busy <= most:
                return longer + (times - longer) * (busy - before) / (most - before)
            before, longer = most, times
        return longer
