"""PURE. The most starts in any sliding second: what the limiter bounds, and what telemetry reports."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

_MOST_ENTRIES = 10_000  # beyond this, starts less than 1 ms apart count as one moment: bounded memory


class SlidingSecond:
    """Remembers one second of starts. A second is half open: 0.0 and 1.0 are never in the same one."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self.most = 0  # since the beginning

    def add(self, at: float, count: int = 1) -> None:
        """`at` in seconds. A time before the last one (the clock was corrected) counts as the last one."""
        recent = self._recent
        if recent and at < recent[-1][0]:
            at = recent[-1][0]
        if len(recent) >= _MOST_ENTRIES and at - recent[-1][0] < 0.001:
            at, before = recent.pop()
            self._sum -= before
            count += before
        recent.append((at, count))
        self._sum += count
        while recent[0][0] <= at - 1.0:
            self._sum -= recent.popleft()[1]
        self.most = max(self.most, self._sum)


def most_in_any_second(times: Iterable[float]) -> int:
    """For a complete list of starts in any order."""
    second = SlidingSecond()
    for at in sorted(times):
        second.add(at)
    return second.most
