"""Limits of steps, overrides, the fallback, and starting from nobody."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip_operator.plan import (
    Decision,
    Fallback,
    Lag,
    Memory,
    Observation,
    Override,
    PoolSpec,
    StepLimit,
    Totals,
    decide,
)

SPEC = PoolSpec(prior_batch_seconds=1 / 22, stabilization_seconds=10)
BACKLOG = Lag(10_000, 0, 10_000, 0)
EMPTY = Lag(0, 0, 10_000, 10_000)


class Pool:
    """Two decisions a second; whatever is decided is there at the next look."""

    def __init__(self, spec: PoolSpec, replicas: int | None) -> None:
        self.spec, self.replicas = spec, replicas
        self.memory, self.now = Memory(), 0.0
        self.decision: Decision | None = None

    def see(self, lag: Lag | None, ticks: int = 1, totals: Totals | None = None) -> list[int | None]:
        numbers = []
        for _ in range(ticks):
            observation = Observation(lag, totals, self.replicas)
            self.decision, self.memory = decide(self.spec, observation, self.memory, self.now)
            if self.replicas is not None:
                self.replicas = self.decision.replicas
            numbers.append(self.decision.replicas)
            self.now += 0.5
        return numbers

    @property
    def words(self) -> tuple[str, str]:
        assert self.decision is not None
        return self.decision.reason, self.decision.binding_constraint


def test_with_no_word_of_the_workers_there_is_no_number_and_none_is_remembered() -> None:
    pool = Pool(SPEC, None)
    assert set(pool.see(BACKLOG, 10)) == {None}
    assert (pool.words, pool.memory.replicas) == (("WorkersUnknown", "unknown"), None)
    pool.replicas = 15  # of which 7 are of use; nobody's rate was measured, so nobody is sent home
    assert pool.see(BACKLOG, 10) == [15] * 10


def test_the_last_number_is_held_while_the_workers_cannot_be_counted() -> None:
    pool = Pool(SPEC, 1)
    (before,) = pool.see(BACKLOG)
    pool.replicas = None
    pool.spec = replace(SPEC, limit_per_second=500)
    assert set(pool.see(BACKLOG, 10)) == {before}
    pool.replicas = before
    assert pool.see(BACKLOG) == [20]


def test_a_controller_that_starts_anew_in_a_drain_keeps_the_workers_until_one_was_measured() -> None:
    """20 workers of 7/s do 100/s; the first guess of 22/s alone would send 13 of them home."""
    pool = Pool(SPEC, 20)
    assert set(pool.see(BACKLOG, 6)) == {20}
    for second in range(1, 12):
        pool.see(BACKLOG, 2, Totals(finished=140 * second, failed=0, busy_seconds=20.0 * second))
    assert pool.decision is not None
    assert pool.decision.inputs["per_worker_per_second"] == pytest.approx(7)
    assert pool.replicas == 20


def test_from_nobody_straight_to_what_r_needs() -> None:
    pool = Pool(replace(SPEC, min_replicas=0), 0)
    assert pool.see(EMPTY, 20) == [0] * 20
    assert pool.words == ("Idle", "demand")
    assert pool.see(Lag(3_000, 0, 13_000, 10_000)) == [6]
    assert Pool(replace(SPEC, min_replicas=0), 0).see(Lag(3_000, 0, 3_000, 0)) == [
        6
    ]  # without a history, too


@pytest.mark.parametrize("per_worker", [22, 100_000])
@pytest.mark.parametrize("history", [0, 20])
def test_a_single_message_finds_somebody_at_once_and_keeps_him(history: int, per_worker: int) -> None:
    spec = replace(SPEC, min_replicas=0, catch_up_seconds=86_400, prior_batch_seconds=1 / per_worker)
    pool = Pool(spec, 0)
    pool.see(EMPTY, history)
    assert pool.see(Lag(1, 0, 10_001, 10_000)) == [1]
    assert set(pool.see(Lag(0, 1, 10_001, 10_000), 100)) == {1}  # in flight is not done
    numbers = pool.see(Lag(0, 0, 10_001, 10_001), 60)
    assert numbers[15] == 1  # 8 s: the stabilization
    assert numbers[-1] == 0


def test_up_step_by_step() -> None:
    pool = Pool(replace(SPEC, limit_per_second=200, scale_up=StepLimit(3, 10.0)), 1)
    assert pool.see(BACKLOG, 20) == [4] * 20
    assert pool.words == ("CatchingUp", "scale-up-limit")
    assert pool.see(BACKLOG, 40) == [7] * 20 + [10] * 20
    assert pool.see(BACKLOG, 1) == [11]  # what R needs
    assert pool.words == ("CatchingUp", "limit")


def test_down_step_by_step() -> None:
    pool = Pool(replace(SPEC, stabilization_seconds=0, scale_down=StepLimit(2, 5.0)), 6)
    assert set(pool.see(EMPTY, 12)) == {6}  # 6 s, in which it learns what it has found
    numbers = pool.see(EMPTY, 30)
    assert numbers == [4] * 10 + [2] * 10 + [1] * 10


def test_a_way_up_in_many_steps_never_adds_more_in_any_period() -> None:
    pool = Pool(replace(SPEC, limit_per_second=1_000, scale_up=StepLimit(4, 3.0)), 1)
    numbers = [1]
    for ready in (100, 300, 5_000, 200, 9_000, 9_000, 9_000, 9_000, 9_000, 9_000, 9_000, 9_000):
        numbers += [number or 0 for number in pool.see(Lag(ready, 0, 20_000, 20_000 - ready))]
    for start in range(len(numbers) - 6):
        assert numbers[start + 6] - numbers[start] <= 4


def test_the_bounds_go_before_the_steps() -> None:
    pool = Pool(replace(SPEC, min_replicas=9, scale_up=StepLimit(1, 60.0)), 1)
    assert pool.see(EMPTY) == [9]


@pytest.mark.parametrize(
    ("fallback", "before", "after"),
    [
        (Fallback(30.0), 6, 6),
        (Fallback(30.0, "Floor", 4), 6, 6),
        (Fallback(30.0, "Floor", 9), 6, 9),
        (Fallback(30.0, "Fixed", 3), 6, 3),
        (Fallback(30.0, "Fixed", 9), 6, 9),
    ],
)
def test_the_fallback_comes_after_its_time_and_not_before(
    fallback: Fallback, before: int, after: int
) -> None:
    pool = Pool(replace(SPEC, fallback=fallback), 1)
    pool.see(BACKLOG, 2)
    assert set(pool.see(None, 60)) == {before}
    assert pool.words == ("LagUnknown", "unknown")
    assert set(pool.see(None, 20)) == {after}
    assert pool.words == ("LagUnknown", "unknown" if fallback.policy == "Hold" else "fallback")
    assert pool.decision is not None
    assert not pool.decision.valid
    pool.see(BACKLOG, 1)
    assert pool.words[0] == "CatchingUp"
    assert "lag" not in dict(pool.memory.unknown)


def test_there_is_no_fallback_for_work_that_is_paused_nor_without_a_word_of_the_workers() -> None:
    spec = replace(SPEC, fallback=Fallback(1.0, "Fixed", 9))
    paused = Pool(replace(spec, paused=True), 2)
    assert set(paused.see(None, 20)) == {2}
    assert set(Pool(spec, None).see(None, 20)) == {None}


def test_a_number_by_hand_goes_before_everything_and_below_the_minimum() -> None:
    pool = Pool(replace(SPEC, override=Override(replicas=0)), 4)
    assert pool.see(BACKLOG, 2) == [0, 0]
    assert pool.words == ("Paused", "paused")
    pool.spec = replace(SPEC, override=Override(replicas=99))
    assert pool.see(BACKLOG) == [20]
    pool.spec = SPEC
    pool.replicas = 20
    assert pool.see(BACKLOG) == [7]  # the ceiling


def test_a_held_pool_keeps_what_a_hand_gives_it() -> None:
    pool = Pool(replace(SPEC, override=Override(hold=True)), 4)
    assert pool.see(BACKLOG, 3) == [4, 4, 4]
    pool.replicas = 11
    assert pool.see(None, 3) == [11, 11, 11]
    pool.spec = SPEC
    assert pool.see(BACKLOG) == [7]


def test_up_but_not_down() -> None:
    pool = Pool(replace(SPEC, stabilization_seconds=0, override=Override(no_scale_down=True)), 1)
    pool.see(EMPTY, 30)
    (up,) = pool.see(Lag(10_000, 0, 20_000, 10_000))
    assert up == 6
    assert set(pool.see(Lag(0, 0, 20_000, 20_000), 60)) == {6}
    assert pool.words[1] == "scale-down-paused"


def test_workers_that_tell_nothing_get_company_beyond_the_guessed_ceiling_until_r_is_reached() -> None:
    """Any Deployment may drain a consumer. Its workers do 5/s, the guess is 20/s, and nobody says so."""
    spec = PoolSpec(max_replicas=30)
    pool = Pool(spec, 1)
    finished = 0.0
    for _ in range(1_000):
        finished += min(50.0, 2.5 * (pool.replicas or 0))
        pool.see(Lag(100_000 - int(finished), 0, 100_000, int(finished)))
    assert 20 <= (pool.replicas or 0) <= 21
    assert pool.decision is not None
    assert pool.decision.ceiling >= (pool.replicas or 0)


def test_workers_that_do_nothing_at_all_get_no_company_beyond_the_ceiling() -> None:
    pool = Pool(SPEC, 1)
    assert max(number or 0 for number in pool.see(BACKLOG, 400)) == 7


@given(
    st.lists(st.none() | st.integers(0, 50_000), min_size=1, max_size=60),
    st.integers(1, 5),
    st.floats(0.5, 20),
    st.integers(1, 5),
    st.floats(0.5, 20),
)
def test_no_period_ever_holds_more_steps_than_allowed(
    waiting: list[int | None], up: int, up_seconds: float, down: int, down_seconds: float
) -> None:
    spec = replace(
        SPEC,
        stabilization_seconds=1.0,
        min_replicas=0,
        scale_up=StepLimit(up, up_seconds),
        scale_down=StepLimit(down, down_seconds),
    )
    pool, numbers = Pool(spec, 3), [3]
    for ready in waiting:
        lag = None if ready is None else Lag(ready, 0, 100_000, 100_000 - ready)
        numbers += [number or 0 for number in pool.see(lag)]
    steps = [after - before for before, after in pairwise(numbers)]
    for first in range(len(steps)):
        within_up = steps[first : first + int(up_seconds / 0.5) or 1]
        within_down = steps[first : first + int(down_seconds / 0.5) or 1]
        assert sum(step for step in within_up if step > 0) <= up
        assert -sum(step for step in within_down if step < 0) <= down


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: StepLimit(0, 1.0),
        lambda: StepLimit(1, 0.0),
        lambda: Fallback(1.0, "Fixed"),
        lambda: Fallback(1.0, "Hold", 3),
        lambda: PoolSpec(max_replicas=3, fallback=Fallback(1.0, "Fixed", 4)),
    ],
)
def test_a_wish_that_contradicts_itself_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"\.$"):
        wrong()


@pytest.mark.parametrize(("then", "replicas"), [(BACKLOG, 6), (EMPTY, 0)], ids=["up", "down"])
def test_a_clock_that_is_set_back_holds_up_neither_the_way_up_nor_the_way_down(
    then: Lag, replicas: int
) -> None:
    pool = Pool(replace(SPEC, scale_up=StepLimit(2, 5), min_replicas=0), 0)
    for second in range(1, 8):
        measured = Totals(finished=22 * second, failed=0, busy_seconds=1.0 * second)
        pool.see(BACKLOG, 2, measured)
    assert (pool.replicas, pool.words[1]) == (4, "scale-up-limit")
    pool.see(then, 4, measured)
    pool.now -= 3600
    pool.see(then, 32, measured)
    assert pool.replicas == replicas
