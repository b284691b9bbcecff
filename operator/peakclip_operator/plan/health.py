"""How much of R the database bears at the moment: additive increase, multiplicative decrease, R as the ceiling.

Worked numbers: R = 100. 7 of 100 calls failed within 5 s: 70/s. The next 5 s are well: 75/s, and after six such steps
R again. With a share of 10/s of it the first step is to 7/s, and the least is 0.5/s. The wait for the limiter is in
none of the numbers, so throttling is never taken for trouble.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from peakclip_operator.plan.observation import DatabaseTotals, Lag
from peakclip_operator.plan.spec import Health, PoolSpec

_FEW = 2  # one alone, among others that went well, is bad luck
_ONE_IN = 20  # calls: more than one in so many
_SILENT_SECONDS = 60.0
_LEAST_PER_SECOND = 0.001  # what the limiter can count


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database did in one interval."""

    calls: int
    errors: int
    wait_seconds: float
    """Mean wait for a connection."""
    p95_seconds: float | None
    """None: no call was timed."""
    slow: int = 0
    """Calls that were certainly slower than is bearable."""
    timed: int = 0
    """Calls whose time is known."""

    @property
    def error_share(self) -> float:
        return self.errors / self.calls


@dataclass(frozen=True, slots=True)
class Level:
    """The share of R in force, in messages per second, and the interval that is being watched."""

    limit: float | None = None
    """The R that it belongs to: another R is in force as it stands."""
    rate: float | None = None
    """None: R itself."""
    base: DatabaseTotals | None = None
    since: float | None = None
    """When the interval began, with these totals."""
    reading: Reading | None = None
    """Of the last whole interval."""
    trouble: str | None = None
    """errors, wait or slow; None: well, or unknown."""
    silent_since: float | None = None
    """Since when nobody has told of the database."""

    def observe(self, spec: PoolSpec, totals: DatabaseTotals | None, lag: Lag | None, now: float) -> Level:
        """The level after this tick. Unknown changes nothing; an empty queue lets it rise, since nothing can suffer."""
        limit, health = spec.limit_per_second, spec.health
        if self.limit != limit:
            return Level(limit, _found(spec) if self.limit is None else None, totals, now)
        if not health.enabled:
            return Level(limit)
        silent = (
            None if totals is not None else now if self.silent_since is None else min(self.silent_since, now)
        )
        if self.since is None or now < self.since or _begins_anew(self.base, totals):
            return replace(self, base=totals, since=now, silent_since=silent)
        if now - self.since < health.interval_seconds:
            return self if silent == self.silent_since else replace(self, silent_since=silent)
        reading = None if totals is None or self.base is None else read(self.base, totals, health)
        trouble = None if reading is None else judge(health, reading)
        rate = self.rate
        if spec.paused:
            pass  # nothing starts, so nothing is learnt
        elif trouble is not None:
            rate = _lowered(spec, rate)
        elif rate is not None:
            well = reading is not None or _nobody_suffers(lag, silent, now)
            rate = _raised(spec, rate) if well else max(rate, _least(spec))
        return Level(limit, rate, totals, now, reading or self.reading, trouble, silent)


def _most(spec: PoolSpec) -> float:
    """What may be in force, whatever the database bears: R, and no more than the share of it."""
    share = spec.share_per_second
    return spec.limit_per_second if share is None else min(spec.limit_per_second, share)


def _least(spec: PoolSpec) -> float:
    """It grows with the share: of what was the least of a tiny one there would be a call in minutes."""
    return max(_LEAST_PER_SECOND, spec.health.least_share * _most(spec))


def _lowered(spec: PoolSpec, rate: float | None) -> float:
    """From what is in force: a step down from R would be none to a pool whose share is a tenth of it."""
    before = _most(spec) if rate is None else min(rate, _most(spec))
    return max(_least(spec), before * spec.health.decrease)


def _raised(spec: PoolSpec, rate: float) -> float | None:
    """Beyond the share, too: what is a while ago says nothing of the burst for which the share will grow."""
    raised = max(rate, _least(spec)) + spec.health.increase * spec.limit_per_second
    return None if raised >= spec.limit_per_second else raised


def _nobody_suffers(lag: Lag | None, silent_since: float | None, now: float) -> bool:
    """Nothing is to be done, or those who work have long told nothing: they were replaced by others who never do."""
    if lag is not None and lag.total == 0:
        return True
    return silent_since is not None and now - silent_since >= _SILENT_SECONDS


def read(before: DatabaseTotals, after: DatabaseTotals, health: Health) -> Reading | None:
    """None without a call in between."""
    calls = after.calls - before.calls
    if calls == 0:
        return None
    counts = list(map(operator.sub, after.took, before.took))
    return Reading(
        calls=calls,
        errors=after.errors - before.errors,
        wait_seconds=(after.wait_seconds - before.wait_seconds) / calls,
        p95_seconds=percentile(counts, after.bounds, 0.95),
        # From the next class on: of the times in the one that holds the bound nobody knows on which side they are.
        slow=sum(counts[bisect_left(after.bounds, health.most_p95_seconds) + 1 :]),
        timed=sum(counts),
    )


def judge(health: Health, reading: Reading) -> str | None:
    """What is wrong, if anything."""
    enough = reading.errors >= _FEW or reading.errors == reading.calls
    if enough and reading.error_share > health.most_error_share:
        return "errors"
    if reading.calls >= _FEW and reading.wait_seconds > health.most_wait_seconds:
        return "wait"
    # Not by p95, which is a guess within its class: a database that is well would be held at the least for good.
    if reading.slow >= _FEW and reading.slow * _ONE_IN > reading.timed:
        return "slow"
    return None


def percentile(counts: Sequence[int], bounds: tuple[float, ...], share: float) -> float | None:
    """From a histogram, linear within its bucket; the one above the last bound ends at twice that. None: it is empty.

    Worked number: 90 up to 0.1 s and 10 up to 0.2 s: the 95th of a hundred is in the middle of the second, 0.15 s.
    """
    if not any(counts):
        return None
    sums, edges = list(accumulate(counts)), (0.0, *bounds, 2 * bounds[-1])
    wanted = share * sums[-1]
    bucket = bisect_left(sums, wanted)
    missing = sums[bucket] - wanted
    return edges[bucket + 1] - (edges[bucket + 1] - edges[bucket]) * missing / counts[bucket]


def _found(spec: PoolSpec) -> float | None:
    """What an earlier controller had lowered the rate to: a new one goes on from there."""
    effective = spec.effective_per_second
    lowered = bool(effective) and spec.rate_per_second < _most(spec)
    return effective if lowered and not spec.paused else None


def _begins_anew(base: DatabaseTotals | None, totals: DatabaseTotals | None) -> bool:
    if totals is None:
        return False
    return base is None or totals.calls < base.calls or totals.bounds != base.bounds
