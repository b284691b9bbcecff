from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip_operator.plan import Decision, Lag, Memory, Observation, PoolSpec, Totals, decide

SPEC = PoolSpec(limit_per_second=100, prior_batch_seconds=1 / 22, stabilization_seconds=10)


def seen(
    ready: int, *, stored: int | None = None, totals: Totals | None = None, replicas: int = 1
) -> Observation:
    """`ready` messages wait; `stored` were ever put there."""
    stored = ready if stored is None else stored
    return Observation(Lag(ready, 0, stored, stored - ready), totals, replicas)


def idle(spec: PoolSpec = SPEC, *, until: float = 20.0) -> Memory:
    """What a controller remembers that has watched an empty queue for `until` seconds."""
    memory = Memory()
    for tick in range(int(until / 0.5)):
        _, memory = decide(spec, seen(0), memory, tick * 0.5)
    return memory


def burst(spec: PoolSpec = SPEC, size: int = 10_000) -> tuple[Decision, Memory]:
    return decide(spec, seen(size), idle(spec), 20.0)


def test_the_first_tick_after_a_burst_goes_straight_to_the_number_that_holds_r() -> None:
    decision, _ = burst()
    assert 5 <= decision.replicas <= 7
    assert (decision.reason, decision.binding_constraint) == ("CatchingUp", "limit")
    assert decision.inputs["want_per_second"] == 100
    assert decision.ceiling == 7


@pytest.mark.parametrize("per_worker", [18, 20, 22, 25, 40, 100, 400])
def test_the_number_is_what_the_measured_rate_calls_for(per_worker: float) -> None:
    spec = replace(SPEC, prior_batch_seconds=1 / per_worker)
    decision, _ = burst(spec)
    assert math.ceil(100 / per_worker) <= decision.replicas <= math.ceil(100 / (per_worker * 0.7))


def test_without_a_history_a_backlog_is_taken_for_the_beginning_of_a_burst() -> None:
    decision, _ = decide(SPEC, seen(5_000), Memory(), 0.0)
    assert 5 <= decision.replicas <= 7


def test_a_small_backlog_gets_no_more_than_its_catch_up_time_asks_for() -> None:
    decision, _ = decide(SPEC, seen(150), idle(), 20.0)
    assert decision.replicas == 3  # 150 in 6 s look like 25/s: 1.25 + 0.1 + 35.7 = 37 a second
    assert decision.binding_constraint == "demand"


def test_the_first_second_of_a_burst_is_enough_to_know_it() -> None:
    decision, _ = decide(SPEC, seen(230), idle(), 20.0)
    assert decision.replicas == 6  # 115/s over two seconds: more than R, and more waits than R does in them
    assert decision.binding_constraint == "limit"


def test_no_worker_is_given_back_while_there_is_a_backlog() -> None:
    memory = replace(idle(), replicas=5)
    decision, _ = decide(SPEC, seen(150), memory, 20.0)
    assert (decision.replicas, decision.binding_constraint) == (5, "catch-up")


def test_steady_arrivals_get_headroom_by_the_utilization() -> None:
    memory, decision = idle(), None
    for tick in range(1, 60):
        now = 20 + tick * 0.5
        decision, memory = decide(SPEC, seen(3, stored=int(tick * 0.5 * 44)), memory, now)
    assert decision is not None
    assert (decision.replicas, decision.reason) == (4, "KeepingUp")  # 44 / 0.7 * 1.2 / 22 = 3.4


def test_unknown_lag_holds_with_its_reason() -> None:
    decision, memory = burst()
    held, _ = decide(SPEC, Observation(None, None, 1), memory, 21.0)
    assert (held.replicas, held.valid, held.reason) == (decision.replicas, False, "LagUnknown")
    assert held.eta_seconds is None


