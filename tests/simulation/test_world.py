"""The simulated world by itself: what goes in comes out, and its limiter, database, workers and telemetry are right."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.autoscalers import Fixed

from peakclip_operator.simulation.arrivals import flash, joined, per_step, ramp, recorded, steady
from peakclip_operator.simulation.database import Database
from peakclip_operator.simulation.measure import worst_rate
from peakclip_operator.simulation.run import Run, run
from peakclip_operator.simulation.scenario import Scenario
from peakclip_operator.simulation.scenarios import EVENING, evening, named
from peakclip_operator.simulation.sweep import STEP_SECONDS, drawn
from peakclip_operator.simulation.world import World

BURST = Scenario("burst", flash(60, 1_000, 2), poisson=False)


def ran(scenario: Scenario, workers: int, *, limited: bool = True, step_seconds: float = 0.1) -> Run:
    scenario = replace(scenario, min_replicas=workers)
    return run(scenario, Fixed(workers, limited=limited), step_seconds=step_seconds)


def rate_between(made: Run, since: int, until: int) -> float:
    return sum(row.started for row in made.rows[since:until]) / (until - since)


def test_one_worker_alone_and_four_together_do_what_was_measured() -> None:
    """keda_baseline: 23.1/s, 22 each of four, 171 to 177 of eight, about 350 of twenty; one order at a time."""
    scenario = replace(named()["flash-12000"], work_noise=0.1)
    for workers, measured in [(1, 23.1), (4, 88.0), (8, 174.0), (16, 315.0), (20, 350.0)]:
        made = ran(scenario, workers, limited=False)
        assert rate_between(made, 18, 40) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("limit", [0.5, 3.0, 100.0, 700.0, 10_000.0])
def test_the_limiter_grants_r_and_no_more(limit: float) -> None:
    scenario = Scenario(
        "limited", flash(60, 60 * limit, 2), poisson=False, limit_per_second=limit, work=((0, 0.01),)
    )
    made = ran(replace(scenario, database=Database(capacity_per_second=1e6, knee=1e6)), 400)
    assert sum(made.starts) == pytest.approx(58 * limit, rel=0.01, abs=1)
    assert worst_rate(made) <= limit + scenario.burst


def test_nothing_is_banked() -> None:
    """Twenty idle seconds are not given back in the first one of a burst."""
    made = ran(replace(BURST, arrivals=flash(60, 1_000, 20)), 30)
    assert rate_between(made, 20, 21) <= 100 + BURST.burst


def test_a_rate_changed_counts_after_the_fence() -> None:
    world = World(replace(BURST, min_replicas=30), limited=True)
    world.run(50)
    world.pace(20.0)
    world.run(100)
    assert world.rates == [(0.0, 100.0), (pytest.approx(6.3, abs=0.11), 20.0)]
    assert sum(world.starts[70:150]) == pytest.approx(8 * 20, abs=2)


@given(st.integers(0, 100_000), st.integers(0, 12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_order_is_lost_or_made(seed: int, workers: int, limited: bool) -> None:
    """Whatever goes wrong: what came is started, waits, or is in somebody's hands; and nobody is counted below zero."""
    scenario = drawn(seed)
    world = World(scenario, limited=limited, step_seconds=STEP_SECONDS)
    choose = random.Random(seed)
    told_before = (0, 0, 0.0)
    while world.remaining:
        world.run(5)
        world.scale(choose.randrange(workers + 1))
        seen = world.seen()
        assert min(seen.asked, seen.existing, seen.ready, seen.delayed or 0) >= 0
        assert seen.ready <= seen.existing
        if seen.lag is not None:
            assert seen.lag.ready >= 0
            assert seen.lag.last_seq == sum(world.arrivals[: len(world.starts)])
            assert seen.lag.finished_seq + seen.lag.total == seen.lag.last_seq
        assert seen.totals is not None
        told = (seen.totals.finished, seen.totals.failed, seen.totals.busy_seconds)
        assert told >= told_before
        assert seen.totals.finished <= seen.finished_total
        told_before = told
    assert world.started >= world.finished


def test_the_same_seed_is_the_same_run_and_another_one_is_not() -> None:
    scenario = drawn(9)
    one, same, other = (run(scenario, Fixed(5), seed).starts for seed in (9, 9, 10))
    assert one == same
    assert one != other


def test_a_worker_starts_after_its_time_and_not_before() -> None:
    scenario = replace(BURST, start_seconds=10.0, min_replicas=0)
    made = run(scenario, Fixed(4))
    first = next(row.second for row in made.rows if row.ready)
    assert 8 <= first <= 13
    assert [row.existing for row in made.rows[1:]] == [4] * 59
    assert sum(made.starts[:80]) == 0


def test_where_there_is_no_room_a_worker_starts_when_another_has_gone() -> None:
    world = World(replace(BURST, fits=3), limited=True)
    world.scale(5)
    world.run(100)
    assert (world.seen().existing, world.seen().ready) == (5, 3)
    world.scale(4)  # one of those that wait is given back
    world.run(30)
    assert (world.seen().existing, world.seen().ready) == (4, 3)


def test_where_a_worker_still_drains_there_is_no_room_for_the_next_one() -> None:
    world = World(replace(BURST, fits=3, min_replicas=3, drain_seconds=5.0), limited=True)
    world.scale(2)
    world.scale(3)
    world.run(40)
    assert (world.seen().existing, world.seen().ready) == (3, 2)
    world.run(40)
    assert (world.seen().existing, world.seen().ready) == (3, 3)


