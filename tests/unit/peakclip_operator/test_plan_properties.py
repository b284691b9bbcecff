"""What holds for every history: seeded by hypothesis, closed over a little pool where a loop is needed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from peakclip_operator.plan import Decision, Lag, Memory, Observation, PoolSpec, Totals, decide

SPEC = PoolSpec(limit_per_second=100, prior_batch_seconds=1 / 22, stabilization_seconds=10, max_replicas=50)


class Pool:
    """Workers of one speed under a limiter, two looks a second. `blind`: what a look does not show."""

    def __init__(self, spec: PoolSpec, per_worker: float, replicas: int = 1) -> None:
        self.spec, self.per_worker, self.replicas = spec, per_worker, replicas
        self.memory, self.now = Memory(), 1_000.0
        self.stored, self.finished, self.busy = 0.0, 0.0, 0.0

    def look(self, blind: frozenset[str] = frozenset()) -> Observation:
        waiting = int(self.stored - self.finished)
        lag = Lag(max(0, waiting - self.replicas), min(waiting, self.replicas), int(self.stored),
                  int(self.stored) - waiting)  # fmt: skip
        totals = Totals(int(self.finished), 0, self.busy)
        return Observation(
            None if "lag" in blind else lag,
            None if "telemetry" in blind else totals,
            None if "workers" in blind else self.replicas,
            None if "ready" in blind else self.replicas,
        )

    def tick(self, arrivals: float, blind: frozenset[str] = frozenset(), speed: float = 1.0) -> Decision:
        self.now += 0.5
        self.stored += arrivals / 2
        able = self.per_worker * speed * self.replicas
        done = min(self.stored - self.finished, self.spec.rate_per_second / 2, able / 2)
        self.finished += done
        self.busy += done / (self.per_worker * speed)
        decision, self.memory = decide(self.spec, self.look(blind), self.memory, self.now)
        if decision.replicas is not None:
            self.replicas = decision.replicas
        return decision


speeds = st.floats(1.0, 500.0)
arrivals = st.lists(st.sampled_from([0.0, 5.0, 40.0, 90.0, 2_000.0]), min_size=1, max_size=8)
blindness = st.lists(st.frozensets(st.sampled_from(["lag", "telemetry", "workers", "ready"])), max_size=60)


@settings(deadline=None, max_examples=25)
@given(speeds, arrivals, blindness)
def test_unknown_is_never_fewer_workers(
    per_worker: float, rates: list[float], blind: list[frozenset[str]]
) -> None:
    pool = Pool(SPEC, per_worker)
    for number in range(60):
        pool.tick(rates[number % len(rates)])
    for number, what in enumerate(blind):
        before = pool.replicas
        decision = pool.tick(rates[number % len(rates)], what)
        if "lag" in what or "workers" in what:
            assert decision.replicas == before
        assert set(decision.unknown) & {"lag", "telemetry", "workers", "ready"} == what
        assert all(since <= pool.now for since in decision.unknown.values())


@settings(deadline=None, max_examples=25)
@given(speeds, st.integers(200, 5_000), st.lists(st.floats(0.8, 1.25), min_size=1, max_size=9))
def test_nobody_is_given_back_while_the_pool_catches_up(
    per_worker: float, burst: int, noise: list[float]
) -> None:
    """Above the ceiling they could only wait for each other, and what was tried in vain is taken back; nothing else."""
    pool = Pool(SPEC, per_worker)
    for _ in range(40):
        pool.tick(0.0)
    pool.tick(burst * 2.0)
    for number in range(200):
        before = pool.replicas
        decision = pool.tick(0.0, speed=noise[number % len(noise)])
        waits = pool.stored - pool.finished >= 100
        assert decision.replicas is not None
        if waits and decision.reason != "Ineffective":
            assert decision.replicas >= min(before, decision.ceiling)


@settings(deadline=None, max_examples=25)
@given(st.floats(4.0, 200.0), st.floats(10.0, 95.0), st.randoms(use_true_random=False))
def test_noise_in_steady_arrivals_moves_the_number_by_one_step_and_seldom(
    per_worker: float, rate: float, chance: object
) -> None:
    pool = Pool(replace(SPEC, stabilization_seconds=60), per_worker)
    for _ in range(240):
        pool.tick(rate * chance.uniform(0.7, 1.3))  # type: ignore[attr-defined]
    numbers = [pool.tick(rate * chance.uniform(0.7, 1.3)).replicas or 0 for _ in range(600)]  # type: ignore[attr-defined]
    turns = sum(1 for before, after in pairwise(numbers) if before != after)
    assert turns <= 4  # in five minutes
    assert max(numbers) - min(numbers) <= max(1, 0.2 * max(numbers))


@settings(deadline=None, max_examples=25)
@given(speeds, arrivals, st.integers(0, 100), st.booleans())
def test_a_controller_that_begins_anew_makes_no_step(
    per_worker: float, rates: list[float], ticks: int, keeps: bool
) -> None:
    """With its memory it goes on as if nothing had been; without, it first looks at what a worker does."""
    pool, other = Pool(SPEC, per_worker), Pool(SPEC, per_worker)
    for number in range(60 + ticks):
        for one in (pool, other):
            one.tick(rates[number % len(rates)])
    assert pool.replicas == other.replicas
    if not keeps:
        other.memory = Memory()
    before = other.replicas
    for _ in range(6):
        pool.tick(0.0)
        now = other.tick(0.0).replicas
        if keeps:
            assert now == pool.replicas
        elif other.memory.counters.speed.value is None and before > SPEC.min_replicas:
            assert now == before


@settings(deadline=None, max_examples=25)
@given(speeds, arrivals, st.integers(1, 4))
def test_the_same_look_again_changes_nothing(per_worker: float, rates: list[float], times: int) -> None:
    pool = Pool(SPEC, per_worker)
    for number in range(60):
        pool.tick(rates[number % len(rates)])
    look = pool.look()
    first, memory = decide(SPEC, look, pool.memory, pool.now)
    for _ in range(times):
        again, memory = decide(SPEC, look, memory, pool.now)
        assert (again.replicas, again.rate) == (first.replicas, first.rate)


@settings(deadline=None, max_examples=25)
@given(st.floats(2.0, 60.0), st.integers(500, 20_000), st.floats(20.0, 2_000.0))
def test_a_burst_is_gone_when_r_allows_it_to_be(per_worker: float, burst: int, limit: float) -> None:
    spec = replace(SPEC, limit_per_second=limit, max_replicas=2_000)
    pool = Pool(spec, per_worker)
    for _ in range(40):
        pool.tick(0.0)
    pool.tick(burst * 2.0)
    allowed = max(burst / limit, 1.0) * 1.05 + 6.0
    for _ in range(int(2 * allowed)):
        pool.tick(0.0)
    catch_up = spec.catch_up_seconds + 30.0
    for _ in range(int(2 * max(0.0, catch_up - allowed))):
        if pool.stored - pool.finished < 1:
            break
        pool.tick(0.0)
    assert pool.stored - pool.finished < 1 or burst / limit > catch_up
