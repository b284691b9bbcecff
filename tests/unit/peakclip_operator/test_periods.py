"""When nobody is started or ended, on the wall clocks of the world."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakclip_operator.plan import Lag, Memory, Observation, Period, PoolSpec, Totals, decide
from peakclip_operator.plan.periods import is_excluded, is_zone

MON, FRI, SAT, SUN = 0, 4, 5, 6
NEW_YORK = "America/New_York"


def period(start: str, end: str, zone: str = "UTC", days: tuple[int, ...] = tuple(range(7))) -> Period:
    def minute(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    return Period(minute(start), minute(end), days, zone)


def at(text: str) -> float:
    """UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def stretches(one: Period, begin: str, end: str) -> list[tuple[str, str]]:
    """UTC times between which it holds, looked at each minute."""
    found: list[tuple[str, str]] = []
    now, since = at(begin), None
    while now <= at(end):
        inside = is_excluded([one], now) is one
        if inside and since is None:
            since = now
        if not inside and since is not None:
            found.append(tuple(datetime.fromtimestamp(t, UTC).strftime("%d %H:%M") for t in (since, now)))  # type: ignore[arg-type]
            since = None
        now += 60
    return found


def test_on_the_same_day_and_only_on_its_days() -> None:
    one = period("01:00", "03:00", days=(MON, FRI))
    # 23 November 2026 is a Monday.
    assert stretches(one, "2026-11-22", "2026-11-29") == [("23 01:00", "23 03:00"), ("27 01:00", "27 03:00")]
    assert is_excluded([one], at("2026-11-23T01:00:00")) is one
    assert is_excluded([one], at("2026-11-23T03:00:00")) is None


def test_over_midnight_it_belongs_to_the_day_it_begins_on() -> None:
    one = period("22:00", "06:00", days=(FRI,))
    assert stretches(one, "2026-11-26", "2026-11-30") == [("27 22:00", "28 06:00")]


def test_from_a_time_to_the_same_is_a_whole_day_and_to_midnight_ends_there() -> None:
    assert stretches(period("00:00", "00:00", days=(SUN,)), "2026-11-28", "2026-12-01") == [
        ("29 00:00", "30 00:00")
    ]
    assert stretches(period("09:00", "09:00", days=(SUN,)), "2026-11-28", "2026-12-01") == [
        ("29 09:00", "30 09:00")
    ]
    assert stretches(period("22:00", "00:00", days=(SUN,)), "2026-11-28", "2026-12-01") == [
        ("29 22:00", "30 00:00")
    ]


def test_the_clock_is_that_of_the_zone() -> None:
    assert stretches(period("01:00", "03:00", "Asia/Shanghai", (MON,)), "2026-11-22", "2026-11-29") == [
        ("22 17:00", "22 19:00")
    ]
    assert stretches(period("01:00", "03:00", "Asia/Kathmandu", (MON,)), "2026-11-22", "2026-11-29") == [
        ("22 19:15", "22 21:15")
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("02:30", "03:30", [("08 07:00", "08 07:30")]),  # from the moment the clock shows 03:00
        ("02:15", "02:45", []),
        ("01:30", "02:30", [("08 06:30", "08 07:00")]),
        ("01:30", "03:30", [("08 06:30", "08 07:30")]),
    ],
)
def test_the_hour_that_is_left_out(start: str, end: str, expected: list[tuple[str, str]]) -> None:
    """New York, 8 March 2026: 02:00 becomes 03:00 at 07:00 UTC."""
    assert stretches(period(start, end, NEW_YORK, (SUN,)), "2026-03-07", "2026-03-10") == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("01:30", "01:45", [("01 05:30", "01 06:45")]),
        ("00:30", "01:30", [("01 04:30", "01 06:30")]),
        ("01:30", "02:30", [("01 05:30", "01 07:30")]),
    ],
)
def test_the_hour_that_comes_twice(start: str, end: str, expected: list[tuple[str, str]]) -> None:
    """New York, 1 November 2026: 02:00 becomes 01:00 at 06:00 UTC. No gap, whatever the clock shows in between."""
    assert stretches(period(start, end, NEW_YORK, (SUN,)), "2026-10-31", "2026-11-03") == expected


