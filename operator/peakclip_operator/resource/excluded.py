"""`spec.behavior.excludedPeriods`: times of the week in which the number of workers is left alone."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, get_args

from pydantic import Field

from peakclip_operator.plan import Period
from peakclip_operator.plan.periods import is_zone
from peakclip_operator.resource.rules import Part, Rule, matches

MOST_PERIODS: Final = 16

Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_DAYS: Final[tuple[Day, ...]] = get_args(Day)
_TIME: Final = "([01][0-9]|2[0-3]):[0-5][0-9]"
_ALPHABET: Final = "[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*"


class ExcludedPeriod(Part):
    """From one time of the day to another, by the clock on the wall of a zone."""

    from_: str = Field(alias="from", max_length=5)
    """When it begins, such as `01:00`: hours from 00 to 23. In the night in which the clock is put forward over it, at
    that moment."""

    to: str = Field(max_length=5)
    """When it ends, such as `03:00`. At or before `from`: on the next day, so `00:00` to `00:00` is a whole day."""

    days: list[Day] = Field(default=list(_DAYS), min_length=1, max_length=7)
    """Days on which it begins: Mon, Tue, Wed, Thu, Fri, Sat, Sun. Absent: every day."""

    time_zone: str = Field(default="UTC", max_length=64)
    """Whose clock it is: a name of the time zone database, such as `Asia/Shanghai`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.from.matches('^{_TIME}$') && self.to.matches('^{_TIME}$')",
            "from and to are times of the day such as 01:00 or 22:30",
            lambda it: matches("from_", _TIME, "").holds(it) and matches("to", _TIME, "").holds(it),
        ),
        # The second part fails for a name that the API server does not know, which refuses the resource as well.
        Rule(
            f"self.timeZone.matches('^{_ALPHABET}$')"
            " && timestamp('2026-01-01T00:00:00Z').getHours(self.timeZone) >= 0",
            "timeZone must be a name of the time zone database, such as Asia/Shanghai or UTC",
            lambda it: matches("time_zone", _ALPHABET, "").holds(it) and is_zone(it.time_zone),
        ),
    )

    def period(self) -> Period:
        return Period(
            start_minute=_minute(self.from_),
            end_minute=_minute(self.to),
            days=tuple(sorted({_DAYS.index(day) for day in self.days})),
            zone=self.time_zone,
        )


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
