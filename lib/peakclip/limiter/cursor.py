"""PURE. What a worker asks the counters for next, what the answer gives it, and whether it may start.

A ticket goes through three questions: `Cursor.next` (which window, how many), `Cursor.answered` (which slots
are mine), and, when the moment has come, `verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from peakclip.limiter import grid
from peakclip.limiter.pace import Segment, segment_at

# No ticket is taken further ahead than this. It must stay well below the 20 s after which a counter is
# forgotten (it would hand out the same numbers again), and it bounds what a killed worker takes with it.
# Enough for 3·R/k workers to hold a ticket each; more of them wait for the horizon instead of for their
# slot, and lose nothing.
LOOK_AHEAD_SECONDS: Final = 3.0

# When a window is partly past (the queue was empty until now), all workers find out at once. If each moved
# the counter on, they would burn several times too much. So it falls to whoever drew number 0, 8, 16 and so
# on.
_BURN_EVERY: Final = 8
_BURN_FRESH_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Ask:
    """Add `burn + most` to the counter of `window`; the last `most` numbers are asked for."""

    segment: Segment
    window: int
    usable: range  # slots of the window that lie in the segment
    burn: int
    most: int
    tolerance: float  # seconds

    @property
    def add(self) -> int:
        return self.burn + self.most


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to start one order per slot, all together when the last slot is due."""

    rate: int  # milli-orders per second
    slots: range

    @property
    def due(self) -> float:
        """Epoch seconds."""
        return grid.due(self.slots[-1], self.rate)


class Verdict(Enum):
    WAIT = "not yet due"
    START = "start now"
    LATE = "burnt: too late"
    VOID = "the rate has changed"


def verdict(ticket: Ticket, schedule: tuple[Segment, ...], now: float, clock_error: float) -> Verdict:
    """By the newest schedule: a ticket of another rate than the one in force never adds to it."""
    due = ticket.due
    segment = segment_at(schedule, due)
    if segment is None or segment.rate != ticket.rate:
        return Verdict.VOID
    if now < due:
        return Verdict.WAIT
    in_force = segment_at(schedule, now)
    if in_force is None or in_force.rate != ticket.rate:
        return Verdict.VOID
    late = now - due > grid.tolerance(in_force.rate, in_force.burst, clock_error)
    return Verdict.LATE if late else Verdict.START


@dataclass(slots=True)
class _Front:
    window: int  # the first that may still have numbers
    reached: int | None  # its slots below this are handed out; None: not yet asked
    burn_at: float | None = None  # set when its numbers were past and it falls to this worker to burn them


class Cursor:
    """Where one worker stands on the grids of the rates in the schedule."""

    def __init__(self) -> None:
        self._fronts: dict[int, _Front] = {}

    def next(
        self, schedule: tuple[Segment, ...], now: float, most: int, *, not_before: float, clock_error: float
    ) -> Ask | float:
        """What to ask; or, if there is nothing yet, the time at which to come back (infinity: when told).

        `not_before`: windows that begin earlier are not to be touched.
        """
        if len(self._fronts) > len(schedule):
            self._fronts = {s.rate: self._fronts[s.rate] for s in schedule if s.rate in self._fronts}
        position = max(now, not_before)
        for segment in schedule:
            if segment.until <= position or segment.rate == 0:
                continue
            begin = max(position, segment.from_time)
            if begin - now > LOOK_AHEAD_SECONDS:
                return begin - LOOK_AHEAD_SECONDS
            tolerance = grid.tolerance(segment.rate, segment.burst, clock_error)
            if tolerance < 0:
                return inf  # the clock is too uncertain for this burst; the next look may be better
            ask = self._ask(segment, begin, now, most, tolerance, not_before)
            if ask is not None:
                ahead = grid.window_start(ask.window) - now
                return ask if ahead <= LOOK_AHEAD_SECONDS else now + ahead - LOOK_AHEAD_SECONDS
            position = segment.until  # its last windows are exhausted
        return inf

    def _ask(
        self, segment: Segment, begin: float, now: float, most: int, tolerance: float, not_before: float
    ) -> Ask | None:
        rate = segment.rate
        last = None if segment.until == inf else grid.first_slot_at(segment.until, rate)
        first = grid.first_slot_at(segment.from_time, rate)
        window = self._first_window(rate, begin, now - tolerance, not_before)
        while True:
            window = grid.next_window(rate, window)
            slots = grid.slots(rate, window)
            if last is not None and slots.start >= last:
                return None
            usable = range(max(slots.start, first), slots.stop if last is None else min(slots.stop, last))
            burn = self._burn(rate, window, usable, now)
            if usable and burn is not None:
                most = min(most, grid.chunk(rate, segment.burst))
                return Ask(segment, window, usable, burn, most, tolerance)
            window += 1

    def _first_window(self, rate: int, begin: float, earliest: float, not_before: float) -> int:
        """The current window or the front ahead; or the one before, while its next slot is not yet late."""
        current = grid.window_at(begin)
        front = self._fronts.get(rate)
        if front is None:
            return current
        if (
            front.window == current - 1
            and front.reached is not None
            and grid.due(front.reached, rate) >= earliest
            and grid.window_start(front.window) >= not_before
        ):
            return front.window
        return max(current, front.window)

    def _burn(self, rate: int, window: int, usable: range, now: float) -> int | None:
        """How many numbers to skip because they are past; None if that is all of the window.

        Only right after an answer that showed them to be past: what is known of the counter is stale in no
        time, and burning what others have moved on from already would waste their slots.
        """
        front = self._fronts.get(rate)
        if front is None or front.window != window or front.reached is None:
            return 0
        if front.burn_at is None or now - front.burn_at > _BURN_FRESH_SECONDS:
            return 0
        burn = max(grid.burn(front.reached, rate, now), usable.start - front.reached)
        return burn if front.reached + burn < usable.stop else None

    def answered(self, ask: Ask, value: int, now: float) -> Ticket | None:
        """`value` is the counter after the addition. None: the window is exhausted, or its numbers past."""
        rate = ask.segment.rate
        slots = grid.slots(rate, ask.window)
        reached = slots.start + value
        full = reached >= ask.usable.stop
        self._fronts[rate] = _Front(ask.window + 1, None) if full else _Front(ask.window, reached)
        numbers = grid.granted(slots, value, ask.most)
        timely = range(max(numbers.start, ask.usable.start), min(numbers.stop, ask.usable.stop))
        timely = grid.still_due(timely, rate, now - ask.tolerance) if timely else timely
        if timely:
            return Ticket(rate, timely)
        if full:
            return None
        if ask.burn:
            # In vain: the answer takes longer than a start may be late. The numbers of the next window are ahead.
            self._fronts[rate] = _Front(ask.window + 1, None)
        elif (value // ask.most - 1) % _BURN_EVERY == 0:
            self._fronts[rate].burn_at = now
        return None
