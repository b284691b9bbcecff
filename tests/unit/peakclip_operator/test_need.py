"""Which arrivals count, what is stuck, and where somebody must be at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peakclip_operator.plan import (
    DatabaseTotals,
    Decision,
    Lag,
    Memory,
    Observation,
    PoolSpec,
    StepLimit,
    Totals,
    decide,
)

SPEC = PoolSpec(limit_per_second=100, prior_batch_seconds=1 / 22, stabilization_seconds=10)


class Watch:
    """Two looks a second at a queue that is empty again at each, unless the test says what waits."""

    def __init__(self, spec: PoolSpec = SPEC, replicas: int = 1) -> None:
        self.spec, self.replicas = spec, replicas
        self.memory, self.now, self.stored = Memory(), 1_000.0, 0.0
        self.decision: Decision | None = None

    def seconds(self, number: float, arrivals: float = 0.0, waiting: int = 0) -> Decision:
        for _ in range(int(number * 2)):
            self.now += 0.5
            self.stored += arrivals / 2
            lag = Lag(waiting, 0, int(self.stored), int(self.stored) - waiting)
            seen = Observation(lag, None, self.replicas)
            self.decision, self.memory = decide(self.spec, seen, self.memory, self.now)
            self.replicas = self.decision.replicas or 0
        assert self.decision is not None
        return self.decision

    def counted(self) -> float | None:
        assert self.decision is not None
        return self.decision.inputs["counted_arrival_per_second"]


def test_a_calm_pool_goes_by_the_minute() -> None:
    watch = Watch()
    watch.seconds(60, 40)
    watch.seconds(6, 52)
    assert watch.counted() == pytest.approx(41.2, abs=0.5)  # a minute with six seconds of 52
    assert watch.decision is not None
    assert watch.decision.inputs["arrival_per_second"] == pytest.approx(52, abs=1)


def test_far_more_counts_at_once_and_far_less_does_too() -> None:
    watch = Watch()
    watch.seconds(60, 40)
    watch.seconds(6, 70)
    assert watch.counted() == pytest.approx(70, abs=1)
    watch.seconds(6, 20)
    assert watch.counted() == pytest.approx(20, abs=1)


def test_before_half_a_minute_was_seen_the_shorter_window_counts() -> None:
    watch = Watch()
    watch.seconds(29, 40)
    assert watch.decision is not None
    assert watch.decision.inputs["stable_arrival_per_second"] is None
    watch.seconds(6, 44)
    assert watch.decision.inputs["stable_arrival_per_second"] == pytest.approx(40.7, abs=0.5)


def test_where_something_waits_the_shorter_window_counts() -> None:
    watch = Watch()
    watch.seconds(60, 40)
    watch.seconds(6, 52, waiting=100)
    assert watch.counted() == pytest.approx(52, abs=1)


def test_a_minute_costs_few_samples() -> None:
    watch = Watch()
    watch.seconds(600, 40)
    assert len(watch.memory.counters.stable_arrivals.samples) <= 32


def stuck(spec: PoolSpec, memory: Memory, now: float, **changes: int) -> tuple[Decision, Memory]:
    """Three messages come again and again; everything else is done."""
    lag = replace(Lag(0, 3, 500, 497, None, redelivered=3, floor_seq=400), **changes)  # type: ignore[arg-type]
    return decide(spec, Observation(lag, None, 2), memory, now)


def test_poison_calls_for_one_worker_and_not_for_a_drain() -> None:
    """Three are to be done within a second, by three workers; as soon as nothing else explains them they are none."""
    spec = replace(
        SPEC, min_replicas=0, persistent_seconds=30, catch_up_seconds=1, prior_batch_seconds=1 / 1.5
    )
    memory = Memory()
    for second in range(29):
        decision, memory = stuck(spec, memory, 1_000.0 + second)
        assert decision.inputs["lag_stuck"] == 0
    assert (decision.inputs["demand_per_second"], decision.replicas) == (3.0, 3)
    for second in range(29, 60):
        decision, memory = stuck(spec, memory, 1_000.0 + second)
    assert (decision.inputs["lag_stuck"], decision.inputs["demand_per_second"]) == (3, 0.0)
    assert (decision.reason, decision.replicas) == ("Idle", 1)  # somebody must be there to fail


@pytest.mark.parametrize("sign_of_life", [{"floor_seq": 401}, {"redelivered": 0}])
def test_what_moves_on_is_not_stuck(sign_of_life: dict[str, int]) -> None:
    spec = replace(SPEC, limit_per_second=2, persistent_seconds=30)
    memory = Memory()
    for second in range(29):
        _, memory = stuck(spec, memory, 1_000.0 + second)
    _, memory = stuck(spec, memory, 1_029.0, **sign_of_life)
    decision, memory = stuck(spec, memory, 1_030.0)
    assert decision.inputs["lag_stuck"] == 0


def test_no_more_is_stuck_than_is_in_flight_and_unknown_is_nothing() -> None:
    spec = replace(SPEC, limit_per_second=2, persistent_seconds=0)
    decision, _ = stuck(spec, Memory(), 1_000.0, in_flight=1)
    assert decision.inputs["lag_stuck"] == 1
    lag = Lag(0, 3, 500, 497, redelivered=3)
    decision, _ = decide(spec, Observation(lag, None, 2), Memory(), 1_000.0)
    assert decision.inputs["lag_stuck"] == 0


def test_from_none_at_least_so_many_at_once() -> None:
    spec = replace(SPEC, min_replicas=0, activation_replicas=4)
    watch = Watch(spec, 0)
    assert watch.seconds(20).replicas == 0
    decision = watch.seconds(0.5, arrivals=2, waiting=1)
    assert (decision.replicas, decision.binding_constraint) == (4, "activation")
    assert ("activation", 4) in decision.bounds
    assert watch.seconds(30, arrivals=0).replicas == 0
    assert Watch(replace(spec, max_replicas=2), 0).seconds(0.5, 2, 1).replicas == 2


def test_a_decision_tells_each_bound_and_the_formula() -> None:
    watch = Watch(replace(SPEC, max_replicas=3))
    watch.seconds(60, 40)
    decision = watch.seconds(1, 10_000, waiting=10_000)
    assert decision.bounds == (("limit", 6), ("maximum", 3))
    assert decision.formula.startswith("want = min(R 100, lag 10000/120 + arrivals ")
    assert decision.formula.endswith(" = 100; needed = 100*1.2/22; limit 6, maximum 3 -> 3 workers")
    held = decide(SPEC, Observation(None, None, None), Memory(), 1.0)[0]
    assert held.formula == "-> unknown"
    assert dict(held.unknown).keys() >= {"lag", "telemetry", "workers", "ready", "arrivals", "speed"}


def test_unknown_tells_since_when() -> None:
    watch = Watch()
    watch.seconds(10, 40)
    blind = Observation(None, None, 1)
    for second in (1, 2, 3):
        decision, watch.memory = decide(SPEC, blind, watch.memory, watch.now + second)
    assert decision.unknown["lag"] == watch.now + 1
    decision = watch.seconds(5)
    assert "lag" not in decision.unknown


def test_the_reason_of_a_calm_pool() -> None:
    watch = Watch()
    assert watch.seconds(20, 1).reason == "KeepingUp"
    assert watch.seconds(20, 0).reason == "Idle"
    watch.seconds(60, 40, waiting=10)
    decision = watch.seconds(4, 0)
    assert (decision.reason, decision.binding_constraint) == ("Stabilizing", "stabilization")


def test_the_maximum_is_the_reason_only_where_more_are_needed() -> None:
    watch = Watch(replace(SPEC, max_replicas=6))
    decision = watch.seconds(1, 10_000, waiting=10_000)
    assert (decision.replicas, decision.reason) == (6, "CatchingUp")
    decision = Watch(replace(SPEC, max_replicas=5)).seconds(1, 10_000, waiting=10_000)
    assert (decision.replicas, decision.reason) == (5, "AtMaximum")
    limited = replace(SPEC, max_replicas=5, scale_up=StepLimit(2, 10.0))
    decision = Watch(limited).seconds(1, 10_000, waiting=10_000)
    assert (decision.replicas, decision.reason) == (3, "CatchingUp")


def test_what_is_told_is_not_unknown_and_a_learnt_start_replaces_the_guess() -> None:
    told = Totals(0, 0, 0.0, DatabaseTotals(0, 0, 0.0, (0, 0), (1.0,)))
    memory, decision = Memory(replicas=1), None
    for now, ready in ((1_000.0, 1), (1_001.0, 1), (1_009.0, 6)):
        seen = Observation(Lag(10_000, 0, 10_000, 0), told, 6 if decision else 1, ready=ready)
        decision, memory = decide(SPEC, seen, memory, now)
    assert decision is not None
    assert "database" not in decision.unknown
    assert decision.inputs["start_seconds"] == pytest.approx(8.0, abs=1.0) != SPEC.start_seconds
