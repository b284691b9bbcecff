"""What can be told of workers that say nothing of themselves, from the numbers of their consumer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_GAP_SECONDS = 5.0  # looks further apart say nothing of what was between them
_WINDOW_SECONDS = 2.0  # from one change of the bound to the next: what it did must be seen first
_FEW, _LONG_SECONDS = 20, 20.0  # less than this in a shorter time is too little to tell
_NOISE = 0.1  # a bound that is off by less stays


@dataclass(frozen=True, slots=True)
class Look:
    """At the consumer."""

    at: float
    pending: int
    in_flight: int
    delivered: int
    """Deliveries ever, repeated ones counted."""
    floor_seq: int

    @property
    def arrived(self) -> int:
        return self.delivered + self.pending

    @property
    def finished(self) -> int:
        return self.delivered - self.in_flight


@dataclass(frozen=True, slots=True)
class Worked:
    """Attempts that ended, and the seconds that workers were busy with them.

    Only while something waits: a worker that waits for work is not slow. And a worker without a message in hand does
    not work, whatever waits: that is what the bound on messages in hand does to it.
    Worked number: 3 workers, 10 in flight, something waits, 60 finished in 2 s: 60 in 6 busy seconds, 10/s each.
    """

    finished: int = 0
    busy_seconds: float = 0.0
    last: Look | None = None

    def add(self, look: Look, running: int) -> Worked:
        last = self.last
        if last is None or look.at <= last.at:
            return replace(self, last=last or look)
        passed, done = look.at - last.at, look.finished - last.finished
        if passed > _GAP_SECONDS or done < 0 or not (last.pending and look.pending):
            return replace(self, last=look)
        in_hand = (last.in_flight + look.in_flight) / 2
        return Worked(self.finished + done, self.busy_seconds + min(running, in_hand) * passed, look)


@dataclass(frozen=True, slots=True)
class MostInHand:
    """The bound on messages in hand that makes the drain R: L = R * W by Little's law, W = in hand / drain.

    W is measured with the bound in force, so each step corrects the one before: at a drain of 120/s where R is 100,
    30 in hand become 25. It never falls below 1, and not above what R does in the time to acknowledge.
    """

    since: Look | None = None
    in_hand_seconds: float = 0.0
    last: Look | None = None

    def next(self, look: Look, rate: float, now: int, longest_seconds: float) -> tuple[int, MostInHand]:
        last, since = self.last, self.since
        if last is None or since is None or not 0 < look.at - last.at <= _GAP_SECONDS:
            return now, (self if last is not None and look.at == last.at else MostInHand(look, 0.0, look))
        area = self.in_hand_seconds + (last.in_flight + look.in_flight) / 2 * (look.at - last.at)
        passed, done = look.at - since.at, look.finished - since.finished
        if passed < _WINDOW_SECONDS or (done < _FEW and passed < _LONG_SECONDS):
            return now, MostInHand(since, area, look)
        again = MostInHand(look, 0.0, look)
        if done <= 0 or area <= 0 or rate <= 0:
            return now, again
        wanted = max(1, min(math.floor(rate * area / done + 1e-9), math.ceil(rate * longest_seconds)))
        return (now if abs(wanted - now) <= _NOISE * now else wanted), again
