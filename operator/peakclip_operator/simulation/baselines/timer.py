"""Loops that wake at fixed intervals, whoever asks and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# A look at 0.1 + 0.2 s is the one at 0.3 s.
ROUNDING = 1e-6


@dataclass(slots=True)
class Timer:
    """Due at phase_seconds, and every period_seconds after. Looked at too late, it is due once, not once for each."""

    period_seconds: float
    phase_seconds: float = 0.0
    _done: int = field(default=-1, init=False)

    def due(self, now: float) -> float | None:
        """The moment it was due, if it was since the last look."""
        turn = math.floor((now - self.phase_seconds) / self.period_seconds + ROUNDING)
        if turn <= self._done:
            return None
        self._done = turn
        return self.phase_seconds + turn * self.period_seconds
