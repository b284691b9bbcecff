"""What a worker does, and what is stuck, sample by sample."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peakclip_operator.plan import Lag, Observation, PoolSpec, Totals
from peakclip_operator.plan.rates import Counters, Speed, Stuck, Work

SPEC = PoolSpec(
    prior_batch_seconds=0.1, worker_window_seconds=2.0, worker_settle_seconds=4.0, min_batches=20,
    min_busy_seconds=1.0,
)  # fmt: skip


def work(*totals: tuple[int, int, float], spec: PoolSpec = SPEC) -> float | None:
    """Batches per second of one worker after totals (finished, failed, busy), one a second."""
    made, now = Work(), 0.0
    for finished, failed, busy in totals:
        made = made.observe(spec, Totals(finished, failed, busy), now)
        now += 1.0
    return made.batches_per_second(spec, now - 1.0)


def test_a_speed_needs_two_samples() -> None:
    assert work((100, 0, 5.0)) is None
    assert work((100, 0, 5.0), (130, 0, 7.0)) == 15.0


def test_failed_attempts_are_work_too() -> None:
    assert work((0, 0, 0.0), (10, 20, 2.0)) == 15.0
    assert (
        work((50, 100, 9.0), (60, 90, 10.0)) is None
    )  # nothing came of it: the totals of another controller


def test_either_so_many_batches_or_so_much_time() -> None:
    assert work((0, 0, 0.0), (20, 0, 0.1)) == 200.0
    assert work((0, 0, 0.0), (19, 0, 0.9)) is None
    assert work((0, 0, 0.0), (1, 0, 1.0)) == 1.0
    assert work((0, 0, 0.0), (2, 0, 0.99)) is None


def test_nothing_done_or_no_time_is_no_speed() -> None:
    assert work((0, 0, 0.0), (0, 0, 30.0)) is None
    assert work((0, 0, 5.0), (300, 0, 5.0)) is None


def test_only_the_window_counts() -> None:
    assert work((0, 0, 0.0), (100, 0, 1.0), (120, 0, 3.0), (140, 0, 5.0)) == 10.0


def test_a_new_batch_size_is_left_out_until_everybody_has_it() -> None:
    made, speeds = Work(), []
    for second in range(10):
        spec = SPEC if second < 3 else replace(SPEC, batch=4)
        made = made.observe(spec, Totals(40 * second, 0, 2.0 * second), float(second))
        speeds.append(made.batches_per_second(spec, float(second)))
    # From 3 to 6 s nothing counts; then 40 in 2 busy seconds are 10 batches of four.
    assert speeds == [None, 20.0, 20.0, 20.0, None, None, 5.0, 5.0, 5.0, 5.0]


def speeds(*measured: float | None, spec: PoolSpec = SPEC, tick: float = 0.5) -> list[float | None]:
    made, now, values = Speed(), 100.0, []
    for one in measured:
        made = made.add(one, spec, now)
        values.append(made.value)
        now += tick
    return values


def test_fast_at_once_and_slow_after_a_while() -> None:
    assert speeds(20.0, 30.0, 25.0) == [20.0, 30.0, 30.0]
    # 30 was last measured 0.5 s in: for 4 s it counts on.
    found = speeds(30.0, 30.0, *[15.0] * 9)
    assert found == [*[30.0] * 9, 15.0, 15.0]


def test_the_first_guess_counts_for_as_long() -> None:
    assert speeds(*[5.0] * 10) == [*[10.0] * 8, 5.0, 5.0]
    assert speeds(12.0) == [12.0]


def test_time_in_which_nothing_is_measured_forgets_nothing() -> None:
    assert speeds(30.0, *[None] * 100, 15.0, 15.0)[-1] == 30.0
    assert speeds(None, None) == [None, None]
    # A gap between two ticks counts as one second at most.
    made = Speed().add(30.0, SPEC, 100.0).add(15.0, SPEC, 160.0)
    assert (made.value, made.clock) == (30.0, 1.0)
    assert made.add(15.0, SPEC, 50.0).clock == 1.0  # and a clock that is set back as none


def test_slower_is_one_step_by_what_is_of_the_new_time_only() -> None:
    """The windows of two seconds are of both times for a while: 27, 23, 19 on the way from 30 to 15."""
    found = speeds(30.0, *[27.0, 23.0, 19.0], *[15.0] * 6)
    assert found == [*[30.0] * 8, 15.0, 15.0]


def test_a_little_slower_is_noise_and_followed_slowly() -> None:
    found = speeds(30.0, 29.0, 28.0, *[28.0] * 6, 28.0)
    assert found == [*[30.0] * 8, 29.0, 28.0]


def stuck(*looks: tuple[float, Lag], spec: PoolSpec = SPEC) -> int:
    made, found = Stuck(), 0
    for now, lag in looks:
        made = made.observe(lag, now)
        found = made.messages(spec, lag, now)
    return found


HELD = Lag(0, 3, 500, 497, redelivered=2, floor_seq=400)


def test_stuck_is_what_came_again_and_holds_the_floor() -> None:
    spec = replace(SPEC, persistent_seconds=30.0)
    assert stuck((0.0, HELD), (29.9, HELD), spec=spec) == 0
    assert stuck((0.0, HELD), (30.0, HELD), spec=spec) == 2
    assert stuck((0.0, HELD), (30.0, replace(HELD, in_flight=1)), spec=spec) == 1
    assert stuck((0.0, HELD), (10.0, replace(HELD, floor_seq=401)), (35.0, HELD), spec=spec) == 0
    assert stuck((0.0, replace(HELD, redelivered=0)), (30.0, HELD), spec=spec) == 0
    assert stuck((0.0, replace(HELD, redelivered=None)), (30.0, HELD), spec=spec) == 0
    assert stuck((0.0, replace(HELD, floor_seq=None)), (30.0, HELD), spec=spec) == 0


def test_a_clock_that_is_set_back_begins_anew() -> None:
    spec = replace(SPEC, persistent_seconds=30.0)
    assert stuck((1_000.0, HELD), (100.0, HELD), (129.9, HELD), spec=spec) == 0
    assert stuck((1_000.0, HELD), (100.0, HELD), (130.0, HELD), spec=spec) == 2


def test_half_of_the_longer_window_is_enough() -> None:
    counters = Counters()
    for second in range(31):
        lag = Lag(0, 0, 10 * second, 10 * second)
        counters = counters.observe(SPEC, Observation(lag), float(second))
        expected = pytest.approx(10.0) if second >= 30 else None
        assert counters.stable_arrival(SPEC, float(second)) == expected
    assert len(counters.stable_arrivals.samples) == 16  # two seconds apart
