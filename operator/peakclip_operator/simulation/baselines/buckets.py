"""Knative's sums of each second and their plain mean over a window.

Read in knative/serving 1.23 (98e5ef9, 2026-08-21): pkg/autoscaler/aggregation/bucketing.go (TimedFloat64Buckets).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class Buckets:
    """A bucket is a second; what is recorded in the same one is added up, since several pods report."""

    window: int
    """Seconds."""
    _sums: dict[int, float] = field(default_factory=dict, init=False)
    _first: int = field(default=0, init=False)
    _last: int | None = field(default=None, init=False)

    def record(self, now: float, value: float) -> None:
        second = math.floor(now)
        if self._last is None or second - self._last >= self.window:
            self._first = second
            self._sums.clear()
        if self._last is None or second > self._last:
            self._last = second
            self._sums = {at: sums for at, sums in self._sums.items() if at > second - self.window}
        self._sums[second] = self._sums.get(second, 0.0) + value

    def empty(self, now: float) -> bool:
        return self._last is None or math.floor(now) - self._last > self.window

    def mean(self, now: float) -> float:
        """Over the seconds since the first record if that is less than a window ago: 30 in the first second is 30."""
        second = math.floor(now)
        if self._last is None or second - self._last >= self.window:
            return 0.0
        idle = max(second - self._last, 0)
        total = sum(sums for at, sums in self._sums.items() if at > second - self.window)
        count = min(self._last - self._first + 1, self.window - idle)
        return round(total / count, 6)
