"""Invariant 7: the rate was never exceeded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peakclip.audit.facts import Facts
from peakclip.audit.result import CheckResult, violations


def check_rate(facts: Facts) -> CheckResult:
    """7: at most R + burst starts in any sliding second, over all workers of the pool `orders`, by `started_at`.

    Orders that were written at once have not started. Attempts that failed have left no row, so the true number can
    only be higher.
    """
    name = "starts per second"
    if facts.rate is None:
        return CheckResult(7, name, not_checked="the rate is not known; give it")
    rate = facts.rate
    all_starts = [order.started_at for order in facts.orders if order.started_at is not None]
    starts = sorted(start for start in all_starts if start >= rate.since)
    most, at = busiest_second(starts)
    allowed = math.floor(rate.per_second + rate.burst + 1e-9)
    over = [{"starts": most, "allowed": allowed, "from": at}] if most > allowed else []
    found = violations(7, ("more starts in one second than R + burst", over, None))
    part = "" if rate.since == 0 or len(starts) == len(all_starts) else ", since the rate in force began"
    detail = (
        f"{len(starts)} starts{part}, at most {most} in a second, "
        f"allowed {rate.per_second:g} + {rate.burst} ({rate.source})"
    )
    return CheckResult(7, name, detail, found)


def busiest_second(starts: Sequence[float]) -> tuple[int, float | None]:
    """Most starts in any [t, t + 1 s), and that t; `starts` ascending, epoch seconds.

    Epoch seconds as floats are exact to a quarter of a microsecond, the database's times to one: rounding to
    whole microseconds keeps two starts exactly one second apart out of one window.
    """
    micros = [round(start * 1_000_000) for start in starts]
    most, begin, first = 0, None, 0
    for last, now in enumerate(micros):
        while now - micros[first] >= 1_000_000:
            first += 1
        if last - first + 1 > most:
            most, begin = last - first + 1, starts[first]
    return most, begin
