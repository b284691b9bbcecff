"""Worked numbers of knative/serving 1.23."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.looked import seen

from peakclip_operator.simulation.autoscalers import Autoscaler
from peakclip_operator.simulation.baselines.buckets import Buckets
from peakclip_operator.simulation.baselines.knative import Decider, Knative, KnativeSettings

SETTINGS = KnativeSettings()
ONE = KnativeSettings(container_concurrency=1)


def filled(settings: KnativeSettings, concurrency: float, seconds: int = 60) -> Decider:
    decider = Decider(settings)
    for second in range(seconds):
        decider.record(second, concurrency)
    return decider


def test_it_is_an_autoscaler_without_a_limiter() -> None:
    knative: Autoscaler = Knative(SETTINGS)
    assert not knative.limited


@pytest.mark.parametrize(("settings", "target"), [(SETTINGS, 70.0), (ONE, 0.7)])
def test_the_target_is_70_per_cent_of_what_a_worker_takes(settings: KnativeSettings, target: float) -> None:
    assert settings.target == pytest.approx(target)


def test_buckets_are_the_mean_since_the_first_record() -> None:
    buckets = Buckets(6)
    buckets.record(0.2, 30.0)
    assert buckets.mean(0.9) == 30.0
    buckets.record(1.0, 0.0)
    assert buckets.mean(1.0) == 15.0


def test_records_of_one_second_are_added_up() -> None:
    buckets = Buckets(6)
    buckets.record(0.2, 30.0)
    buckets.record(0.7, 12.0)
    assert buckets.mean(0.9) == 42.0


def test_buckets_leave_their_window_and_seconds_without_a_record_are_left_out_at_the_end() -> None:
    buckets = Buckets(6)
    for second in range(6):
        buckets.record(second, 60.0 if second < 3 else 0.0)
    assert buckets.mean(5) == 30.0
    assert buckets.mean(7) == 15.0  # of seconds 2 to 5
    assert buckets.mean(11) == 0.0
    assert not buckets.empty(11)
    assert buckets.empty(12)


def test_a_gap_of_a_window_begins_anew() -> None:
    buckets = Buckets(6)
    buckets.record(0, 60.0)
    buckets.record(6, 12.0)
    assert buckets.mean(6) == 12.0


def test_a_steady_concurrency_is_divided_by_the_target() -> None:
    assert filled(SETTINGS, 140.0).scale(2, 59.0) == 2
    assert filled(SETTINGS, 141.0).scale(2, 59.0) == 3


def test_up_at_most_a_thousandfold_down_at_most_by_half() -> None:
    assert filled(ONE, 7000.0).scale(1, 59.0) == 1000
    assert filled(SETTINGS, 1.0).scale(9, 59.0) == 4


@pytest.mark.parametrize(("ready", "panics"), [(21, True), (22, False)])
def test_it_panics_when_the_last_6_seconds_want_twice_the_ready_workers(ready: int, panics: bool) -> None:
    decider = filled(SETTINGS, 0.0)
    for second in range(60, 66):
        decider.record(second, 2940.0)
    wanted = decider.scale(ready, 65.0)
    # 2940 / 70; or ceil(6 x 2940 / 60 / 70) = 5, but half of the ready ones is the least.
    assert wanted == (42 if panics else 11)


def test_no_scale_down_while_it_panics_and_until_a_stable_window_after() -> None:
    decider = filled(SETTINGS, 3000.0, 6)
    assert decider.scale(1, 5.0) == 43
    for second in range(6, 67):
        decider.record(second, 0.0)
        if second % 2:
            assert decider.scale(43, second) == 43
    assert decider.scale(43, 66.0) == 21


def test_a_new_autoscaler_over_several_workers_begins_in_panic() -> None:
    knative = Knative(SETTINGS)
    wanted = [knative.look(seen(0, 5), now) for now in range(60)]
    assert wanted == [None] * 60


def test_no_record_is_no_decision() -> None:
    assert Decider(SETTINGS).scale(1, 5.0) is None
    assert Knative(SETTINGS).look(seen(None, 1), 0.0) is None


def test_an_order_wakes_it_from_zero_at_once() -> None:
    """The activator tells a concurrency of 1 without waiting for its second or for the tick."""
    knative = Knative(SETTINGS, tick_phase_seconds=1.9)
    assert knative.look(seen(0, 0), 0.0) is None
    assert knative.look(seen(0, 0), 0.2) is None
    assert knative.look(seen(3000, 0), 0.4) == 1


def test_a_burst_is_met_at_the_next_tick() -> None:
    """The first order is told at once (1), the second after it has the other 2999: ceil(3000 / 2 / 70)."""
    knative = Knative(SETTINGS)
    made = []
    for tenth in range(60):
        now = tenth / 10
        wanted = knative.look(seen(0 if now < 1 else 3000, 1), now)
        if wanted is not None:
            made.append((now, wanted))
    assert made[0] == (2.0, 22)
    assert made[1] == (4.0, 33)  # ceil(9000 / 4 / 70)


def test_an_order_that_was_told_at_once_is_not_told_again() -> None:
    """140 orders: (1 + 139) / 2 is 70, one worker; told twice it would be 70.5, and two."""
    knative = Knative(SETTINGS)
    made = [(now, knative.look(seen(0 if now < 1 else 140, 1), now)) for now in range(5)]
    assert next(one for one in made if one[1] is not None) == (4, 2)


def test_a_pool_without_orders_is_kept_for_a_stable_window_before_it_counts_as_idle() -> None:
    knative = Knative(SETTINGS)
    assert next(now for now in range(200) if knative.look(seen(0, 1), now) == 0) == 62


def test_the_last_worker_goes_when_the_stable_window_is_empty_and_the_activator_is_in_the_path() -> None:
    """One worker of 100 leaves less than 211 to spare: the activator is there all the time, so the grace is over."""
    knative = Knative(SETTINGS)
    gone = None
    for tenth in range(2000):
        now = tenth / 10
        wanted = knative.look(seen(1 if now < 20 else 0, 1), now)
        if wanted == 0:
            gone = now
            break
    assert gone == 82.0  # 20 s, a stable window; idle from 80 s on; the tick after


def test_the_grace_counts_from_when_the_activator_came_into_the_path() -> None:
    """Without any burst to keep room for it is not in the path before the pool is idle: 30 s later."""
    knative = Knative(replace(SETTINGS, burst_capacity=0.0))
    gone = next(
        tenth / 10 for tenth in range(2000) if knative.look(seen(1 if tenth < 200 else 0, 1), tenth / 10) == 0
    )
    assert gone == 110.0


def test_a_minimum_is_kept() -> None:
    knative = Knative(replace(SETTINGS, minimum=2))
    assert {knative.look(seen(0, 2), now) for now in range(200)} == {None}


def test_what_workers_are_busy_with_is_concurrency() -> None:
    """3.9 of 4 busy and nothing waits: ceil(3.9 / 0.7)."""
    knative = Knative(ONE)
    for second in range(200):
        knative.look(seen(0, 4, busy=3.9), second - 0.5)
    assert knative.look(seen(0, 4, busy=3.9), 200.0) == 6


def test_a_maximum_bounds_what_is_applied() -> None:
    knative = Knative(replace(ONE, maximum=20))
    made = [knative.look(seen(3000, 1), now) for now in range(5)]
    assert max(wanted for wanted in made if wanted is not None) == 20
