"""Medians, ratios and sizes of the benchmarks: the figures that are quoted."""

from __future__ import annotations

import doctest

import pytest
from benchmarks import accept, drain, stats
from benchmarks.load import Run
from hypothesis import given
from hypothesis import strategies as st

rates = st.floats(0.1, 1e6)


def test_the_examples_in_the_documentation_hold() -> None:
    found = doctest.testmod(stats)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_ratio_is_taken_within_its_round() -> None:
    """The machine was ten times slower in the second round: both designs suffered, the ratio did not."""
    rounds = [{"slow": 100.0, "fast": 1200.0}, {"slow": 10.0, "fast": 130.0}, {"slow": 90.0, "fast": 990.0}]
    found = stats.ratio(rounds, "fast", "slow")
    assert found.per_round == pytest.approx((12.0, 13.0, 11.0))
    assert found.spread == stats.Spread(pytest.approx(12.0), pytest.approx(11.0), pytest.approx(13.0))
    assert found.to_json() == {
        "over": "fast", "under": "slow", "per_round": [12.0, 13.0, 11.0], "median": 12.0, "low": 11.0, "high": 13.0,
    }  # fmt: skip


def test_an_even_number_of_rounds_has_the_mean_of_the_middle_two() -> None:
    assert stats.spread([4.0, 1.0, 3.0, 100.0]).median == 3.5


def test_no_rounds_have_no_median() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        stats.spread([])


def test_a_round_without_one_of_the_designs_is_an_error() -> None:
    with pytest.raises(KeyError):
        stats.ratio([{"a": 1.0, "d": 2.0}, {"d": 2.0}], "d", "a")


@given(st.lists(st.tuples(rates, rates), min_size=1, max_size=9))
def test_the_median_ratio_lies_between_the_rounds(pairs: list[tuple[float, float]]) -> None:
    found = stats.ratio([{"a": a, "d": d} for a, d in pairs], "d", "a")
    assert found.spread.low <= found.spread.median <= found.spread.high
    assert {found.spread.low, found.spread.high} <= set(found.per_round)


def test_the_best_is_chosen_anew_in_each_round() -> None:
    rounds = [{"tx-1": 10.0, "tx-4": 30.0}, {"tx-1": 20.0, "tx-4": 5.0}]
    assert [one["best"] for one in stats.with_best(rounds, "best", ("tx-1", "tx-4"))] == [30.0, 20.0]
    assert "best" not in rounds[0]


@given(rates, st.floats(0.1, 10))
def test_a_size_keeps_its_bounds(rate: float, seconds: float) -> None:
    orders = stats.orders_for(rate, seconds, least=20, most=5_000)
    assert 20 <= orders <= 5_000
    if 20 < orders < 5_000:
        assert orders == pytest.approx(rate * seconds, rel=0.06)


def run_of(per_second: float, p99: float = 9.0) -> Run:
    cpu = {"api": 80.0, "nats": 10.0, "postgres": 0.0, "client": 30.0}
    return Run(1_000, 1_000 / per_second, per_second, 3.0, p99, 20.0, 0, cpu)


def test_the_summary_of_accepting_is_that_of_its_rounds() -> None:
    rates = {
        "sync": 1_000.0,
        "sync-tuned": 1_200.0,
        "sync-one-call": 1_500.0,
        "lazy": 8_000.0,
        "always": 3_000.0,
        "echo": 20_000.0,
    }
    rounds = [
        accept.Measured(number, name, run_of(rate * scale))
        for number, scale, ours in ((1, 1.0, 12_000.0), (2, 0.5, 7_000.0), (3, 2.0, 22_000.0))
        for name, rate in {**rates, "peakclip": ours / scale}.items()
    ]
    found = accept.summary(rounds)
    assert found["designs"]["sync"]["per_second"] == {"median": 1_000.0, "low": 500.0, "high": 2_000.0}
    assert found["designs"]["sync"]["p99_ms"]["median"] == 9.0
    by_name = {(one["over"], one["under"]): one for one in found["ratios"]}
    assert by_name["peakclip", "sync"]["per_round"] == [12.0, 14.0, 11.0]
    assert by_name["peakclip", "sync"]["median"] == 12.0
    assert by_name["peakclip", "always"]["median"] == 4.0
    assert set(by_name) == {("peakclip", name) for name in rates}


def test_half_load_keeps_designs_apart() -> None:
    rounds = [
        accept.Measured(number, name, run_of(500.0, p99))
        for number, name, p99 in (
            (1, "peakclip", 5.0),
            (1, "sync", 50.0),
            (2, "peakclip", 7.0),
            (2, "sync", 40.0),
        )
    ]
    found = accept.half_load_summary({"peakclip": 6_000.0, "sync": 500.0}, rounds)["half_load"]
    assert found["peakclip"]["p99_ms"] == {"median": 6.0, "low": 5.0, "high": 7.0}
    assert found["sync"]["p99_ms"]["median"] == 45.0
    assert found["sync"]["rate_per_second"] == 500.0


def test_draining_is_compared_with_the_best_number_of_connections() -> None:
    seconds = {
        "tx-1": 1.0, "tx-4": 0.5, "tx-16": 2.0, "batch-1": 1.0,
        "batch-64": 0.05, "batch-256": 0.02, "batch-1000": 0.025, "worker": 0.1,
    }  # fmt: skip
    rounds = [
        {"round": 1, "design": name, "orders": 100, "seconds": value} for name, value in seconds.items()
    ]
    found = drain.summary(rounds)
    ratios = {(one["over"], one["under"]): one["median"] for one in found["ratios"]}
    assert ratios["batch-256", "tx-1"] == 50.0
    assert ratios["best-batch", "best-tx"] == 25.0
    assert ratios["worker", "tx-1"] == 10.0
    assert "best-tx" not in found["designs"]
