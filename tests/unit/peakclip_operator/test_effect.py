"""Scale-ups that bring nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peakclip_operator.plan import Decision, Effect, Lag, Memory, Observation, PoolSpec, Totals, decide
from peakclip_operator.plan.effect import Attempt, Scene, Trials

SPEC = PoolSpec(limit_per_second=100, max_replicas=30, prior_batch_seconds=1 / 22, start_seconds=1.0)


def scene(now: float, drain: float | None = 60.0, **changes: object) -> Scene:
    return replace(Scene(drain, 100.0, True, 22.0, False, 10, 1.0, now), **changes)  # type: ignore[arg-type]


TRIED = Trials(Attempt(100.0, 6, 10, 60.0, 100.0), full_since=50.0)


def test_in_vain_is_taken_back_and_blocked() -> None:
    trials = TRIED.seen(SPEC, scene(108.0, 62.0))
    assert (trials.attempt, trials.most, trials.until, trials.block_seconds) == (None, 6, 168.0, 60.0)
    assert trials.bound(167.9) == ("ineffective", 6)
    assert trials.bound(168.0) is None
    assert trials.full_since == 50.0  # the backlog goes on


def test_a_tenth_of_what_was_promised_is_enough() -> None:
    assert TRIED.seen(SPEC, scene(108.0, 64.0)).most is None  # 40/s were promised
    assert TRIED.seen(SPEC, scene(108.0, 63.9)).most == 6


def test_at_r_nothing_more_could_come() -> None:
    near = Trials(Attempt(100.0, 6, 10, 97.9, 100.0), full_since=50.0)
    assert near.seen(SPEC, scene(108.0, 98.0)) == Trials(full_since=50.0)


@pytest.mark.parametrize(
    "early",
    [
        scene(107.9, 60.0),
        scene(108.0, None),
        scene(109.0, 60.0, ready=9),
        scene(110.0, 60.0, start_seconds=4.0),
    ],
)
def test_no_verdict_before_it_can_be_known(early: Scene) -> None:
    assert TRIED.seen(SPEC, early) == TRIED


@pytest.mark.parametrize(
    "other",
    [
        scene(108.0, rate=80.0),
        scene(111.0, ready=9),
        scene(126.0, ready=9, start_seconds=4.0),
        scene(99.0),
    ],
)
def test_no_verdict_where_something_else_explains_it(other: Scene) -> None:
    trials = TRIED.seen(SPEC, other)
    assert (trials.attempt, trials.most) == (None, None)


def test_the_end_of_the_backlog_ends_the_attempt() -> None:
    assert TRIED.seen(SPEC, scene(108.0, backlog=False)) == Trials(calm_since=108.0)


def test_each_time_in_vain_blocks_twice_as_long_up_to_a_bound() -> None:
    trials, blocks, now = TRIED, [], 108.0
    for _ in range(6):
        trials = trials.seen(SPEC, scene(now, 60.0))
        blocks.append(trials.block_seconds)
        now = trials.until
        trials = replace(trials, attempt=Attempt(now, 6, 7, 60.0, 100.0))
        now += 8.0
    assert blocks == [60, 120, 240, 480, 900, 900]
    helped = trials.seen(SPEC, scene(now, 75.0))
    assert (helped.block_seconds, helped.most) == (0.0, None)


def test_an_attempt_needs_a_before() -> None:
    full = Trials(full_since=90.0)
    assert full.decided(SPEC, scene(100.0), 6, 10).attempt == Attempt(100.0, 6, 10, 60.0, 100.0)
    assert full.decided(SPEC, scene(95.9), 6, 10).attempt is None  # the window still shows the time before
    assert full.decided(SPEC, scene(100.0, None), 6, 10).attempt is None
    assert full.decided(SPEC, scene(100.0, 98.0), 6, 10).attempt is None  # at R
    assert full.decided(SPEC, scene(96.0), 6, 10).attempt is not None
    assert full.decided(SPEC, scene(100.0), 0, 10).attempt is None
    assert full.decided(SPEC, scene(100.0), 6, 6).attempt is None
    assert Trials().decided(SPEC, scene(100.0), 6, 10).attempt is None


def test_while_they_are_tried_there_are_at_most_twice_as_many_as_before() -> None:
    assert TRIED.bound(105.0) == ("trial", 12)
    more = TRIED.decided(SPEC, scene(105.0, 61.0), 10, 12)
    assert more.attempt == Attempt(105.0, 6, 12, 60.0, 100.0)
    assert Trials(Attempt(100.0, 6, 20, 60.0, 100.0)).bound(105.0) == ("trial", 20)
    assert more.decided(SPEC, scene(106.0), 12, 11).attempt is None


def test_it_can_be_switched_off() -> None:
    off = replace(SPEC, effect=Effect(enabled=False))
    assert TRIED.seen(off, scene(108.0, 60.0)) == Trials()
    assert Trials(full_since=0.0).decided(off, scene(100.0), 6, 10).attempt is None


class Starved:
    """Workers that together never do more than `most` a second: each gets slower when there are more of them."""

    def __init__(self, most: float) -> None:
        self.most, self.memory, self.now, self.replicas = most, Memory(), 1_000.0, 1
        self.stored, self.finished, self.busy = 0.0, 0.0, 0.0
        self.decision: Decision | None = None

    def seconds(self, number: int, arrivals: float = 0.0) -> list[int]:
        numbers = []
        for _ in range(2 * number):
            self.now += 0.5
            self.stored += arrivals / 2
            done = min(self.stored - self.finished, min(self.most, 22.0 * self.replicas) / 2)
            self.finished += done
            self.busy += self.replicas / 2 if done else 0.0
            waiting = int(self.stored - self.finished)
            lag = Lag(waiting, 0, int(self.stored), int(self.stored) - waiting)
            seen = Observation(lag, Totals(int(self.finished), 0, self.busy), self.replicas, self.replicas)
            self.decision, self.memory = decide(SPEC, seen, self.memory, self.now)
            assert self.decision.replicas is not None
            self.replicas = self.decision.replicas
            numbers.append(self.replicas)
        return numbers


def test_a_pool_that_gets_no_faster_does_not_go_to_its_maximum() -> None:
    pool = Starved(60.0)
    pool.seconds(30)
    pool.seconds(1, 20_000)
    numbers = pool.seconds(300)
    assert pool.decision is not None
    assert pool.memory.trials.block_seconds >= 60
    assert max(numbers) <= 22  # 11 before anything could be judged, and at most twice as many for a moment
    assert sum(number > 11 for number in numbers) < 0.15 * len(numbers)


def test_where_they_help_they_are_never_blocked() -> None:
    pool = Starved(1e9)
    pool.seconds(30)
    pool.seconds(1, 20_000)
    assert set(pool.seconds(120)[20:]) <= {6, 7}
    assert pool.memory.trials.most is None


def test_a_few_slow_messages_say_nothing() -> None:
    """At R = 2 six seconds hold a dozen at most, and work of 20 s none: chance would decide."""
    full = Trials(full_since=50.0, speed=1.0)
    assert full.decided(SPEC, scene(100.0, 4.9), 6, 10).attempt is None
    assert full.decided(SPEC, scene(100.0, 5.0), 6, 10).attempt is not None
    assert full.decided(SPEC, scene(100.0, 60.0, speed=0.49), 6, 10).attempt is None
    assert full.decided(SPEC, scene(100.0, 60.0, speed=0.5), 6, 10).attempt is not None


def test_a_higher_r_ends_the_block_and_a_long_calm_is_forgotten() -> None:
    blocked = TRIED.seen(SPEC, scene(108.0, 62.0))
    assert blocked.seen(SPEC, scene(110.0, 62.0, rate=80.0)).bound(110.0) == ("ineffective", 6)
    shared = blocked.seen(SPEC, scene(110.0, 62.0, rate=110.0))
    assert shared.bound(110.0) == ("ineffective", 6), "shares move a little all the time"
    risen = blocked.seen(SPEC, scene(110.0, 62.0, rate=110.1))
    assert (risen.bound(110.0), risen.block_seconds) == (None, 60.0)


def test_a_long_calm_is_forgotten() -> None:
    blocked = TRIED.seen(SPEC, scene(108.0, 62.0))
    calm = blocked.seen(SPEC, scene(200.0, 0.0, backlog=False))
    calm = calm.seen(SPEC, scene(1_100.0, 0.0, backlog=False))
    assert calm.block_seconds == 60.0
    busy = calm.seen(SPEC, scene(1_101.0, 62.0))
    again = busy.seen(SPEC, scene(1_102.0, 0.0, backlog=False))
    assert again.block_seconds == 60.0, "calm for a second only"
    assert calm.seen(SPEC, scene(1_100.1, 0.0, backlog=False)) == Trials(calm_since=200.0)


def test_a_clock_that_is_set_back_makes_no_block_longer() -> None:
    blocked = TRIED.seen(SPEC, scene(4_000.0, 62.0))
    assert blocked.until == 4_060.0
    back = blocked.seen(SPEC, scene(400.0, 62.0))
    assert back.until == 460.0


def test_in_the_first_moments_nobody_is_slower_than_at_the_beginning() -> None:
    begun = Trials().seen(SPEC, scene(100.0, speed=22.0))
    assert (begun.full_since, begun.speed) == (100.0, 22.0)
    assert begun.seen(SPEC, scene(101.0, speed=9.0)).speed == 22.0
    assert begun.least_speed(SPEC, 105.9) == 22.0
    assert begun.least_speed(SPEC, 106.0) == 0.0
    assert Trials().least_speed(SPEC, 100.0) == 0.0
    assert begun.least_speed(replace(SPEC, effect=Effect(enabled=False)), 101.0) == 0.0
    helped = replace(TRIED, speed=22.0).seen(SPEC, scene(108.0, 90.0))
    assert (helped.attempt, helped.speed) == (None, 22.0)


def test_a_clock_that_is_set_back_begins_the_backlog_anew() -> None:
    trials = Trials(full_since=500.0, speed=22.0).seen(SPEC, scene(100.0))
    assert (trials.full_since, trials.speed) == (100.0, 22.0)
    assert replace(TRIED, speed=5.0).interrupted() == Trials()


def backlog(replicas: int, *, at: float, finished: int = 0, batches: int | None = None) -> Observation:
    """A long one, of which so many are done; the workers were busy all the time since second 0."""
    busy = Totals(finished, 0, replicas * at, batches=batches)
    return Observation(Lag(50_000 - finished, 0, 50_000, finished), busy, replicas, ready=replicas)


BLOCKED = Memory(replicas=8, trials=Trials(most=6, until=1_000.0, rate=100.0, block_seconds=60.0))


def test_what_was_in_vain_binds_above_it_and_never_for_what_is_unknown() -> None:
    taken_back, _ = decide(SPEC, backlog(8, at=100.0), BLOCKED, 100.0)
    assert (taken_back.replicas, taken_back.reason, taken_back.binding_constraint) == (
        6,
        "Ineffective",
        "ineffective",
    )
    held, _ = decide(SPEC, Observation(None, None, 8), BLOCKED, 100.0)
    assert (held.replicas, held.binding_constraint) == (8, "unknown")
    enough, _ = decide(SPEC, backlog(6, at=100.0), replace(BLOCKED, replicas=6), 100.0)
    assert (enough.replicas, enough.reason) == (6, "CatchingUp")


def test_a_gap_ends_a_trial_and_what_was_seen_of_a_slow_pool() -> None:
    behind = Memory(replicas=10, trials=TRIED, on_pace_at=10.0, decided_at=100.0, needs=((100.0, 10),))
    spec = replace(SPEC, gap_seconds=5.0, prior_batch_seconds=1 / 12)
    _, near = decide(spec, backlog(10, at=105.0), behind, 105.0)
    assert near.trials.attempt == TRIED.attempt
    _, far = decide(spec, backlog(10, at=105.1), behind, 105.1)
    assert (far.trials.attempt, far.on_pace_at, far.decided_at) == (None, 105.1, 105.1)


def test_a_slow_pool_is_known_since_it_was_last_on_pace_and_a_gap_forgets_that() -> None:
    """Six workers that do 60/s where R is 100, looked at each second."""
    spec, memory = replace(SPEC, effect=Effect(enabled=False), max_replicas=6, gap_seconds=5.0), Memory()
    for second in range(20):
        decision, memory = decide(
            spec, backlog(6, at=float(second), finished=60 * second), memory, 1_000.0 + second
        )
    since = memory.on_pace_at
    assert since is not None
    assert since < 1_010.0
    assert memory.changed_at is None or memory.changed_at < 1_010.0
    assert decision.eta_seconds == pytest.approx((50_000 - 60 * 19) / 60)  # by what they do
    _, again = decide(spec, backlog(6, at=20.0, finished=1_200), memory, 1_020.0)
    assert again.on_pace_at == since
    _, forgot = decide(spec, backlog(6, at=40.0, finished=2_400), memory, 1_040.0)
    assert forgot.on_pace_at == 1_040.0


def test_a_new_number_of_workers_is_told_by_what_they_can_do_together() -> None:
    spec, memory = replace(SPEC, effect=Effect(enabled=False), max_replicas=6), Memory()
    for second in range(20):
        _, memory = decide(spec, backlog(6, at=float(second), finished=60 * second), memory, 1_000.0 + second)
    memory = replace(memory, changed_at=1_019.5)
    decision, _ = decide(spec, backlog(6, at=20.0, finished=1_200), memory, 1_020.0)
    per_worker = decision.inputs["per_worker_per_second"]
    assert per_worker is not None
    assert decision.eta_seconds == pytest.approx((50_000 - 1_200) / min(100, 6 * per_worker))


def test_the_speed_that_a_trial_goes_by_is_in_batches() -> None:
    spec, memory = replace(SPEC, batch=4, prior_batch_seconds=0.1), Memory()
    for second in range(3):
        _, memory = decide(spec, backlog(6, at=float(second)), memory, 1_000.0 + second)
    assert memory.trials.speed is None or memory.trials.speed == pytest.approx(10.0)
    _, memory = decide(spec, backlog(1, at=0.0), Memory(), 1_000.0)
    assert memory.trials.speed == pytest.approx(10.0)


def test_the_eta_of_one_that_is_left_and_of_none() -> None:
    spec, memory = replace(SPEC, effect=Effect(enabled=False)), Memory()
    for second in range(10):
        _, memory = decide(spec, backlog(1, at=float(second)), memory, 1_000.0 + second)
    one = Observation(Lag(1, 0, 50_000, 49_999), None, 1)
    last, _ = decide(spec, one, replace(memory, changed_at=1_009.9), 1_010.0)
    none, _ = decide(spec, Observation(Lag(0, 0, 50_000, 50_000), None, 1), memory, 1_010.0)
    assert (last.eta_seconds or 0) > 0 == none.eta_seconds
