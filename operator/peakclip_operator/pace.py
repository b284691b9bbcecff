"""The pool's pace in the key-value bucket, as the loop wants it."""

from __future__ import annotations

from typing import TypedDict

import structlog

from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.limiter import grid
from peakclip.limiter.pace import Pace, Share, read_pace, set_pace
from peakclip_operator.ports import PaceReading

log = structlog.get_logger()


class NatsPace:
    """Source and sink in one."""

    def __init__(self, js: JetStream, pool: str) -> None:
        self._js = js
        self._pool = pool

    async def read(self) -> PaceReading:
        """Raises PeakclipError when there is none or NATS does not answer, DecodeError for nonsense."""
        found = await read_pace(self._js, self._pool)
        if found is None:
            raise PeakclipError(f"No rate is set for the pool {self._pool}.")
        return reading(found[0])

    async def set_effective(self, per_second: float) -> None:
        await set_pace(self._js, self._pool, effective_per_second=per_second)

    async def prepare(self, wanted: float | None, default: float, group: str | None = None) -> None:
        """Sets the limit to `wanted`; without a wish, to the default, and only when none was ever set. With a group,
        the pool joins it before anything starts; without, it leaves the one that it was in."""
        found = await read_pace(self._js, self._pool)
        pace = found[0] if found else None
        change = membership(pace, group)
        if wanted is None and pace is None:
            wanted = default
        if wanted is None and not change:
            return
        pace = await set_pace(self._js, self._pool, limit_per_second=wanted, **change)
        log.info("limit_set", pool=self._pool, limit_per_second=pace.limit_per_second, shared=group)


def reading(pace: Pace) -> PaceReading:
    effective = pace.effective_per_second
    # While paused the batch is that of the limit: it is what comes next.
    rate = grid.rate_milli(effective or pace.limit_per_second)
    return PaceReading(
        limit_per_second=pace.limit_per_second,
        effective_per_second=effective,
        paused=pace.paused,
        burst=pace.burst,
        batch=grid.chunk(rate, pace.burst) if rate else 1,
        share_per_second=pace.share.per_second if pace.share else None,
    )


class Membership(TypedDict, total=False):
    share: Share
    alone: bool


def membership(pace: Pace | None, group: str | None) -> Membership:
    """What to change so that the pool is of this group or of none; nothing if it is.

    It joins with a share of nothing: what it gets comes from the one who looks after the group, and is in its ledger.
    """
    known = pace.share.group if pace is not None and pace.share is not None else None
    if known == group:
        return {}
    return {"alone": True} if group is None else {"share": Share(group, 0.0)}
