"""PURE. How long callers have waited, so that a throttled worker is not taken for a slow one."""

from __future__ import annotations


class WaitMeter:
    """The sum of waits that overlap. Times are local seconds."""

    def __init__(self) -> None:
        self._waiting = 0
        self._sum = 0.0
        self._mark = 0.0

    def begin(self, now: float) -> None:
        self._sum, self._mark = self.total(now), now
        self._waiting += 1

    def end(self, now: float) -> None:
        self._sum, self._mark = self.total(now), now
        self._waiting -= 1

    def total(self, now: float) -> float:
        return self._sum + self._waiting * (now - self._mark)