def test_paused_holds() -> None:
    decision, memory = burst()
    held, _ = decide(replace(SPEC, paused=True), seen(10_000), memory, 20.5)
    assert (held.replicas, held.reason, held.eta_seconds) == (decision.replicas, "Paused", None)


def test_more_than_the_maximum_is_said() -> None:
    decision, _ = burst(replace(SPEC, max_replicas=3))
    assert (decision.replicas, decision.reason, decision.binding_constraint) == (3, "AtMaximum", "maximum")


def test_a_backlog_that_called_for_r_gets_r_when_r_rises_in_the_middle() -> None:
    _, memory = burst()
    for tick in range(1, 80):
        _, memory = decide(SPEC, seen(10_000 - tick * 50, stored=10_000), memory, 20 + tick * 0.5)
    decision, _ = decide(replace(SPEC, limit_per_second=400), seen(6_000, stored=10_000), memory, 60.0)
    assert decision.replicas == 20


def test_r_halved_under_load_lowers_the_number_at_once() -> None:
    before, memory = burst()
    after, _ = decide(replace(SPEC, limit_per_second=50), seen(9_950, stored=10_000), memory, 20.5)
    assert after.replicas < before.replicas
    assert after.rate == 50


@pytest.mark.parametrize("held", ["share_per_second", "effective_per_second"])
def test_a_rate_that_is_lower_for_a_while_sends_nobody_home_at_once(held: str) -> None:
    """A share moves, a database recovers: the usual minute lies between."""
    before, memory = burst()
    if held == "effective_per_second":
        memory = replace(memory, level=replace(memory.level, rate=50.0))
    spec = replace(SPEC, share_per_second=50) if held == "share_per_second" else SPEC
    after, _ = decide(spec, seen(9_950, stored=10_000), memory, 20.5)
    assert (after.rate, after.replicas, after.ceiling) == (50, before.replicas, 4)


def test_workers_are_given_back_after_the_stabilization_and_not_before() -> None:
    spec = replace(SPEC, stabilization_seconds=10)
    decision, memory = burst(spec)
    numbers = []
    for tick in range(1, 100):  # drained at once; the panic window still sees the arrivals for 6 s
        given, memory = decide(spec, seen(0, stored=10_000), memory, 20 + tick * 0.5)
        numbers.append(given.replicas)
    assert numbers[18] == decision.replicas  # 9.5 s later
    assert numbers[40] == 1  # 20 s later: 6 s of window and 10 s of stabilization have passed
    assert given.reason == "Idle"


def test_a_controller_that_starts_anew_gives_nothing_back_before_it_has_a_history() -> None:
    memory = Memory()
    for tick in range(10):
        decision, memory = decide(SPEC, seen(0, replicas=6), memory, tick * 0.5)
        assert decision.replicas == 6
    for tick in range(10, 40):
        decision, memory = decide(SPEC, seen(0, replicas=6), memory, tick * 0.5)
    assert decision.replicas == 1


def test_a_limit_of_zero_wants_nobody() -> None:
    decision, _ = burst(replace(SPEC, limit_per_second=0))
    assert (decision.replicas, decision.eta_seconds) == (1, None)


def test_a_throttled_worker_is_not_slow() -> None:
    """440 messages in 20 busy seconds are 22 a second, however long the workers waited for the limiter."""
    _, memory = burst(replace(SPEC, prior_batch_seconds=1 / 5))
    for tick in range(1, 10):
        totals = Totals(finished=44 * tick, failed=0, busy_seconds=2.0 * tick)
        decision, memory = decide(SPEC, seen(9_000, stored=10_000, totals=totals), memory, 20 + tick * 0.5)
    assert decision.inputs["per_worker_per_second"] == pytest.approx(22)
    assert decision.replicas <= 7


def test_failing_attempts_do_not_call_for_workers() -> None:
    before, memory = burst()
    for tick in range(1, 20):
        totals = Totals(finished=4 * tick, failed=40 * tick, busy_seconds=2.0 * tick)
        decision, memory = decide(SPEC, seen(10_000, totals=totals), memory, 20 + tick * 0.5)
    assert decision.replicas == before.replicas


