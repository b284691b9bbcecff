"""Counting moments: sliding-second maximum, means, series. Pure; moments are epoch seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence


def max_sliding(moments: Sequence[float], window: float = 1.0) -> int | None:
    """The most moments in any half-open [t, t + window). None without moments.

    Counted here from a complete list and apart from the limiter's own counter: the judge is not the judged.
    0.0, 0.4, 0.9, 1.0 with a window of 1: [0.0, 1.0) has three, [0.4, 1.4) has three, so 3.
    """
    ordered = sorted(moments)
    most, first = 0, 0
    for index, moment in enumerate(ordered):
        while ordered[first] <= moment - window:
            first += 1
        most = max(most, index - first + 1)
    return most or None


def mean_rate(moments: Sequence[float]) -> float | None:
    """(n - 1) / (last - first) per second: n moments have n - 1 gaps. None if there is no gap to measure."""
    if len(moments) < 2 or (span := max(moments) - min(moments)) <= 0:
        return None
    return (len(moments) - 1) / span


def after_ramp(moments: Sequence[float], target: float) -> list[float]:
    """The moments from the first second on that holds 95 % of `target` or more: what came before is start-up.

    Empty if the target was never reached.
    """
    ordered = sorted(moments)
    wanted = max(2, math.ceil(0.95 * target))
    for first in range(len(ordered) - wanted + 1):
        if ordered[first + wanted - 1] < ordered[first] + 1.0:
            return ordered[first:]
    return []


def series(moments: Sequence[float], *, start: float, end: float, step: float) -> list[int]:
    """How many moments lie in each step from `start` up to and including the step of `end`."""
    counts = [0] * (max(0, math.floor((end - start) / step)) + 1)
    for moment in moments:
        index = math.floor((moment - start) / step)
        if 0 <= index < len(counts):
            counts[index] += 1
    return counts


def level(
    ups: Sequence[float], downs: Sequence[float], *, start: float, end: float, step: float
) -> list[tuple[float, int]]:
    """(moment, ups so far - downs so far), at `start`, after each step, and at `end`. What a backlog was."""
    moments = [start + index * step for index in range(math.floor((end - start) / step) + 1)]
    if moments[-1] < end:
        moments.append(end)
    rises, falls = sorted(ups), sorted(downs)
    points, up, down = [], 0, 0
    for moment in moments:
        while up < len(rises) and rises[up] <= moment:
            up += 1
        while down < len(falls) and falls[down] <= moment:
            down += 1
        points.append((moment, up - down))
    return points
