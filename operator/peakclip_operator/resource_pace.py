"""The pace of a pool as its WorkerPool wants it: what stands there wins over what the bucket holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from peakclip.errors import PeakclipError, RefusedError
from peakclip.jetstream import STREAM_NOT_FOUND, JetStream
from peakclip.limiter.pace import Pace, Step, read_pace, set_pace
from peakclip_operator.pace import membership, reading
from peakclip_operator.ports import PaceReading

log = structlog.get_logger()


class NoBucketError(PeakclipError):
    """There is no bucket PACE: `peakclip migrate` makes it."""


@dataclass(frozen=True, slots=True)
class WantedPace:
    limit_per_second: float
    burst: int
    paused: bool
    enforced: bool
    """False: the advice is made for this pace, and another one in force is left alone."""
    group: str | None = None
    """Of pools that share an R; None: it shares with nobody."""


class ResourcePace:
    """Source and sink in one. `wanted` is asked at every look, so that an edit counts at the next tick."""

    def __init__(self, js: JetStream, pool: str, wanted: Callable[[], WantedPace]) -> None:
        self._js = js
        self._pool = pool
        self._wanted = wanted

    async def read(self) -> PaceReading:
        """Raises PeakclipError when the bucket is missing or NATS does not answer."""
        wanted = self._wanted()
        try:
            found = await read_pace(self._js, self._pool)
        except RefusedError as exc:
            if exc.code == STREAM_NOT_FOUND:
                raise NoBucketError from exc
            raise
        pace = found[0] if found else None
        if wanted.enforced and (pace is None or not _as_wanted(pace, wanted)):
            pace = await set_pace(
                self._js,
                self._pool,
                limit_per_second=wanted.limit_per_second,
                burst=wanted.burst,
                paused=wanted.paused,
                **membership(pace, wanted.group),
            )
            log.info(
                "pace_set",
                pool=self._pool,
                limit_per_second=pace.limit_per_second,
                burst=pace.burst,
                paused=pace.paused,
            )
        if pace is None:
            return as_if(wanted)
        return reading(pace)

    async def set_effective(self, per_second: float) -> None:
        if self._wanted().enforced:
            await set_pace(self._js, self._pool, effective_per_second=per_second)


def _as_wanted(pace: Pace, wanted: WantedPace) -> bool:
    return not membership(pace, wanted.group) and (pace.limit_per_second, pace.burst, pace.paused) == (
        wanted.limit_per_second,
        wanted.burst,
        wanted.paused,
    )


def as_if(wanted: WantedPace) -> PaceReading:
    """Of a pool that has no pace: as if the wish were in force."""
    limit, effective = wanted.limit_per_second, 0.0 if wanted.paused else wanted.limit_per_second
    return reading(Pace(limit, wanted.burst, wanted.paused, (Step(0.0, effective, wanted.burst),)))
