"""Settings of the operator on one machine. Read from PEAKCLIP_* variables."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic_settings import NoDecode, SettingsConfigDict

from peakclip import topology
from peakclip.limiter import grid
from peakclip.settings import Settings
from peakclip_operator.plan import PoolSpec

_OVERHEAD_SECONDS = 0.006  # a batch's commit and its acknowledgements, before anything was measured


class PoolSettings(pydantic.BaseModel):
    """What is set for one pool. Names of variables: PEAKCLIP_EFFECTS_RATE, PEAKCLIP_REAPER_MAX_WORKERS."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True, validate_default=True)

    rate: float | None = pydantic.Field(default=None, gt=0)
    """R to set at the start. Absent: what was set last stays, and the pool's default where nothing ever was."""

    min_workers: int = pydantic.Field(default=1, ge=1)
    """At least one, so that the first message finds somebody."""

    max_workers: int = pydantic.Field(default=4, ge=1, le=1000)
    """Enough for the pool's default rate, and few enough to leave the machine to the orders."""

    priority: int = pydantic.Field(default=0, ge=0, le=1000)
    """With a shared rate: pools of a higher priority go first, those of the same one divide by weight."""

    weight: int = pydantic.Field(default=1, ge=1, le=1000)
    """With a shared rate: what the pool gets beside others of its priority."""

    guaranteed_rate: float = pydantic.Field(default=0.0, ge=0)
    """With a shared rate: this much it gets whenever it has a use for it, whatever the priorities are."""

    @pydantic.field_validator("max_workers")
    @classmethod
    def _not_below_the_minimum(cls, most: int, info: pydantic.ValidationInfo) -> int:
        if most < info.data.get("min_workers", 1):
            raise ValueError("must not be below the MIN_WORKERS of this pool")
        return most


class OperatorSettings(Settings):
    """Durations are seconds, rates are messages per second. Without the name of a pool: the pool `orders`."""

    # PEAKCLIP_EFFECTS_MAX_WORKERS is `effects.max_workers`.
    model_config = SettingsConfigDict(env_nested_delimiter="_", env_nested_max_split=1)

    pools: Annotated[tuple[str, ...] | None, NoDecode] = None
    """Which pools to look after, with commas in between. Absent: all that the installed worker knows."""

    rate: float | None = pydantic.Field(default=None, gt=0)
    """R to set at the start. Absent: what was set last stays, and 100 where nothing ever was."""

    shared_rate: float | None = pydantic.Field(default=None, ge=0.1, le=grid.GREATEST_RATE)
    """One R for all pools together, since all of them write to one database: what one does not use, the others have.
    Each keeps its own rate as a bound. Absent: each pool's rate is its own."""

    min_workers: int = pydantic.Field(default=1, ge=1)
    """At least one, so that the first order of a burst finds somebody."""

    max_workers: int = pydantic.Field(default=20, ge=1, le=1000)
    """What the machine can carry; not a rate limit, R is."""

    priority: int = pydantic.Field(default=10, ge=0, le=1000)
    """Of the pool `orders`, with a shared rate: above the others, so that orders get all that they can use."""

    weight: int = pydantic.Field(default=1, ge=1, le=1000)
    """Of the pool `orders`, with a shared rate."""

    guaranteed_rate: float = pydantic.Field(default=0.0, ge=0)
    """Of the pool `orders`, with a shared rate."""

    effects: PoolSettings = PoolSettings()
    """Of the pool `effects`."""

    reaper: PoolSettings = PoolSettings()
    """Of the pool `reaper`."""

    worker_nats_url: str | None = None
    """`PEAKCLIP_NATS_URL` of the worker processes, who are another user on NATS. Absent: the operator's own."""

    work_ms: float = pydantic.Field(default=0.0, ge=0, le=60_000)
    """The workers' own setting, read here for a first guess at what one of them can do."""

    tick_seconds: float = pydantic.Field(default=0.2, ge=0.05, le=10)
    """From one look to the next: a burst waits half of it for its workers. At 0.2 s the operator was measured to
    use 0.7 % of a core for one pool and 1.2 % for three."""

    catch_up_seconds: float = pydantic.Field(default=120.0, gt=0)
    """A backlog is to be gone after this long, if R allows it."""

    utilization: float = pydantic.Field(default=0.7, gt=0, le=0.83)
    """Share of a worker's time that may be planned; bounds the pool at R / (rate of a worker * utilization)."""

    stabilization_seconds: float = pydantic.Field(default=60.0, ge=0)
    """How long a worker is kept after it was last needed, because bursts come in waves."""

    drain_seconds: float = pydantic.Field(default=20.0, gt=0)
    """A worker that was asked to end is killed after this long. Longer than the worker's own 15 s."""

    @pydantic.field_validator("pools", mode="before")
    @classmethod
    def _names_of_pools(cls, given: object) -> object:
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
        if isinstance(names, (list, tuple)) and (not names or not set(names) <= set(topology.POOLS)):
            raise ValueError(f"must be names of pools: {', '.join(topology.POOLS)}")
        return names

    @pydantic.field_validator("max_workers")
    @classmethod
    def _not_below_the_minimum(cls, most: int, info: pydantic.ValidationInfo) -> int:
        if most < info.data.get("min_workers", 1):
            raise ValueError("must not be below PEAKCLIP_MIN_WORKERS")
        return most

    def of(self, pool: str) -> PoolSettings:
        """What is set for a pool of `topology.POOLS`."""
        others = {topology.EFFECTS_POOL: self.effects, topology.REAPER_POOL: self.reaper}
        orders = PoolSettings(
            rate=self.rate,
            min_workers=self.min_workers,
            max_workers=self.max_workers,
            priority=self.priority,
            weight=self.weight,
            guaranteed_rate=self.guaranteed_rate,
        )
        return others[pool] if pool != topology.ORDERS_POOL else orders

    def spec(self, pool: str) -> PoolSpec:
        """The wish before the pace is known."""
        bounds = self.of(pool)
        work_ms = self.work_ms if pool == topology.ORDERS_POOL else 0.0
        return PoolSpec(
            min_replicas=bounds.min_workers,
            max_replicas=bounds.max_workers,
            utilization=self.utilization,
            catch_up_seconds=self.catch_up_seconds,
            stabilization_seconds=self.stabilization_seconds,
            prior_batch_seconds=work_ms / 1000 + _OVERHEAD_SECONDS,
        )
