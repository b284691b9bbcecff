from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peakclip_operator.plan.windows import Series


def series(*samples: tuple[float, float], keep: float = 60.0, gap: float = 5.0) -> Series:
    made = Series()
    for at, value in samples:
        made = made.add(at, value, keep_seconds=keep, gap_seconds=gap)
    return made


def test_one_sample_is_no_rate() -> None:
    assert series((0, 5)).rate(6, 0) is None


def test_rate_over_the_window_only() -> None:
    made = series((0, 0), (2, 0), (4, 0), (6, 600), (8, 1200))
    assert made.rate(4, 8) == 300.0
    assert made.rate(2, 8) == 300.0
    assert made.rate(60, 8) == 150.0


def test_a_counter_that_stands_still_is_zero_and_known() -> None:
    assert series((0, 7), (1, 7)).rate(6, 1) == 0.0


def test_a_counter_that_went_backwards_is_unknown_and_then_starts_again() -> None:
    made = series((0, 100), (1, 200), (2, 10))
    assert made.rate(6, 2) is None
    assert made.add(3, 15, keep_seconds=60, gap_seconds=5).rate(6, 3) == 5.0


def test_a_gap_is_unknown() -> None:
    assert series((0, 100), (1, 200), (7, 900)).rate(60, 7) is None


def test_a_clock_set_far_back_starts_again() -> None:
    made = series((100, 1), (101, 2), (50, 3), (51, 5))
    assert made.rate(6, 51) == 2.0


def test_an_old_series_is_unknown_once_the_window_has_passed_it() -> None:
    assert series((0, 0), (1, 10)).rate(6, 10) is None


def test_what_the_longest_window_does_not_need_is_dropped() -> None:
    made = series(*((float(at), float(at)) for at in range(500)), keep=60)
    assert len(made.samples) <= 63
    assert made.growth(60, 499) == (60.0, 60.0)


@given(
    st.lists(st.tuples(st.floats(0.1, 8), st.integers(-50, 500)), min_size=1, max_size=50), st.floats(1, 60)
)
def test_a_rate_is_never_negative(steps: list[tuple[float, int]], window: float) -> None:
    at, value, made = 0.0, 0.0, Series()
    for pause, growth in steps:
        at, value = at + pause, max(0.0, value + growth)
        made = made.add(at, value, keep_seconds=60, gap_seconds=5)
        rate = made.rate(window, at)
        assert rate is None or rate >= 0
