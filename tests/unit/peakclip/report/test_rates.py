"""Counting moments, checked against the slowest possible way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.limiter.sliding import most_in_any_second
from peakclip.report.rates import after_ramp, level, max_sliding, mean_rate, series

# Hundredths, because equal and exactly one second apart are the interesting cases.
MOMENTS = st.lists(st.integers(0, 500).map(lambda n: n / 4), min_size=1, max_size=60)


@given(MOMENTS)
def test_max_sliding_is_what_trying_every_window_finds(moments: list[float]) -> None:
    tried = max(sum(start <= m < start + 1.0 for m in moments) for start in moments)
    assert max_sliding(moments) == tried
    assert most_in_any_second(moments) == tried, "the limiter's own counter agrees"


def test_a_second_is_half_open() -> None:
    assert max_sliding([0.0, 0.4, 0.9, 1.0]) == 3
    assert max_sliding([0.0, 1.0, 2.0]) == 1
    assert max_sliding([5.0, 5.0]) == 2
    assert max_sliding([]) is None


def test_mean_counts_gaps_and_not_moments() -> None:
    assert mean_rate([index / 100 for index in range(1001)]) == pytest.approx(100.0)
    assert mean_rate([3.0]) is None
    assert mean_rate([3.0, 3.0]) is None
    assert mean_rate([2.0, 0.0, 1.0]) == pytest.approx(1.0), "the order of rows does not matter"


def test_after_ramp_leaves_out_the_start_up_and_nothing_else() -> None:
    ramp = [0.0, 0.04, 0.08, 0.5, 0.9]
    full = [2.0 + index / 100 for index in range(500)]
    assert after_ramp([*full, *ramp], 100) == full
    assert after_ramp(ramp, 100) == []
    assert after_ramp([], 100) == []


@given(MOMENTS, st.sampled_from([0.5, 1.0, 3.0]))
def test_series_lose_no_moment(moments: list[float], step: float) -> None:
    counts = series(moments, start=0.0, end=max(moments), step=step)
    assert sum(counts) == len(moments)
    assert counts[int(moments[0] / step)] >= 1


@given(MOMENTS, MOMENTS)
def test_level_is_what_counting_finds(ups: list[float], downs: list[float]) -> None:
    points = level(ups, downs, start=0.0, end=126.0, step=7.0)
    assert points[-1] == (126.0, len(ups) - len(downs))
    for moment, value in points:
        assert value == sum(u <= moment for u in ups) - sum(d <= moment for d in downs)
