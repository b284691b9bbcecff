"""What is wanted of a pool. Rates are messages per second, durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StepLimit:
    """At most so many workers in one direction within any stretch of this length."""

    pods: int
    period_seconds: float

    def __post_init__(self) -> None:
        if self.pods < 1 or self.period_seconds <= 0:
            raise ValueError("A limit of steps is at least one worker in more than no time.")


@dataclass(frozen=True, slots=True)
class Fallback:
    """What to do when the lag has been unknown for long. Until then, and by default, the number is held."""

    after_seconds: float = 30.0
    policy: Literal["Hold", "Floor", "Fixed"] = "Hold"
    """Hold: as it is. Floor: at least `replicas`. Fixed: exactly `replicas`."""
    replicas: int | None = None

    def __post_init__(self) -> None:
        if (self.policy == "Hold") != (self.replicas is None):
            raise ValueError("The policies Floor and Fixed name a number of workers, and Hold names none.")


@dataclass(frozen=True, slots=True)
class Override:
    """What somebody who stands at the pool asked for: it goes before every decision."""

    hold: bool = False
    """Nobody scales but by hand: whatever number is found is kept."""

    replicas: int | None = None
    """This number, and no other. Never above the maximum; below the minimum is allowed."""

    no_scale_down: bool = False
    """Up, but not down."""


@dataclass(frozen=True, slots=True)
class Health:
    """When the database suffers, and what is done about it: additive increase, multiplicative decrease of the rate in
    force, with R as the ceiling."""

    enabled: bool = True
    most_error_share: float = 0.05
    """More calls than this that the database did not do are too many."""
    most_wait_seconds: float = 0.25
    """A longer wait for a connection, on the average, is too long."""
    most_p95_seconds: float = 1.0
    """Slower calls than this, one in twenty, are too slow: as exact as the histogram, whose next bound counts."""
    interval_seconds: float = 5.0
    """One step at most in this time, so that what it did is seen first."""
    decrease: float = 0.7
    """A step down: times this."""
    increase: float = 0.05
    """A step up: this share of R."""
    least_share: float = 0.05
    """Never below this share of R, or of the pool's share of R: without calls nobody would see that the database is
    well again."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A scale-up is to bring throughput. One that does not is taken back, and none is tried for a while."""

    enabled: bool = True
    least_share: float = 0.1
    """Of the throughput that the new workers promised; less is none."""
    block_seconds: float = 60.0
    """No other try for this long; twice as long after each one in vain."""
    longest_block_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Period:
    """A time of the week in which the number of workers is left alone."""

    start_minute: int
    """Minutes after midnight."""
    end_minute: int
    """Exclusive; at or before `start_minute`: on the next day."""
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """Days on which it begins, Monday is 0."""
    zone: str = "UTC"
    """Name in the time zone database."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The wish, with R taken from the live pace. Raises ValueError for a wish that contradicts itself."""

    limit_per_second: float = 100.0
    """R: what the database was sized for, over all workers together."""

    effective_per_second: float | None = None
    """What is in force at this moment, never above R in its effect; None means R itself."""

    paused: bool = False
    """Nothing may start: the number of workers is held so that resuming is immediate."""

    advise: bool = False
    """The loop decides and tells, and touches neither the workers nor the rate."""

    min_replicas: int = 1
    """0: the pool ends its last worker when nothing waits, and starts at once when something does."""
    max_replicas: int = 20

    scale_up: StepLimit | None = None
    """None: up at once, as far as needed."""

    scale_down: StepLimit | None = None
    """None: all that the stabilization gives back, at once."""

    fallback: Fallback = Fallback()
    override: Override = Override()
    health: Health = Health()
    effect: Effect = Effect()

    share_per_second: float | None = None
    """What other pools of the same R leave to this one; None: R is its own."""

    activation_replicas: int = 1
    """From none, at least so many at once."""

    excluded: tuple[Period, ...] = ()
    """Times in which nobody is started or ended. The rate goes on."""

    utilization: float = 0.7
    """Share of a worker's time that may be planned. Bounds the pool: more than R / (mu * utilization) workers
    could only wait for each other's share of R."""

    spare: float = 0.2
    """Capacity on top of what is wanted. A start that no worker is free to take is lost (nothing is banked),
    so a pool that can do exactly R in the mean does less than R."""

    tolerance: float = 0.05
    """A need this little above the present capacity is noise and adds no worker."""

    catch_up_seconds: float = 120.0
    """A backlog is to be gone after this long, if R allows it."""

    start_seconds: float = 0.5
    """From the decision to a worker that works."""

    panic_window_seconds: float = 6.0
    """Window of the arrival and drain rates: a burst is seen in the tick it arrives in."""

    worker_window_seconds: float = 2.0
    """Window of the rate of one worker."""

    worker_settle_seconds: float = 4.0
    """A worker is taken for slower after this long of nothing but slower: longer than the window, so that a
    stall of less than the difference changes nothing."""

    forecast_window_seconds: float = 2.0
    """Window of the arrivals in the ETA, since shortly after a burst nothing arrives any more; and by which the first
    second of a burst is recognised."""

    stable_window_seconds: float = 60.0
    """Window of the arrivals that a calm pool goes by."""

    panic_threshold: float = 1.5
    """A pool is calm no longer when the panic window shows this many times the arrivals of the stable one, or as many
    times less."""

    persistent_seconds: float = 60.0
    """A message that was delivered again and holds back the rest for this long calls for no further worker."""

    stabilization_seconds: float = 60.0
    """A worker is given back when none of the decisions of this long wanted it."""

    gap_seconds: float = 5.0
    """Counters not seen for this long start again: a rate across a gap would be a guess."""

    batch: int = 1
    """Messages that a worker starts together; the limiter derives it from R."""

    prior_batch_seconds: float = 0.05
    """What a worker takes for a batch, before the first telemetry."""

    min_busy_seconds: float = 1.0
    min_batches: int = 20
    """The rate of a worker is measured once one of these two has been seen in the window."""

    def __post_init__(self) -> None:
        if self.max_replicas < 1 or not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                "The smallest number of workers may not exceed the largest, which is at least 1."
            )
        lowest, highest = self.min_replicas, self.max_replicas
        if self.fallback.replicas is not None and not lowest <= self.fallback.replicas <= highest:
            raise ValueError(f"The fallback's number of workers is between {lowest} and {highest}.")
        if not 0 < self.utilization <= 1 or self.spare < 0 or (1 + self.spare) * self.utilization > 1:
            raise ValueError("Utilization is between 0 and 1, and (1 + spare) * utilization is at most 1.")
        if min(self.catch_up_seconds, self.prior_batch_seconds, self.batch) <= 0:
            raise ValueError("The catch-up time, the batch and its prior time are above zero.")
        if self.limit_per_second < 0 or (self.effective_per_second or 0) < 0:
            raise ValueError("A limit is not negative.")

    @property
    def longest_window_seconds(self) -> float:
        return max(self.panic_window_seconds, self.worker_window_seconds, self.forecast_window_seconds)

    @property
    def rate_per_second(self) -> float:
        """R_effective: the limit in force, and never more than R."""
        if self.effective_per_second is None:
            return self.limit_per_second
        return min(self.limit_per_second, self.effective_per_second)
