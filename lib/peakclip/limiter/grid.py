"""PURE. The slot grid: at which moments a start is allowed, in whole numbers, so that all workers agree.

A rate is counted in milli-orders per second (100/s is 100,000; 0.5/s is 500), which makes fractions exact.
Slot `i` of a rate is due at `i / R` epoch seconds. A window is 250 ms long; window `w` holds the slots that
are due in it, `ceil(w·R/4) .. ceil((w+1)·R/4)`: at 100/s always 25, at 0.5/s one window of eight holds one.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Final

WINDOW_MILLIS: Final = 250
WINDOW_SECONDS: Final = WINDOW_MILLIS / 1000
_WINDOWS_PER_1000_SECONDS: Final = 1_000_000 // WINDOW_MILLIS

LEAST_RATE: Final = 0.001  # per second: one milli-order
GREATEST_RATE: Final = 100_000.0
MOST_PER_CHUNK: Final = 256
LATE_TOLERANCE_SECONDS: Final = 0.050  # no start is ever later than this after its slot
CLOCK_ERROR_SECONDS: Final = 0.0005  # allowed for even if the clock claims to be better


def rate_milli(per_second: float) -> int:
    return round(per_second * 1000)


def due(slot: int, rate: int) -> float:
    """Epoch seconds."""
    return slot * 1000 / rate


def first_slot_at(time: float, rate: int) -> int:
    """The first slot due at `time` or later; `time` is cut to whole microseconds."""
    return -(-floor(time * 1e6) * rate // 1_000_000_000)


def window_at(time: float) -> int:
    return floor(time * 1000) // WINDOW_MILLIS


def window_start(window: int) -> float:
    """Epoch seconds."""
    return window * WINDOW_MILLIS / 1000


def slots(rate: int, window: int) -> range:
    """The slots due in the window. The windows of a rate partition its slots."""
    return range(
        -(-window * rate // _WINDOWS_PER_1000_SECONDS),
        -(-(window + 1) * rate // _WINDOWS_PER_1000_SECONDS),
    )


def next_window(rate: int, window: int) -> int:
    """The first window from `window` on that holds a slot: at slow rates most hold none."""
    return slots(rate, window).start * _WINDOWS_PER_1000_SECONDS // rate


def granted(window_slots: range, value: int, asked: int) -> range:
    """The slots that belong to the one who added `asked` to the window's counter and read `value`.

    Numbers beyond the window's slots are nobody's. Slots 100..124, value 3, asked 2: slots 101 and 102.
    """
    first = window_slots.start + value - asked
    return range(min(first, window_slots.stop), min(window_slots.start + value, window_slots.stop))


def still_due(numbers: range, rate: int, earliest: float) -> range:
    """Those that are due at `earliest` or later; the others are burnt."""
    return range(min(max(numbers.start, first_slot_at(earliest, rate)), numbers.stop), numbers.stop)


def burn(reached: int, rate: int, now: float) -> int:
    """How far to move a counter that has handed out the slots below `reached`: its next is then not past."""
    return max(0, first_slot_at(now, rate) - reached)


def default_burst(per_second: float) -> int:
    """Starts above R that one second may hold: a twentieth of R, at least 5."""
    return max(5, ceil(per_second / 20))


def chunk(rate: int, burst: int) -> int:
    """Tickets to take at once: R/100, so 100 requests per second whatever the rate; a fifth of a small burst.

    They start together, so a chunk uses up that much of the burst.
    """
    return max(1, min(rate // 100_000, burst // 5, MOST_PER_CHUNK))


def tolerance(rate: int, burst: int, clock_error: float = 0.0) -> float:
    """How late after its slot a chunk may start, in seconds. Negative: it may not start at all.

    Chosen so that no sliding second can hold more than R + burst starts. Starts in a second come from chunks
    whose last slot is due in a span of L = 1 + T + 2e seconds (T: tolerance, e: error of a clock), so they
    are less than R·L + k + 1, where k is the chunk and the 1 allows for the seam at a change of rate. With T
    = (burst - k)/R - 2e that is less than R + burst + 1. R = 100, burst 5, k = 1: (5 - 1)/100 - 0.001 = 39
    ms.
    """
    slack = (burst - chunk(rate, burst)) * 1000 / rate
    return min(LATE_TOLERANCE_SECONDS, slack - 2 * max(clock_error, CLOCK_ERROR_SECONDS))


def bound(per_second: float, burst: int) -> int:
    """The most starts that any sliding second may hold."""
    return floor(per_second + burst)


def least_burst(per_second: float) -> int:
    """The smallest burst with which a start may be 5 ms late: below that, scheduling alone loses starts."""
    rate = rate_milli(per_second)
    burst = 2
    while tolerance(rate, burst) < 0.005:
        burst += 1
    return burst
