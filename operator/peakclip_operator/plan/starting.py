"""How long a worker takes from the wish for it to its work, learnt from the workers that came."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

_REMEMBERED = 5


@dataclass(frozen=True, slots=True)
class Starts:
    """Who is waited for, and how long the last ones took."""

    waiting: tuple[float, ...] = ()
    """When each missing worker was first missed, oldest first."""
    ready: int | None = None
    took: tuple[float, ...] = ()
    """Seconds, newest last."""

    @property
    def seconds(self) -> float | None:
        """The median of the last five; None before the first."""
        return statistics.median(self.took) if self.took else None

    def observe(self, asked: int | None, ready: int | None, now: float) -> Starts:
        """A worker that comes is the one that was waited for longest. Worked number: 1 works, 3 are asked for at 10.0;
        2 work at 12.0, 3 at 14.0: 2 s and 4 s."""
        if asked is None or ready is None:
            return Starts((), None, self.took)  # who came meanwhile, and when, is not known
        waiting = tuple(min(at, now) for at in self.waiting)
        came = 0 if self.ready is None else max(0, ready - self.ready)
        took = (*self.took, *(now - at for at in waiting[:came]))[-_REMEMBERED:]
        missing = max(0, asked - ready)
        left = waiting[came:][:missing]
        return Starts((*left, *([now] * (missing - len(left)))), ready, took)
