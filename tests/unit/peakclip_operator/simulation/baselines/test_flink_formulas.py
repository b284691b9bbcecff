"""Worked numbers of apache/flink-kubernetes-operator 1.16-SNAPSHOT, with its default options."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from peakclip_operator.simulation.baselines.flink_formulas import (
    Evaluated,
    FlinkSettings,
    Sample,
    capacity,
    evaluate,
    mean,
    observed_rate,
    parallelism,
    true_rate,
)

SETTINGS = FlinkSettings()
NAN = math.nan


def evaluated(true: float, *, rate: float = 100.0, catch_up: float = 10.0) -> Evaluated:
    return Evaluated(rate, catch_up, true, up_below=0.0, down_above=math.inf)


def test_capacity_is_catch_up_and_restart_and_input_at_its_utilization() -> None:
    assert capacity(100.0, 10.0, 0.7, 300.0, SETTINGS) == 170.0  # 10 + 16.67 + 142.86
    assert capacity(100.0, 10.0, 1.0, 0.0, SETTINGS) == 110.0
    assert capacity(100.0, 10.0, 0.0, 300.0, SETTINGS) == math.inf


def test_capacity_without_a_catch_up_has_no_restart_term() -> None:
    assert capacity(100.0, 0.0, 0.5, 300.0, replace(SETTINGS, catch_up_seconds=0.0)) == 200.0


def test_half_a_record_is_rounded_up_as_java_does() -> None:
    assert capacity(0.0, 2.5, 0.7, 300.0, SETTINGS) == 3.0


@pytest.mark.parametrize(
    ("busy", "rate", "observed", "found"),
    [
        (0.8, 88.0, NAN, 110.0),
        (0.8, 88.0, 96.0, 110.0),  # 110 is not above 1.15 x 96 = 110.4
        (0.8, 88.0, 95.0, 95.0),  # above 109.25
        (0.5, 0.0, NAN, math.inf),
        (0.5, 0.0, 95.0, 95.0),
        (0.0, 88.0, NAN, math.inf),
        (NAN, 88.0, 95.0, 95.0),
        (0.8, 88.0, math.inf, 110.0),
    ],
)
def test_the_true_rate_is_busy_time_unless_it_says_too_much(
    busy: float, rate: float, observed: float, found: float
) -> None:
    assert true_rate(busy, rate, observed, 0.15) == pytest.approx(found)


def test_a_true_rate_that_nothing_is_known_of() -> None:
    assert math.isnan(true_rate(NAN, 88.0, NAN, 0.15))


def sample(at: float, taken: float, lag: float, *, load: float = 0.8, observed: float = NAN) -> Sample:
    return Sample(at, taken, lag, load, observed)


@pytest.mark.parametrize(("lag", "found"), [(3000.0, 100.0), (2999.0, NAN)])
def test_the_rate_is_observed_from_30_seconds_of_lag(lag: float, found: float) -> None:
    assert observed_rate([], lag, 100.0, SETTINGS) == pytest.approx(found, nan_ok=True)


def test_what_is_not_observed_is_the_mean_so_far_of_two_or_more() -> None:
    one, two = sample(0, 0, 0, observed=90.0), sample(60, 0, 0, observed=110.0)
    assert math.isnan(observed_rate([one], 0.0, 100.0, SETTINGS))
    assert observed_rate([one, two], 0.0, 100.0, SETTINGS) == 100.0


def test_nothing_that_moves_is_a_rate_without_bound_and_left_out_of_means() -> None:
    assert observed_rate([], 5000.0, 0.0, SETTINGS) == math.inf
    assert mean([math.inf, 4.0, NAN]) == 4.0
    assert mean([math.inf]) == math.inf
    assert math.isnan(mean([]))


def test_the_input_rate_is_what_was_taken_and_what_the_lag_grew() -> None:
    found = evaluate([sample(0, 0, 1000), sample(100, 8000, 3000)], SETTINGS)
    assert found.input_rate == 100.0
    assert found.catch_up_rate == pytest.approx(3000 / 1800)
    assert found.true_rate == pytest.approx(100.0)  # 80/s at a load of 0.8
    assert found.up_below == 102.0  # 1.67 + 100
    assert found.down_above == 268.0  # 1.67 + 16.67 + 250
    assert found.outside


def test_a_lag_that_falls_faster_than_is_taken_is_no_input() -> None:
    assert evaluate([sample(0, 0, 9000), sample(100, 100, 0)], SETTINGS).input_rate == 0.0


def test_with_a_backlog_nothing_is_given_back() -> None:
    """More than 5 min of lag at the rate of now: 80/s and 24,001."""
    below = evaluate([sample(0, 0, 24_000), sample(100, 8000, 24_000)], SETTINGS)
    above = evaluate([sample(0, 0, 24_001), sample(100, 8000, 24_001)], SETTINGS)
    assert math.isfinite(below.down_above)
    assert above.down_above == math.inf


def test_a_lag_that_nothing_is_taken_of_is_a_backlog_and_none_is_not() -> None:
    assert evaluate([sample(0, 0, 5), sample(100, 0, 5)], SETTINGS).down_above == math.inf
    assert math.isfinite(evaluate([sample(0, 0, 0), sample(100, 0, 0)], SETTINGS).down_above)


@pytest.mark.parametrize(
    ("true", "current", "wanted"),
    [
        (100.0, 4, 7),  # 170 / 100 x 4 = 6.8
        (170.0, 4, 4),
        (1700.0, 10, 4),  # a tenth, but at most 60 % down
        (1.0, 4, 200),  # the most
        (NAN, 4, 4),
        (math.inf, 5, 2),
    ],
)
def test_parallelism_is_that_of_now_times_what_is_wanted_over_what_it_can(
    true: float, current: int, wanted: int
) -> None:
    assert parallelism(evaluated(true), current, SETTINGS) == wanted


def test_bounds_do_not_move_what_is_already_outside_of_them() -> None:
    assert parallelism(evaluated(1.0), 30, replace(SETTINGS, maximum=20)) == 30
    assert parallelism(evaluated(1700.0), 2, replace(SETTINGS, minimum=3)) == 2