def test_eta_is_lag_over_what_is_drained_beyond_the_arrivals() -> None:
    _, memory = burst()
    for tick in range(1, 30):
        left = 10_000 - tick * 50
        decision, memory = decide(SPEC, seen(left, stored=10_000), memory, 20 + tick * 0.5)
    assert decision.eta_seconds == pytest.approx(left / 100)


def test_eta_is_none_when_more_arrives_than_is_drained() -> None:
    _, memory = burst()
    for tick in range(1, 30):
        decision, memory = decide(SPEC, seen(10_000 + tick * 50), memory, 20 + tick * 0.5)
    assert decision.eta_seconds is None


def test_a_change_of_the_batch_size_is_not_taken_for_a_change_of_speed() -> None:
    """At 400/s a worker starts four at once, in the 45 ms that one took; the telemetry of the seam says nothing."""
    spec, (_, memory), finished, busy = SPEC, burst(), 0, 0.0
    for tick in range(1, 60):
        now = 20 + tick * 0.5
        if tick == 20:
            spec = replace(spec, limit_per_second=400, batch=4)
        if tick == 40:
            spec = replace(spec, limit_per_second=100, batch=1)
        in_force = 4 if 23 <= tick < 43 else 1  # the fence is later than the word
        finished, busy = finished + 44 * in_force, busy + 2.0
        seen_now = seen(90_000, stored=100_000, totals=Totals(finished, 0, busy))
        decision, memory = decide(spec, seen_now, memory, now)
        assert decision.inputs["per_worker_per_second"] == pytest.approx(22 * spec.batch, rel=0.01)
        assert 6 <= decision.replicas <= 7


def test_batches_that_are_not_full_make_no_worker_slow() -> None:
    """Up to four go together, in the time of one. Workers who find one at a time are as fast as before."""
    spec, memory, finished, batches, busy = replace(SPEC, limit_per_second=400, batch=4), idle(), 0, 0, 0.0
    measured = []
    for tick in range(1, 41):
        filled = 4 if tick <= 20 else 1
        finished, batches, busy = finished + 44 * filled, batches + 44, busy + 2.0
        totals = Totals(finished, 0, busy, batches=batches)
        decision, memory = decide(spec, seen(3, stored=finished + 3, totals=totals), memory, 20 + tick * 0.5)
        measured.append(decision.inputs["per_worker_per_second"])
    assert measured[18:] == [pytest.approx(88)] * 22
    totals = replace(totals, batches=None)  # who does not tell is taken at his word
    for tick in range(41, 61):
        totals = replace(totals, finished=totals.finished + 44, busy_seconds=totals.busy_seconds + 2.0)
        decision, memory = decide(
            spec, seen(3, stored=totals.finished + 3, totals=totals), memory, 20 + tick * 0.5
        )
    assert decision.inputs["per_worker_per_second"] == pytest.approx(22)


specs = st.builds(
    lambda limit, effective, low, more, prior: PoolSpec(
        limit_per_second=limit,
        effective_per_second=effective,
        min_replicas=low,
        max_replicas=max(1, low + more),
        prior_batch_seconds=1 / prior,
    ),
    st.floats(0, 10_000),
    st.none() | st.floats(0, 10_000),
    st.integers(0, 20),
    st.integers(0, 200),
    st.floats(0.1, 5_000),
)
lags = st.none() | st.integers(0, 200_000)


def replay(spec: PoolSpec, waiting: list[int | None], growth: list[int]) -> tuple[list[Decision], Memory]:
    """Feeds a history of lags, two a second, on top of arrivals."""
    memory, stored, decisions = Memory(), 0, []
    for tick, ready in enumerate(waiting):
        stored += growth[tick % len(growth)]
        lag = None if ready is None else Lag(ready, 0, stored + ready, stored)
        decision, memory = decide(spec, Observation(lag, None, 0), memory, tick * 0.5)
        decisions.append(decision)
    return decisions, memory


