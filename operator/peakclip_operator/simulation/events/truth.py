"""PURE. Which rate was truly in force when, from every version of the pace that the servers stored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import msgspec

from peakclip.jetstream import StoredMessage
from peakclip.limiter import grid
from peakclip.limiter.pace import Pace, settled

_decode = msgspec.json.Decoder(Pace).decode


@dataclass(frozen=True, slots=True)
class InForce:
    from_time: float  # epoch seconds
    until: float
    rate: float  # per second; 0: nothing may start
    burst: int

    @property
    def bound(self) -> int:
        """The most starts of a second in which nothing else is in force."""
        return grid.bound(self.rate, self.burst) if self.rate else 0


class Truth:
    """Each version repeats the steps of the one before, so all of them together are the whole story."""

    def __init__(self, versions: Iterable[StoredMessage]) -> None:
        steps: dict[float, tuple[float, int]] = {}
        for version in versions:
            pace = settled(_decode(version.payload), version.at)
            for step in pace.steps:
                burst = pace.burst if step.burst is None else step.burst
                steps[step.from_time] = (step.rate_per_second, burst)
        self._times = sorted(steps)
        ends = [*self._times[1:], inf]
        self.stretches = [
            InForce(begin, end, *steps[begin]) for begin, end in zip(self._times, ends, strict=True)
        ]

    def around(self, time: float, error: float) -> list[InForce]:
        """What may be taken for being in force by a clock that is so far wrong; empty before the first step."""
        first = max(0, bisect_right(self._times, time - error) - 1)
        last = bisect_right(self._times, time + error)
        return self.stretches[first:last]
