"""Watches a soak: what clients and the database say, put into the view."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from faults.history.record import Kind
from faults.nemesis.plan import Fault
from faults.soak.tally import Step
from faults.soak.view import View

from peakclip.local.stack import TENANT
from peakclip.store import DATABASE_AWAY

EXACT_SECONDS: Final = 60.0  # between two counts of all rows
_LATE_SECONDS: Final = 5.0  # an order may be committed so long after its time, and behind later ones
_RATE_SECONDS: Final = 10.0  # over which rates are told
_COMMITTED: Final = (
    "select count(*) as rows, count(*) filter (where committed_at <= to_timestamp($3)) as before,"
    " extract(epoch from max(committed_at))::float8 as newest from orders"
    " where tenant = $1 and committed_at > to_timestamp($2)"
)
_GONE_THROUGH: Final = (
    "select order_id::text, extract(epoch from committed_at)::float8 as at from orders"
    " where order_id = any($1::uuid[]) order by committed_at"
)
_CANCELLATIONS: Final = "select coalesce(sum(cancellations), 0)::int8 from daily_figures"


@dataclass
class Watch:
    """Hears the crowd and the nemesis."""

    view: View
    database: Any
    clock: Callable[[], float] = time.time  # epoch seconds
    _answers: int = 0  # yes, of waves under way
    _told: int = 0  # orders that clients know, of waves that are over
    _base: tuple[int, float] = (0, 0.0)  # rows up to this time: they are not counted again
    _newest: float = 0.0
    _probes: dict[str, float] = field(
        default_factory=dict
    )  # orders on their way, and when they were accepted
    _counted_at: float = float("-inf")
    _series: deque[tuple[float, int, int | None]] = field(default_factory=deque)

    # -- the crowd -----------------------------------------------------------------------------------------

    def accepted(self, answers: int) -> None:
        self._answers += answers
        self._count()

    def probe(self, order_id: str, sent_at: float) -> None:
        now = self.clock()
        self._probes[order_id] = now
        self.view.faults.took(Step.ACCEPTED, sent_at, now)

    def wave(self, orders: int, answers: int, retries: int, causes: Counter[str]) -> None:
        self._told += orders
        self._answers -= answers
        self.view.counts.retried(retries, causes)
        self._count()

    def _count(self) -> None:
        """Answers of waves under way may be to requests that were sent twice."""
        self.view.counts.accepted = self._told + max(0, self._answers)

    def acted(self, kind: Kind, orders: int) -> None:
        if kind is Kind.PAY:
            self.view.counts.paid += orders
        elif kind is Kind.CANCEL:
            self.view.counts.cancelled += orders

    # -- the nemesis ---------------------------------------------------------------------------------------

    def begins(self, fault: Fault) -> None:
        self.view.faults.begins(fault)

    def ends(self, fault: Fault, *, missed: bool) -> None:
        self.view.faults.ends(fault, self.clock(), missed=missed)

    def says(self, words: str) -> None:
        pass

    # -- the database --------------------------------------------------------------------------------------

    async def look(self, now: float) -> None:
        """`now`: seconds of a clock that only goes on. Of a database that is away nothing is known."""
        counts = self.view.counts
        try:
            if now - self._counted_at >= EXACT_SECONDS:
                self._base, self._counted_at = (0, 0.0), now
            below, since = self._base
            until = max(since, self._newest - _LATE_SECONDS)
            found = await self.database.fetchrow(_COMMITTED, TENANT, since, until)
            rows = below + found["rows"]
            self._base, self._newest = (below + found["before"], until), found["newest"] or self._newest
            counts.cancellations = await self.database.fetchval(_CANCELLATIONS)
            for row in await self.database.fetch(_GONE_THROUGH, list(self._probes)):
                self.view.faults.took(Step.THROUGH, self._probes.pop(row["order_id"]), row["at"])
        except DATABASE_AWAY:
            counts.committed = None
        else:
            counts.committed = rows
            self.view.faults.took(Step.COMMITTED, self._newest, self._newest)
        self._rates(now)

    def _rates(self, now: float) -> None:
        series, counts = self._series, self.view.counts
        series.append((now, counts.accepted, counts.committed))
        while len(series) > 2 and now - series[1][0] >= _RATE_SECONDS:
            series.popleft()
        then, accepted, committed = series[0]
        if (passed := now - then) <= 0:
            return
        self.view.accepted_rate = (counts.accepted - accepted) / passed
        known = None if committed is None or counts.committed is None else counts.committed - committed
        self.view.committed_rate = None if known is None else known / passed
