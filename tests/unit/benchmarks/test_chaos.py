"""Rates in windows, what counts as a return, and the table of the chaos benchmark."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from benchmarks import tables
from benchmarks.chaos.rates import Phases, first_success_seconds, longest_pause_seconds, rate_in, row, summary
from benchmarks.chaos.scenarios import SCENARIOS

PHASES = Phases(
    began=0.0, harmed=10.0, mended=14.0, back=14.5, settled=16.0, ended=22.0, whole=17.5, later=29.0
)
STEADY = [number / 100 for number in range(3_000)]


def without(begin: float, end: float) -> list[float]:
    return [at for at in STEADY if not begin <= at < end]


def test_a_batch_at_the_edge_makes_no_difference() -> None:
    batches = [second / 2 for second in range(100) for _ in range(50)]  # 100 a second
    for shift in (0.0, 0.01, 0.25, 0.49):
        assert rate_in(batches, 5 + shift, 15 + shift) == pytest.approx(100)


def test_silence_counts() -> None:
    assert rate_in(without(12, 14), 10, 20) == pytest.approx(80, rel=0.01)
    assert rate_in(STEADY[:1_000], 5.0, 15.0) == pytest.approx(50, rel=0.01), "and no end of it is in sight"
    assert rate_in([], 0.0, 1.0) == 0


def test_a_window_needs_a_length() -> None:
    with pytest.raises(ValueError, match="ends before"):
        rate_in(STEADY, 1.0, 1.0)


def test_the_first_success_is_after_the_harm_was_over() -> None:
    assert first_success_seconds(without(10, 15), PHASES) == pytest.approx(0.5)
    assert first_success_seconds(without(10, 14.2), PHASES) == 0, "quicker than who asked whether it is back"
    assert first_success_seconds(STEADY[:1_400], PHASES) is None, "what came before is none"


def test_the_longest_pause_is_told() -> None:
    assert longest_pause_seconds(without(15, 16.5), 10.0, 20.0) == pytest.approx(1.51)
    assert longest_pause_seconds([], 10.0, 20.0) == 10.0


def test_a_row_tells_before_during_and_after() -> None:
    found = row(without(10, 15), without(11, 12), PHASES, STEADY[1_500:])
    assert found == {
        "baseline_per_second": pytest.approx(100, rel=0.01),
        "during_per_second": pytest.approx(100 / 6, rel=0.02),
        "after_per_second": pytest.approx(100),
        "ratio": pytest.approx(1, abs=0.01),
        "later_per_second": pytest.approx(100),
        "later_ratio": pytest.approx(1, abs=0.01),
        "longest_pause_seconds": pytest.approx(0.01),
        "whole_seconds": 3.0,
        "first_success_seconds": pytest.approx(0.5),
        "accepted_before_per_second": pytest.approx(100),
        "accepted_during_per_second": pytest.approx(350 / 4.5, rel=0.01),
        "harmed_seconds": 4.5,
    }


def test_what_is_over_at_once_has_no_rate_meanwhile() -> None:
    at_once = dataclasses.replace(PHASES, mended=10.0, back=10.0)
    assert row(STEADY, STEADY, at_once, STEADY)["accepted_during_per_second"] is None


def result(**changed: Any) -> dict[str, Any]:
    rounds = [
        {"round": number, "design": name, **row(without(10, 15), STEADY, PHASES, STEADY[1_500:]), **changed}
        for number in (1, 2, 3)
        for name in SCENARIOS
    ]
    checks = [
        {"accepted": 1_000, "lost": 0, "duplicated": 0, "oversold": 0, "undersold": 0, "findings": 0}
    ] * 3
    options = {
        "chaos_rounds": 3, "chaos_rate": 300.0, "chaos_seconds": 10.0, "chaos_fault_seconds": 4.0,
        "chaos_recovery_seconds": 1.5,
    }  # fmt: skip
    return {"options": options, **summary(rounds, checks)}


def test_every_scenario_has_its_line() -> None:
    page = tables.summary("chaos", result())
    for name in SCENARIOS:
        assert f"`{name}`: " in page
    assert page.count("| reached |") == len(SCENARIOS)
    assert "Of 3,000 accepted orders 0 were lost" in page


def test_a_rate_that_comes_back_later_is_said_to() -> None:
    assert tables.summary("chaos", result(ratio=0.7)).count("| later |") == len(SCENARIOS)


@pytest.mark.parametrize(
    "changed",
    [{"ratio": 0.9, "later_ratio": 0.979}, {"first_success_seconds": 2.01}, {"first_success_seconds": None}],
)
def test_a_goal_that_is_missed_is_said_to_be(changed: dict[str, Any]) -> None:
    assert tables.summary("chaos", result(**changed)).count("| missed |") == len(SCENARIOS)
