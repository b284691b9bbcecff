"""Worked numbers of horizontal.go and replica_calculator.go of Kubernetes 1.35.4."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peakclip_operator.simulation.baselines.hpa import (
    DOWN,
    UP,
    Behavior,
    Hpa,
    HpaSettings,
    Policy,
    Rules,
    old_limit,
    proposal,
)

PLAIN = HpaSettings(threshold=10, maximum=20)
BEHAVED = replace(PLAIN, behavior=Behavior())


def synced(settings: HpaSettings, *lags: int, current: int = 1, every: float = 15.0) -> list[int]:
    """Workers after each sync, when they all exist at once."""
    hpa, workers = Hpa(settings), []
    for at, lag in enumerate(lags):
        current = hpa.sync(lag, current, current, at * every)
        workers.append(current)
    return workers


@pytest.mark.parametrize(
    ("lag", "workers", "wanted"),
    [
        (3000, 1, 300),
        (41, 1, 5),
        (110, 10, 10),  # a ratio of 1.1 is within the tolerance of 10 %
        (111, 10, 12),
        (90, 10, 10),  # 0.9 too
        (89, 10, 9),
        (0, 4, 0),
        (5, 0, 1),  # nobody exists yet: no ratio, no tolerance
        (0, 0, 0),
    ],
)
def test_the_proposal_is_the_lag_over_the_threshold_outside_the_tolerance(
    lag: int, workers: int, wanted: int
) -> None:
    assert proposal(lag, 10, workers, 0.1) == wanted


def test_the_tolerance_is_10_per_cent_unless_told() -> None:
    assert synced(PLAIN, 108, current=10) == [10]
    assert synced(PLAIN, 112, current=10) == [12]


@pytest.mark.parametrize(("current", "most"), [(1, 4), (2, 4), (3, 6), (4, 8), (8, 16), (16, 32)])
def test_the_old_limit(current: int, most: int) -> None:
    assert old_limit(current) == most


def test_without_a_behavior_it_doubles_to_its_maximum() -> None:
    assert synced(PLAIN, 3000, 3000, 3000, 3000, 3000) == [4, 8, 16, 20, 20]


def test_without_a_behavior_it_goes_on_upwards_when_the_queue_is_empty() -> None:
    """As was measured: the highest recommendation of 300 s counts, and only the limit has delayed it."""
    assert synced(PLAIN, 3000, 3000, 0, 0, 0) == [4, 8, 16, 20, 20]


def test_the_window_of_300_seconds_lets_go_at_the_21st_sync() -> None:
    workers = synced(PLAIN, 3000, *[0] * 21, current=4)
    assert workers[:20] == [8, 16, *[20] * 18]
    assert workers[20:] == [1, 1]  # HPA's own minimum; 0 is KEDA's


def test_with_a_behavior_it_keeps_what_is_when_the_queue_is_empty() -> None:
    assert synced(BEHAVED, 3000, 3000, 0, 0, 0) == [5, 10, 10, 10, 10]


def test_the_default_behavior_adds_4_or_doubles_each_15_seconds() -> None:
    assert synced(replace(BEHAVED, maximum=100), *[3000] * 5) == [5, 10, 20, 40, 80]


def test_a_policy_counts_what_its_period_has_had() -> None:
    slow = Behavior(up=Rules((Policy("Pods", 4, 60.0),), window_seconds=0.0))
    assert synced(replace(PLAIN, behavior=slow), *[3000] * 6) == [5, 5, 5, 5, 9, 9]


def test_percent_is_rounded_up_or_it_would_never_grow() -> None:
    tenth = Behavior(up=Rules((Policy("Percent", 10, 15.0),), window_seconds=0.0))
    assert synced(replace(PLAIN, behavior=tenth), *[3000] * 3) == [2, 3, 4]


@pytest.mark.parametrize(("select", "wanted"), [("Max", 5), ("Min", 2), ("Disabled", 1)])
def test_which_policy_counts_upwards(select: str, wanted: int) -> None:
    rules = replace(UP, select=select)  # type: ignore[arg-type]
    assert synced(replace(PLAIN, behavior=Behavior(up=rules)), 3000) == [wanted]


@pytest.mark.parametrize(("select", "wanted"), [("Max", 5), ("Min", 8), ("Disabled", 10)])
def test_which_policy_counts_downwards(select: str, wanted: int) -> None:
    policies = (Policy("Pods", 2, 15.0), Policy("Percent", 50, 15.0))
    rules = Rules(policies, 0.0, select)  # type: ignore[arg-type]
    assert synced(replace(PLAIN, behavior=Behavior(down=rules)), 0, current=10) == [wanted]


def test_stabilization_upwards_takes_the_lowest_of_its_window() -> None:
    """The first look's own number of workers is among them, as in recordInitialRecommendation."""
    patient = replace(PLAIN, behavior=Behavior(up=replace(UP, window_seconds=30.0)))
    assert synced(patient, 3000, 3000, 3000) == [1, 1, 5]


def test_stabilization_downwards_takes_the_highest_of_its_window() -> None:
    """Run 5: empty between 43.5 and 58.5 s, back to 1 a window of 30 s after the last lag was looked at."""
    quick = replace(PLAIN, maximum=4, behavior=Behavior(down=replace(DOWN, window_seconds=30.0)))
    assert synced(quick, 3000, 1000, 300, 0, 0, 0) == [4, 4, 4, 4, 1, 1]


def test_at_zero_it_is_switched_off() -> None:
    assert synced(PLAIN, 3000, current=0) == [0]


def test_bounds_count_before_the_metric() -> None:
    assert Hpa(PLAIN).sync(None, 25, 25, 0.0) == 20
    assert Hpa(replace(PLAIN, minimum=3)).sync(None, 1, 1, 0.0) == 3


def test_an_unknown_lag_changes_nothing() -> None:
    assert Hpa(PLAIN).sync(None, 7, 7, 0.0) == 7
