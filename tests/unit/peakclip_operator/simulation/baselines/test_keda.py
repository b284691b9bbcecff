from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.looked import seen

from peakclip_operator.simulation.autoscalers import Autoscaler
from peakclip_operator.simulation.baselines.keda import Keda, KedaSettings, tuned
from peakclip_operator.simulation.baselines.timer import Timer

SETTINGS = KedaSettings(maximum=20)


def test_it_is_an_autoscaler_without_a_limiter() -> None:
    keda: Autoscaler = Keda(SETTINGS)
    assert not keda.limited


def test_a_timer_is_due_at_its_phase_and_each_period_after() -> None:
    timer = Timer(15.0, 4.0)
    due = [(now, at) for now in range(40) if (at := timer.due(now)) is not None]
    assert due == [(4, 4.0), (19, 19.0), (34, 34.0)]


def test_a_timer_that_was_looked_at_too_late_is_due_once() -> None:
    timer = Timer(5.0)
    assert timer.due(23.0) == 20.0
    assert timer.due(24.9) is None
    assert timer.due(0.1 * 250) == 25.0


def test_polls_of_30_seconds_make_the_first_worker() -> None:
    keda = Keda(SETTINGS, polling_phase_seconds=16.0, sync_phase_seconds=2.0)
    made = {now: keda.look(seen(3000, 0), now) for now in range(47)}
    assert {now: wanted for now, wanted in made.items() if wanted is not None} == {16: 1, 46: 1}


def test_tuned_polls_come_each_5_seconds() -> None:
    keda = Keda(tuned(SETTINGS), polling_phase_seconds=2.0, sync_phase_seconds=14.0)
    made = {now: keda.look(seen(3000, 0), now) for now in range(14)}
    assert {now: wanted for now, wanted in made.items() if wanted is not None} == {2: 1, 7: 1, 12: 1}


def test_both_timers_in_one_look_act_in_their_order() -> None:
    first = Keda(SETTINGS, polling_phase_seconds=0.4, sync_phase_seconds=0.6)
    assert first.look(seen(3000, 0), 1.0) == 4  # 0 -> 1 by the poll, 1 -> 4 by the HPA
    second = Keda(SETTINGS, polling_phase_seconds=0.6, sync_phase_seconds=0.4)
    assert second.look(seen(3000, 0), 1.0) == 1


@pytest.mark.parametrize(("lag", "wanted"), [(5, None), (6, 1)])
def test_activation_is_strictly_above_its_threshold(lag: int, wanted: int | None) -> None:
    assert Keda(replace(SETTINGS, activation_lag_threshold=5)).look(seen(lag, 0), 0.0) == wanted


def test_what_is_in_flight_is_lag() -> None:
    assert Keda(SETTINGS).look(seen(0, 0, in_flight=1), 0.0) == 1


def test_what_workers_are_busy_with_is_lag() -> None:
    """Or a pool that keeps up with its orders would look idle, and go to zero."""
    assert Keda(SETTINGS, sync_phase_seconds=9.0).look(seen(0, 1, busy=0.9), 0.0) is None
    assert Keda(SETTINGS, sync_phase_seconds=9.0).look(seen(0, 1, busy=0.1), 0.0) == 0


def test_zero_workers_come_300_seconds_after_the_last_poll_with_a_lag() -> None:
    """Run 6: 20 workers, the last such poll at 76 s, so 0 at 376 s."""
    keda = Keda(SETTINGS, polling_phase_seconds=15.5, sync_phase_seconds=9.4)
    for tenth in range(880):
        keda.look(seen(200, 20), tenth / 10)
    made = [(tenth / 10, keda.look(seen(0, 20), tenth / 10)) for tenth in range(880, 3756)]
    assert next(one for one in made if one[1] is not None) == (375.5, 0)


def test_a_pool_that_was_never_active_goes_to_zero_at_the_first_poll() -> None:
    assert Keda(SETTINGS, sync_phase_seconds=9.0).look(seen(0, 3), 0.0) == 0


def test_a_minimum_is_kept_and_reached() -> None:
    at_least_2 = replace(SETTINGS, minimum=2)
    assert Keda(at_least_2, sync_phase_seconds=9.0).look(seen(0, 2), 0.0) is None
    assert Keda(at_least_2, sync_phase_seconds=9.0).look(seen(5, 0), 0.0) == 2
    assert Keda(at_least_2, sync_phase_seconds=9.0).look(seen(0, 0), 0.0) == 2


def test_an_unknown_lag_holds() -> None:
    assert Keda(SETTINGS).look(seen(None, 4), 0.0) is None
    assert Keda(SETTINGS).look(seen(None, 0), 0.0) is None


def test_tuned_it_takes_any_step_upwards_at_once_and_none_downwards_for_300_seconds() -> None:
    keda = Keda(tuned(replace(SETTINGS, minimum=1)))
    assert keda.look(seen(3000, 1), 0.0) == 20
    assert all(keda.look(seen(0, 20), now) is None for now in range(1, 300))
    assert keda.look(seen(0, 20), 300.0) == 1
