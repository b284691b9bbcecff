"""Kinds of values in requests, with their bounds; the same as in the API's description.

`\\Z` and not `$`, which would let a newline follow.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Protocol

from msgspec import UNSET, Meta

from peakclip_api.problems import invalid

_NO_NUL: Final = r"^[^\x00]*\Z"
_EMAIL: Final = r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,4}\Z"
_URL: Final = r"^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[!-~]{0,1600})?\Z"

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_NO_NUL)]
ShortText = Annotated[str, Meta(min_length=1, max_length=50, pattern=_NO_NUL)]
Text = Annotated[str, Meta(min_length=1, max_length=2000, pattern=_NO_NUL)]
OptionalShortText = Annotated[str, Meta(max_length=100, pattern=_NO_NUL)] | None
OptionalAddress = Annotated[str, Meta(max_length=500, pattern=_NO_NUL)] | None
OptionalText = Annotated[str, Meta(max_length=2000, pattern=_NO_NUL)] | None
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Cents = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Radius = Annotated[int, Meta(ge=1, le=200_000)]
Minutes = Annotated[int, Meta(ge=1, le=1_440)]
OptionalGrams = Annotated[int, Meta(ge=1, le=2_000_000)] | None
OptionalDate = date | None
Email = Annotated[str, Meta(max_length=254, pattern=_EMAIL)] | None
WebhookUrl = Annotated[str, Meta(max_length=2000, pattern=_URL)] | None
Time = Annotated[datetime, Meta(tz=True)]
Limit = Annotated[int, Meta(ge=1, le=1_000)]
PaySeconds = Annotated[int, Meta(ge=1, le=86_400)]
Rating = Annotated[int, Meta(ge=1, le=5)]


class Placed(Protocol):
    """A request with a place, or with a change of it."""

    latitude: Any  # float, None or UNSET
    longitude: Any


def check_place(wanted: Placed) -> None:
    """A place has both; a change changes both. Raises Problem 422.

    Rounds to 1e-9 degrees, a tenth of a millimetre: PostgreSQL's radians() fails on what is closest to zero (5e-324).
    """
    for field, other in (("latitude", wanted.longitude), ("longitude", wanted.latitude)):
        this = getattr(wanted, field)
        if (this is UNSET) != (other is UNSET) or (this is None) != (other is None):
            raise invalid(field, "latitude and longitude are given together, or neither of them")
        if isinstance(this, float):
            setattr(wanted, field, round(this, 9))


def check_times(wanted: Any, *fields: str) -> None:
    """Raises Problem 422. The outermost years of the calendar have no epoch second in every time zone.

    Turns each that is there into UTC: PostgreSQL reads no offset beyond 15:59 hours, and would refuse the whole batch
    that holds one.
    """
    for field in fields:
        time = getattr(wanted, field)
        if time is UNSET:
            continue
        if not 2000 <= time.year <= 9000:
            raise invalid(field, "must be between the years 2000 and 9000")
        setattr(wanted, field, time.astimezone(UTC))


def check_window(opens_at: datetime, closes_at: datetime) -> None:
    """Raises Problem 422."""
    if closes_at <= opens_at:
        raise invalid("closes_at", "must be later than opens_at")
