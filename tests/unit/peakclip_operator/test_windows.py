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


def test_exactly_the_window_is_kept_and_exactly_the_gap_is_none() -> None:
    assert series((0, 0), (5, 1), (10, 2), (15, 3), keep=10).samples == ((5, 1), (10, 2), (15, 3))
    assert series((0, 0), (4, 1), (8, 2), (13, 3), keep=10).samples == ((0, 0), (4, 1), (8, 2), (13, 3))
    assert series((0, 0), (5.1, 1)).samples == ((5.1, 1),)
    assert series((0, 0), (20, 1), keep=10, gap=30).samples == ((0, 0), (20, 1))


def test_a_second_value_of_the_same_moment_is_left_out() -> None:
    assert series((0, 0), (1, 5), (1, 6)).samples == ((0, 0), (1, 5))


def test_of_samples_close_together_the_newest_stays() -> None:
    made = Series()
    for at in range(10):
        made = made.add(at, at * 10.0, keep_seconds=60, gap_seconds=5, apart_seconds=3)
        assert made.samples[-1] == (at, at * 10.0)
        assert made.samples[0] == (0, 0.0)
    assert made.samples == ((0, 0.0), (3, 30.0), (6, 60.0), (9, 90.0))
    assert made.covers_seconds == 9
    assert Series().covers_seconds == 0


def test_growth_begins_at_nothing() -> None:
    made = Series().grow(1, 5.0, keep_seconds=60, gap_seconds=5).grow(2, 2.5, keep_seconds=60, gap_seconds=5)
    assert made.samples == ((1, 5.0), (2, 7.5))


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
