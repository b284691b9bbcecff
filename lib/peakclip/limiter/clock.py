"""The server's clock as a worker knows it. All workers start by the same clock, so theirs may be wrong.

One request tells: sent at local time a, answered with the server's time s, back at b. Then the server's time
is s + (now - (a + b)/2), wrong by at most (b - a)/2. Over loopback that is some 0.1 ms.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

_DRIFT: Final = 200e-6  # seconds by which two clocks may part in a second

# CLOCK_BOOTTIME goes on while the machine is suspended; a clock that stood still would hide a stale rate.
_LOCAL: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def local_time() -> float:
    """Seconds of a clock that never jumps; only differences mean anything."""
    return time.clock_gettime(_LOCAL)


@dataclass(frozen=True, slots=True)
class _Sample:
    offset: float  # server's time minus local time, seconds
    error: float  # at most this wrong when taken
    at: float  # local time

    def error_at(self, local: float) -> float:
        return self.error + _DRIFT * (local - self.at)


class ServerClock:
    """Keeps the sample that is now known best; a sample gets worse as it ages."""

    def __init__(self) -> None:
        self._best: _Sample | None = None

    def add(self, sent: float, server_time: float, received: float) -> None:
        """`sent` and `received` are local times."""
        new = _Sample(server_time - (sent + received) / 2, (received - sent) / 2, received)
        best = self._best
        if best is not None:
            known = best.error_at(received)
            # They contradict each other when the server's clock was set, or when the leader is another
            # server.
            contradict = abs(new.offset - best.offset) > known + new.error
            if not contradict and known < new.error:
                return
        self._best = new

    def at(self, local: float) -> float | None:
        """The server's time (epoch seconds) at a local time; None before the first sample."""
        return None if self._best is None else local + self._best.offset

    def error(self, local: float) -> float:
        """The server's time may be this many seconds earlier or later than said."""
        return float("inf") if self._best is None else self._best.error_at(local)