def test_a_new_controller_hears_at_first_nothing_and_then_all_that_was_ever_done() -> None:
    world = World(replace(BURST, arrivals=steady(60, 50), min_replicas=4), limited=True)
    for _ in range(20):
        world.run(5)
        before = world.seen().totals
    world.forget_telemetry()
    told = []
    for _ in range(3):
        world.run(5)
        told.append(world.seen().totals)
    assert told[0] is not None
    assert before is not None
    assert told[1] is not None
    assert told[0].finished == 0
    assert told[1].finished > before.finished > 300


def test_a_start_that_hangs_is_the_first_to_be_given_back() -> None:
    world = World(replace(BURST, never_start=1.0), limited=True)
    world.scale(4)
    world.run(100)
    assert (world.seen().existing, world.seen().ready) == (4, 1)
    world.scale(1)
    world.run(1)
    assert (world.seen().existing, world.seen().ready) == (1, 1)


def test_what_a_dead_worker_had_in_hand_comes_back_and_takes_another_start() -> None:
    scenario = replace(BURST, arrivals=flash(60, 300, 2), crashes=((3.0, 4),))
    made = ran(scenario, 4)
    assert made.finished == 300
    assert 300 < sum(made.starts) <= 304
    last = max(index for index, count in enumerate(made.starts) if count) / 10
    assert last >= 13.0  # the time that an acknowledgement is waited for


def test_the_throughput_of_a_database_falls_when_too_many_are_in_it() -> None:
    weak = Database(capacity_per_second=80.0, knee=8.0, collapse=0.5, connections=10)
    few = rate_between(ran(replace(BURST, database=weak), 8, limited=False), 4, 10)
    many = rate_between(ran(replace(BURST, database=weak), 32, limited=False), 4, 10)
    assert few == pytest.approx(80.0, rel=0.05)
    assert many == pytest.approx(80.0 / 2.5, rel=0.1)


def test_a_database_that_is_pressed_is_told_of() -> None:
    weak = Database(capacity_per_second=40.0, knee=8.0, collapse=0.5, connections=10, timeout_seconds=0.5)
    fixed = Fixed(40)
    run(replace(BURST, database=weak, min_replicas=40), fixed)
    totals = fixed.seen[-1].totals
    assert totals is not None
    assert totals.database is not None
    assert totals.database.errors > 0
    assert totals.failed == totals.database.errors
    assert totals.database.wait_seconds > 0
    assert sum(totals.database.took[-3:]) > sum(totals.database.took) / 2


def test_a_database_that_is_away_fails_every_call_and_the_orders_come_back() -> None:
    made = ran(replace(BURST, arrivals=flash(60, 500, 2), database=Database(away=((4.0, 8.0),))), 8)
    assert made.failed == pytest.approx(400, rel=0.05)
    assert made.finished == 500
    assert worst_rate(made) <= 105


def test_telemetry_is_half_a_second_old_and_tells_the_speed_of_a_worker() -> None:
    fixed = Fixed(4)
    run(replace(BURST, arrivals=flash(60, 3_000, 2), min_replicas=4), fixed)
    totals = fixed.seen[-1].totals
    assert totals is not None
    assert totals.finished / totals.busy_seconds == pytest.approx(1 / 0.0433, rel=0.02)
    middle = fixed.seen[40]
    assert middle.totals is not None
    behind = middle.finished_total - middle.totals.finished
    assert 20 < behind < 70  # at 92/s


def test_telemetry_that_is_out_stands_still_and_is_not_zero() -> None:
    fixed = Fixed(4)
    run(replace(BURST, arrivals=steady(60, 50), min_replicas=4, telemetry_out=((20.0, 40.0),)), fixed)
    told = [seen.totals.finished if seen.totals else -1 for seen in fixed.seen]
    assert len(set(told[40:78])) == 1
    assert 0 < told[40] < told[-1]


def test_lag_is_unknown_when_the_scenario_says_so_and_else_never() -> None:
    fixed = Fixed(4)
    run(replace(BURST, lag_unknown=((10.0, 20.0),)), fixed)
    unknown = [index * 0.5 + 0.5 for index, seen in enumerate(fixed.seen) if seen.lag is None]
    assert (unknown[0], unknown[-1], len(unknown)) == (10.0, 19.5, 20)


def test_the_age_of_the_oldest_is_that_of_first_come_first_served() -> None:
    fixed = Fixed(4)
    run(replace(BURST, min_replicas=4), fixed)
    ages = [seen.lag.oldest_seconds if seen.lag else None for seen in fixed.seen]
    assert ages[2] is None
    assert ages[15] == pytest.approx(6.0, abs=1.0)  # at 8 s, of the burst in the third second
    assert ages[-1] is None


@pytest.mark.parametrize("steps", [5, 10])
def test_steps_of_orders_add_up_to_their_seconds(steps: int) -> None:
    trace = joined(ramp(30, 0, 40), flash(10, 777, 3))
    assert sum(per_step(trace, steps, None)) == round(sum(trace))
    drawn_steps = per_step(trace, steps, random.Random(3))
    assert sum(drawn_steps) == pytest.approx(sum(trace), rel=0.1)
    assert len(drawn_steps) == 40 * steps


def test_the_recorded_evening_is_the_file() -> None:
    assert recorded(EVENING) == evening()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "holds no line"), ("0,1\nx,2\n", "line 2"), ("0,1\n1,-2\n", "line 2"), ("0,1\n3\n", "line 2")],
)
def test_a_trace_that_is_none_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        recorded(file)


def test_seconds_that_a_trace_does_not_name_had_no_orders(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("second,count\n0,5\n3,2\n3,1\n")
    assert recorded(file) == (5.0, 0.0, 0.0, 3.0)