def test_a_night_over_the_change_is_an_hour_shorter_or_longer() -> None:
    one = period("22:00", "06:00", NEW_YORK, (SAT,))
    assert stretches(one, "2026-03-07", "2026-03-09") == [("08 03:00", "08 10:00")]
    assert stretches(one, "2026-10-31", "2026-11-02") == [("01 02:00", "01 11:00")]


def test_a_midnight_that_does_not_exist() -> None:
    """Beirut, 29 March 2026: 00:00 becomes 01:00."""
    assert stretches(period("00:00", "02:00", "Asia/Beirut", (SUN,)), "2026-03-28", "2026-03-30") == [
        ("28 22:00", "28 23:00")
    ]


def test_the_first_of_several_is_told_and_none_excludes_nothing() -> None:
    night, longer = period("01:00", "03:00"), period("00:00", "04:00")
    assert is_excluded([night, longer], at("2026-11-23T02:00:00")) is night
    assert is_excluded([night, longer], at("2026-11-23T03:30:00")) is longer
    assert is_excluded([], at("2026-11-23T02:00:00")) is None


def test_a_zone_that_nobody_knows_is_said_and_excludes_nothing() -> None:
    assert is_zone("Asia/Shanghai")
    assert not any(is_zone(name) for name in ("Asia/Shangai", "", "Asia", "../etc/passwd", "/etc/localtime"))
    assert is_excluded([period("00:00", "00:00", "Asia/Shangai")], at("2026-11-23T02:00:00")) is None


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sets(st.integers(0, 6), min_size=1),
    st.sampled_from(
        ["UTC", NEW_YORK, "Asia/Shanghai", "Australia/Lord_Howe", "Europe/Berlin", "America/St_Johns"]
    ),
    st.integers(0, 366 * 1440),
)
def test_away_from_changes_it_is_what_the_wall_clock_shows(
    start: int, end: int, days: set[int], zone: str, minutes: int
) -> None:
    now = at("2026-01-01") + minutes * 60 + 17
    shown = datetime.fromtimestamp(now, ZoneInfo(zone))
    around = {(shown + timedelta(days=by)).utcoffset() for by in (-2, -1, 0, 1, 2)}
    minute, day = shown.hour * 60 + shown.minute, shown.weekday()
    if start < end:
        expected = day in days and start <= minute < end
    else:
        expected = (day in days and minute >= start) or ((day - 1) % 7 in days and minute < end)
    if len(around) == 1:
        assert (is_excluded([Period(start, end, tuple(days), zone)], now) is not None) == expected


def test_in_a_period_nobody_is_started_or_ended_and_the_rate_goes_on() -> None:
    now = at("2026-11-23T02:00:00")
    spec = PoolSpec(max_replicas=20, excluded=(period("01:00", "03:00", days=(MON,)),), share_per_second=90.0)
    memory = Memory()
    for second in range(30):
        burst = 10_000 * (second > 5)
        seen = Observation(Lag(burst, 0, burst, 0), Totals(0, 0, 0.0), replicas=3, ready=3)
        decision, memory = decide(spec, seen, memory, now + second)
        assert (decision.replicas, decision.reason, decision.rate) == (3, "Excluded", 90.0)
        assert decision.binding_constraint == "excluded"
    decision, _ = decide(spec, seen, memory, at("2026-11-23T03:00:00"))
    assert decision.replicas is not None
    assert decision.replicas > 3


@pytest.mark.parametrize("shown", ["02:01", "02:07", "02:15", "02:30", "02:59"])
def test_what_the_clock_jumps_over_begins_in_that_very_second(shown: str) -> None:
    one = period(shown, "04:00", NEW_YORK)
    jump = at("2026-03-08T07:00:00")
    assert is_excluded([one], jump - 0.001) is None
    assert is_excluded([one], jump) is one
