"""Settings of the operator on one machine. Read from PEAKCLIP_* variables."""

from __future__ import annotations

import pydantic

from peakclip import topology
from peakclip.settings import Settings
from peakclip_operator.plan import PoolSpec

_OVERHEAD_SECONDS = 0.006  # a batch's commit and its acknowledgements, before anything was measured


class OperatorSettings(Settings):
    """Durations are seconds, rates are messages per second."""

    pool: str = topology.ORDERS_POOL
    """Which pool to look after."""

    rate: float | None = pydantic.Field(default=None, gt=0)
    """R to set at the start. Absent: what was set last stays, and 100 where nothing ever was."""

    min_workers: int = pydantic.Field(default=1, ge=1)
    """At least one, so that the first order of a burst finds somebody."""

    max_workers: int = pydantic.Field(default=20, ge=1, le=1000)
    """What the machine can carry; not a rate limit, R is."""

    work_ms: float = pydantic.Field(default=0.0, ge=0, le=60_000)
    """The workers' own setting, read here for a first guess at what one of them can do."""

    tick_seconds: float = pydantic.Field(default=0.2, ge=0.05, le=10)
    """From one look to the next: a burst waits half of it for its workers. At 0.2 s the operator was measured to
    use less than 1 % of a core."""

    catch_up_seconds: float = pydantic.Field(default=120.0, gt=0)
    """A backlog is to be gone after this long, if R allows it."""

    utilization: float = pydantic.Field(default=0.7, gt=0, le=0.9)
    """Share of a worker's time that may be planned; bounds the pool at R / (rate of a worker * utilization)."""

    stabilization_seconds: float = pydantic.Field(default=60.0, ge=0)
    """How long a worker is kept after it was last needed, because bursts come in waves."""

    drain_seconds: float = pydantic.Field(default=20.0, gt=0)
    """A worker that was asked to end is killed after this long. Longer than the worker's own 15 s."""

    @pydantic.field_validator("max_workers")
    @classmethod
    def _not_below_the_minimum(cls, most: int, info: pydantic.ValidationInfo) -> int:
        if most < info.data.get("min_workers", 1):
            raise ValueError("must not be below PEAKCLIP_MIN_WORKERS")
        return most

    def spec(self) -> PoolSpec:
        """The wish before the pace is known."""
        return PoolSpec(
            min_replicas=self.min_workers,
            max_replicas=self.max_workers,
            utilization=self.utilization,
            catch_up_seconds=self.catch_up_seconds,
            stabilization_seconds=self.stabilization_seconds,
            prior_batch_seconds=self.work_ms / 1000 + _OVERHEAD_SECONDS,
        )
