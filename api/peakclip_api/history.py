"""What the API remembers of each pool's status: pure, no clock, no network.

All times are seconds on the clock of the process that remembers: when a status *arrived*, never when its
sender says it was written, so a controller whose clock is wrong cannot make old news look fresh.

Unknown is `None`: a pool whose newest status is older than `STALE_AFTER_SECONDS` has no numbers, only a last
word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from peakclip.messages import PoolStatus

STALE_AFTER_SECONDS: Final = 5.0  # ten missed ticks of a healthy controller
HISTORY_SECONDS: Final = 600.0  # what the charts show
SLOT_SECONDS: Final = 0.5  # one chart row at most per slot: the bound holds however fast statuses come
MAX_POOLS: Final = 64  # a bound, not a feature: more names than this are a mistake of some sender


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One point of the charts. Encoded as an array; `COLUMNS` names the places."""

    at: float
    arrival_per_second: float | None
    backlog: int | None
    drain_per_second: float | None
    effective_per_second: float
    burst: int | None
    workers_current: int | None
    workers_desired: int | None
    starts_max_sliding_second: int | None
    failed_total: int


COLUMNS: Final = Row.__struct_fields__


class PoolView(msgspec.Struct, frozen=True):
    """A pool at one moment. `status` is None when what is known is too old to be relied on."""

    known: bool
    age_seconds: float  # since the newest status arrived
    status: PoolStatus | None
    last_known: PoolStatus


class NatsMetrics(msgspec.Struct, frozen=True):
    """The four numbers of `GET /metrics/nats`; None means unknown."""

    pending: int | None = msgspec.field(name="PendingMessages")
    processed: int | None = msgspec.field(name="ProcessedTotal")
    failed: int | None = msgspec.field(name="FailedTotal")
    average_seconds: float | None = msgspec.field(name="AvgProcessingTime")


UNKNOWN: Final = NatsMetrics(None, None, None, None)


def backlog(status: PoolStatus) -> int | None:
    """Messages that are not finished: ready and in flight. Unknown if either is."""
    if status.lag_ready is None or status.lag_in_flight is None:
        return None
    return status.lag_ready + status.lag_in_flight


def row_of(status: PoolStatus, at: float) -> Row:
    return Row(
        at=round(at, 3),
        arrival_per_second=_short(status.arrival_per_second),
        backlog=backlog(status),
        drain_per_second=_short(status.drain_per_second),
        effective_per_second=round(status.effective_per_second, 3),
        burst=status.burst,
        workers_current=status.workers_current,
        workers_desired=status.workers_desired,
        starts_max_sliding_second=status.starts_max_sliding_second,
        failed_total=status.failed_total,
    )


class PoolHistory:
    """The newest status of one pool and at most `HISTORY_SECONDS / SLOT_SECONDS` rows before it."""

    def __init__(self, status: PoolStatus, now: float) -> None:
        self._rows: deque[Row] = deque(maxlen=int(HISTORY_SECONDS / SLOT_SECONDS))
        self.add(status, now)

    def add(self, status: PoolStatus, now: float) -> None:
        self.status, self.arrived_at = status, now
        row = row_of(status, now)
        if self._rows and _slot(self._rows[-1].at) == _slot(now):
            self._rows[-1] = row
        else:
            self._rows.append(row)

    def rows(self, now: float) -> list[Row]:
        return [row for row in self._rows if now - row.at <= HISTORY_SECONDS]

    def view(self, now: float) -> PoolView:
        age = max(0.0, now - self.arrived_at)
        known = age <= STALE_AFTER_SECONDS
        return PoolView(known, round(age, 3), self.status if known else None, self.status)


class Histories:
    """All pools. A pool that has been silent for longer than the history is forgotten."""

    def __init__(self) -> None:
        self._pools: dict[str, PoolHistory] = {}

    def add(self, status: PoolStatus, now: float) -> bool:
        """False if there are too many pools to remember another one."""
        self._forget(now)
        if (history := self._pools.get(status.pool)) is not None:
            history.add(status, now)
        elif len(self._pools) >= MAX_POOLS:
            return False
        else:
            self._pools[status.pool] = PoolHistory(status, now)
        return True

    def latest(self, pool: str, now: float) -> PoolStatus | None:
        history = self._pools.get(pool)
        return history.status if history and now - history.arrived_at <= STALE_AFTER_SECONDS else None

    def views(self, now: float) -> dict[str, PoolView]:
        self._forget(now)
        return {name: self._pools[name].view(now) for name in sorted(self._pools)}

    def rows(self, now: float) -> dict[str, list[Row]]:
        self._forget(now)
        return {name: self._pools[name].rows(now) for name in sorted(self._pools)}

    def _forget(self, now: float) -> None:
        silent = [name for name, pool in self._pools.items() if now - pool.arrived_at > HISTORY_SECONDS]
        for name in silent:
            del self._pools[name]


def nats_metrics(view: PoolView) -> NatsMetrics:
    status = view.status
    if status is None:
        return UNKNOWN
    return NatsMetrics(
        backlog(status), status.processed_total, status.failed_total, status.average_processing_seconds
    )


def total_metrics(pools: Mapping[str, NatsMetrics]) -> NatsMetrics:
    """Over all pools; a sum with an unknown part is unknown. The mean is weighted by what was processed.

    Example: 300 at 0.1 s and 100 at 0.5 s are 400 at (30 + 50) / 400 = 0.2 s.
    """
    if not pools:
        return UNKNOWN
    parts = list(pools.values())
    return NatsMetrics(
        _sum([part.pending for part in parts]),
        _sum([part.processed for part in parts]),
        _sum([part.failed for part in parts]),
        _mean([(part.processed, part.average_seconds) for part in parts]),
    )


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _mean(parts: list[tuple[int | None, float | None]]) -> float | None:
    # A pool that has processed nothing has no average, and does not make the others' unknown.
    working = [part for part in parts if part[0] != 0] or parts
    known = [(count, mean) for count, mean in working if count is not None and mean is not None]
    if len(known) != len(working):
        return None
    total = sum(count for count, _ in known)
    return sum(count * mean for count, mean in known) / total if total else known[0][1]


def _slot(at: float) -> int:
    return int(at // SLOT_SECONDS)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
