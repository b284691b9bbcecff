"""Times of the week in which nobody is started or ended: `is_excluded(periods, now) -> Period | None`.

A period begins when the clock on the wall of its zone first shows `start_minute` on one of its days, and ends when the
clock shows `end_minute` for the last time: on the same day, or on the next one where the end is not after the start.
In between it lasts without a gap, whatever is done to the clock. Worked examples, each a test:

    22:00 to 06:00 on Fri          Friday 22:00 to Saturday 06:00
    00:00 to 00:00 on Sun          all of Sunday
    02:30 to 03:30, New York       on 8 March 2026, when 02:00 becomes 03:00:  03:00 to 03:30
    02:15 to 02:45, New York       on 8 March 2026 not at all: no clock shows it
    01:30 to 01:45, New York       on 1 November 2026, when 02:00 becomes 01:00 again: from the first 01:30 to the
                                   second 01:45, 75 minutes
    22:00 to 06:00, New York       7 hours in the night to 8 March, 9 in the night to 1 November

The time zone database is read once per zone, and is data like any other: no clock is asked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from peakclip_operator.plan.spec import Period

_DAY_MINUTES = 24 * 60


def is_excluded(periods: Sequence[Period], now: float) -> Period | None:
    """The first that `now`, in epoch seconds, lies in. A zone that is not in the database of this machine is never
    excluded: whoever reads the wish says so."""
    return next((period for period in periods if _is_within(period, now)), None)


def is_zone(name: str) -> bool:
    """Whether the time zone database of this machine knows the name."""
    return _zone(name) is not None


def _is_within(period: Period, now: float) -> bool:
    zone = _zone(period.zone)
    if zone is None:
        return False
    today = datetime.fromtimestamp(now, zone).date()
    length = (period.end_minute - period.start_minute) % _DAY_MINUTES or _DAY_MINUTES
    over = period.start_minute + length >= _DAY_MINUTES  # ends on the next day, and be it at 00:00
    for day in (today - timedelta(days=1), today):
        if day.weekday() in period.days:
            last = day + timedelta(days=1) if over else day
            begin = _moment(day, period.start_minute, zone, last=False)
            if begin <= now < _moment(last, period.end_minute % _DAY_MINUTES, zone, last=True):
                return True
    return False


def _moment(day: date, minute: int, zone: ZoneInfo, *, last: bool) -> float:
    """When the clock shows this, in epoch seconds: the last or the first time if it does so twice, and the moment at
    which it jumps over it if never."""
    hours, minutes = divmod(minute, 60)
    shown = datetime.combine(day, time(hours, minutes), zone)
    one, two = (shown.replace(fold=fold).timestamp() for fold in (0, 1))
    if one <= two:  # twice, or once
        return two if last else one
    low, high = int(two), int(one)  # the clock jumps between them
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return float(high)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of the database is an OSError
        return None