histories = st.lists(lags, min_size=1, max_size=30)
growths = st.lists(st.integers(0, 2_000), min_size=1, max_size=5)


@given(specs, histories, growths)
def test_always_inside_the_bounds_and_never_above_the_ceiling(
    spec: PoolSpec, waiting: list[int | None], growth: list[int]
) -> None:
    for decision in replay(spec, waiting, growth)[0]:
        assert spec.min_replicas <= decision.replicas <= spec.max_replicas
        assert decision.rate <= spec.limit_per_second
        if decision.valid:
            assert decision.replicas <= decision.ceiling
        assert decision.eta_seconds is None or decision.eta_seconds >= 0


@given(specs, histories, growths, st.integers(1, 80))
def test_unknown_lag_never_changes_the_number(
    spec: PoolSpec, waiting: list[int | None], growth: list[int], ticks: int
) -> None:
    decisions, memory = replay(spec, waiting, growth)
    for tick in range(ticks):
        held, memory = decide(spec, Observation(None, None, 0), memory, (len(waiting) + tick) * 0.5)
        assert held.replicas == decisions[-1].replicas


@given(specs, histories, growths, st.integers(0, 100_000), st.integers(0, 100_000))
def test_more_lag_never_means_fewer_workers(
    spec: PoolSpec, waiting: list[int | None], growth: list[int], less: int, more: int
) -> None:
    _, memory = replay(spec, waiting, growth)
    less, more = sorted((less, more))
    now, stored = len(waiting) * 0.5, 1_000_000
    few, _ = decide(spec, Observation(Lag(less, 0, stored, 0), None, 0), memory, now)
    many, _ = decide(spec, Observation(Lag(more, 0, stored, 0), None, 0), memory, now)
    assert few.replicas <= many.replicas


@given(specs, st.lists(st.integers(0, 200_000), min_size=3, max_size=30), growths)
def test_halving_r_never_raises_the_number(spec: PoolSpec, waiting: list[int], growth: list[int]) -> None:
    _, memory = replay(spec, list(waiting), growth)
    halved = replace(spec, effective_per_second=spec.rate_per_second / 2)
    stored = sum(growth[tick % len(growth)] for tick in range(len(waiting)))
    seen = Observation(Lag(waiting[-1], 0, stored + waiting[-1], stored), None, 0)
    whole, half = (decide(one, seen, memory, len(waiting) * 0.5)[0] for one in (spec, halved))
    assert half.replicas <= whole.replicas


@given(st.floats(1, 2_000), st.lists(st.floats(-0.1, 0.1), min_size=20, max_size=60))
def test_ten_percent_of_noise_in_the_rate_of_a_worker_does_not_flap(
    per_worker: float, noise: list[float]
) -> None:
    spec = replace(SPEC, max_replicas=200, prior_batch_seconds=1 / per_worker)
    memory, numbers, attempts, busy = idle(spec), [], 0.0, 0.0
    for tick, off in enumerate(noise):
        attempts, busy = attempts + 1_000 * per_worker * (1 + off), busy + 1_000
        observation = seen(50_000 - 50 * tick, stored=50_000, totals=Totals(int(attempts), 0, busy))
        # Each tick alone is the window: the worst case, since nothing is averaged.
        decision, memory = decide(
            replace(spec, worker_window_seconds=0.4, worker_settle_seconds=0.0),
            observation,
            memory,
            20 + tick * 0.5,
        )
        numbers.append(decision.replicas)
    steps = [after - before for before, after in pairwise(numbers) if before != after]
    turns = sum(1 for one, other in pairwise(steps) if (one > 0) != (other > 0))
    assert turns <= 1, numbers
    assert len(steps) <= 5, numbers
