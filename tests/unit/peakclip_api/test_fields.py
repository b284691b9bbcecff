from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from peakclip_api import fields as f
from peakclip_api.problems import Problem


def fits(kind: Any, value: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (f.Id, ["a", "A-_9", "x" * 64], ["", "a b", "x" * 65, "a\n", "ä", "a.b"]),
        (f.Name, ["x", "x" * 200, "ä\n"], ["", "x" * 201, "a\0"]),
        (f.Email, [None, "a@b", "a.b+c@x-y.example.org"], ["", "a", "a@b\n", "a@b c", "@b", "a@", "a@b\r\nBcc: c@d"]),
        (f.WebhookUrl, [None, "https://a", "http://a.b:80/x?y=z#"], ["", "ftp://a", "https://", "https://a b", "//a",
                                                                    "https://a/\n", "https://u:p@a/"]),
        (f.Latitude, [-90, 90, 0.5, 0], [-90.001, 90.001, "1", None]),
        (f.Longitude, [-180, 180], [-180.001, 180.001]),
        (f.Text, ["x"], ["", "\0", "x" * 2_001]),
        (f.OptionalText, [None, "", "x" * 2_000], ["\0", "x" * 2_001]),
    ],
)  # fmt: skip
def test_bounds(kind: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(kind, value)] == []
    assert [value for value in bad if fits(kind, value)] == []


@pytest.mark.parametrize(
    ("latitude", "longitude", "whole"),
    [
        (1.0, 2.0, True), (0.0, 0.0, True), (None, None, True), (UNSET, UNSET, True), (1.0, None, False),
        (None, 1.0, False), (1.0, UNSET, False), (UNSET, 1.0, False), (None, UNSET, False), (UNSET, None, False),
    ],
)  # fmt: skip
def test_a_place_has_both(latitude: Any, longitude: Any, whole: bool) -> None:
    place = SimpleNamespace(latitude=latitude, longitude=longitude)
    if whole:
        f.check_place(place)
        return
    with pytest.raises(Problem) as caught:
        f.check_place(place)
    assert caught.value.kind == "invalid-request"


def test_a_window_closes_after_it_opens() -> None:
    one, other = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    f.check_window(one, other)
    for opens, closes in ((other, one), (one, one)):
        with pytest.raises(Problem) as caught:
            f.check_window(opens, closes)
        assert caught.value.errors is not None
        assert caught.value.errors[0]["field"] == "closes_at"


@pytest.mark.parametrize("year", [1, 1999, 9001, 9999])
def test_a_moment_is_within_the_calendars_middle(year: int) -> None:
    window = SimpleNamespace(opens_at=UNSET, closes_at=datetime(year, 1, 1, tzinfo=UTC))
    with pytest.raises(Problem) as caught:
        f.check_times(window, "opens_at", "closes_at")
    assert caught.value.errors is not None
    assert caught.value.errors[0]["field"] == "closes_at"


def test_a_moment_with_any_offset_is_the_same_moment_in_utc() -> None:
    """PostgreSQL itself reads no offset beyond 15:59 hours."""
    far = timezone(timedelta(hours=22, minutes=9))
    window = SimpleNamespace(opens_at=datetime(2026, 12, 25, 8, 9, tzinfo=far), closes_at=UNSET)
    f.check_times(window, "opens_at", "closes_at")
    assert (window.opens_at.isoformat(), window.closes_at) == ("2026-12-24T10:00:00+00:00", UNSET)


def test_a_place_is_kept_to_nine_decimals() -> None:
    """PostgreSQL's radians() fails on the smallest numbers that there are."""
    place = SimpleNamespace(latitude=5e-324, longitude=1.2345678901234)
    f.check_place(place)
    assert (place.latitude, place.longitude) == (0.0, 1.23456789)
