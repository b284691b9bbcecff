"""How many workers, and why: `decide(spec, observation, memory, now) -> (Decision, memory)`.

Symbols: L lag (messages not finished), A arrivals per second, R limit in force, T catch-up time, S start
time, mu rate of one worker, rho utilization; all per second or in seconds.

    demand  = L/T + A*S/T + A/rho          what it takes to keep up and be done with the backlog in T
    want    = min(R, demand)               R, to its end, for a backlog that has once called for R
    needed  = ceil(want * (1 + spare) / mu)
    ceiling = ceil(R / (mu * rho)), in min..max  more could only wait for each other's share of R

Worked numbers: 10,000 orders arrive within a second, R = 100, mu = 22, rho = 0.7, T = 120: A over 6 s is
1,667, demand 83 + 7 + 2,381, want 100, needed ceil(5.5) = 6, ceiling ceil(6.5) = 7. Any number between
`needed` and `ceiling` is kept while the backlog lasts, so noise in mu moves nothing.
"""

from __future__ import annotations

from dataclasses import replace

from peakclip_operator.plan.decision import Decision, Memory
from peakclip_operator.plan.need import Need, Present, Rates, call_for, ceil_of, is_behind
from peakclip_operator.plan.observation import Lag, Observation
from peakclip_operator.plan.rates import Counters
from peakclip_operator.plan.spec import PoolSpec
from peakclip_operator.plan.steps import overruled, stabilize, step


def decide(spec: PoolSpec, observation: Observation, memory: Memory, now: float) -> tuple[Decision, Memory]:
    """Pure. `now` in seconds on any clock; one that is set back costs what was measured in the last seconds."""
    memory = _looked(spec, observation, memory, now)
    rates = _rates(spec, memory.counters, now)
    present = _present(spec, observation, memory, rates, now)
    need = call_for(spec, observation.lag, rates, present)
    replicas, reason, binding, memory = _number(spec, observation, need, present)
    reason = reason or _reason(need, binding, rates, replicas, spec)
    changed = present.memory.replicas != replicas
    short = need.binding == "shortfall" and need.workers > present.ceiling
    ceiling = need.workers if short else present.ceiling
    behind = is_behind(spec, observation.lag, need, rates)
    memory = replace(
        memory,
        replicas=replicas,
        proven=ceiling if short else memory.proven,
        changed_at=now if changed else memory.changed_at,
        on_pace_at=memory.on_pace_at if behind and not changed else now,
        at_limit=need.at_limit,
    )
    decision = Decision(
        replicas=replicas,
        rate=spec.rate_per_second,
        valid=observation.lag is not None,
        reason=reason,
        binding_constraint=binding,
        ceiling=ceiling,
        eta_seconds=_eta(spec, observation.lag, rates, memory, now),
        inputs=_inputs(spec, observation, rates, need, memory.counters.speed.value is None),
    )
    return decision, memory


def _looked(spec: PoolSpec, observation: Observation, memory: Memory, now: float) -> Memory:
    """The memory with what this tick saw, before anything is decided."""
    found = observation.replicas if memory.replicas is None else memory.proven
    lost_at = now if memory.lag_lost_at is None else min(memory.lag_lost_at, now)
    return replace(
        memory,
        counters=memory.counters.observe(spec, observation, now),
        proven=found,
        lag_lost_at=lost_at if observation.lag is None else None,
        # What lies ahead was before the clock was set back: until the clock is there again it would never grow old.
        on_pace_at=None if memory.on_pace_at is None else min(memory.on_pace_at, now),
        changed_at=None if memory.changed_at is None else min(memory.changed_at, now),
        needs=tuple((min(at, now), needed) for at, needed in memory.needs),
        moves=tuple((min(at, now), by) for at, by in memory.moves),
    )


def _present(spec: PoolSpec, observation: Observation, memory: Memory, rates: Rates, now: float) -> Present:
    # The guess counts for some seconds beside what is measured: see Speed.
    guessing = memory.counters.speed.value in (None, 1 / spec.prior_batch_seconds)
    before = memory.replicas if memory.replicas is not None else observation.replicas
    ceiling = ceil_of(spec.rate_per_second / (rates.per_worker * spec.utilization))
    if guessing:
        ceiling = max(ceiling, memory.proven or 0)
    return Present(
        workers=_between(spec.min_replicas, before or 0, spec.max_replicas),
        ceiling=_between(spec.min_replicas, ceiling, spec.max_replicas),
        memory=memory,
        now=now,
        guessing=guessing,
    )


def _number(
    spec: PoolSpec, observation: Observation, need: Need, present: Present
) -> tuple[int | None, str | None, str, Memory]:
    """The next number with its constraint, and with its reason where that does not follow from the need."""
    memory, now, current = present.memory, present.now, present.workers
    largest = min(current, present.ceiling)
    replicas, needs = stabilize(need.workers, largest, memory.needs, now, spec.stabilization_seconds)
    forced = overruled(spec, observation, memory, now)
    if forced is not None:
        return *forced, replace(memory, needs=needs)
    binding = "stabilization" if replicas > need.workers else need.binding
    if spec.override.no_scale_down and replicas < current:
        replicas, binding = current, "scale-down-paused"
    replicas, limited, moves = step(spec, replicas, current, memory.moves, now)
    return replicas, None, limited or binding, replace(memory, needs=needs, moves=moves)


def _rates(spec: PoolSpec, counters: Counters, now: float) -> Rates:
    return Rates(
        arrival=counters.arrivals.rate(spec.panic_window_seconds, now),
        drain=counters.finished.rate(spec.panic_window_seconds, now),
        recent_arrival=counters.arrivals.rate(spec.forecast_window_seconds, now),
        per_worker=spec.batch * (counters.speed.value or 1 / spec.prior_batch_seconds),
    )


def _reason(need: Need, binding: str, rates: Rates, replicas: int | None, spec: PoolSpec) -> str:
    if binding == "unknown":
        return "LagUnknown"
    if binding == "paused":
        return "Paused"
    if need.beyond_maximum and replicas == spec.max_replicas:
        return "AtMaximum"
    if need.backlog:
        return "CatchingUp"
    if binding == "stabilization":
        return "Stabilizing"
    return "KeepingUp" if rates.arrival is None or rates.arrival > 0 else "Idle"


def _eta(spec: PoolSpec, lag: Lag | None, rates: Rates, memory: Memory, now: float) -> float | None:
    """L / (drain - arrivals).

    Just after a change of the number of workers, drain is what they can do together; later, what they do.
    """
    if lag is None or rates.recent_arrival is None:
        return None
    if lag.total == 0:
        return 0.0
    drain = rates.drain
    if memory.changed_at is None or now - memory.changed_at < spec.panic_window_seconds or drain is None:
        drain = min(spec.rate_per_second, (memory.replicas or 0) * rates.per_worker)
    if spec.paused or drain <= rates.recent_arrival:
        return None
    return lag.total / (drain - rates.recent_arrival)


def _inputs(
    spec: PoolSpec, observation: Observation, rates: Rates, need: Need, prior: bool
) -> dict[str, float | None]:
    lag = observation.lag
    return {
        "lag_ready": lag.ready if lag else None,
        "lag_in_flight": lag.in_flight if lag else None,
        "oldest_seconds": lag.oldest_seconds if lag else None,
        "arrival_per_second": rates.arrival,
        "drain_per_second": rates.drain,
        "per_worker_per_second": rates.per_worker,
        "per_worker_is_prior": prior,
        "batch": spec.batch,
        "limit_per_second": spec.limit_per_second,
        "effective_per_second": spec.rate_per_second,
        "demand_per_second": need.demand,
        "want_per_second": need.want,
        "needed_workers": need.workers,
        "observed_workers": observation.replicas,
        "catch_up_seconds": spec.catch_up_seconds,
        "start_seconds": spec.start_seconds,
        "utilization": spec.utilization,
        "spare": spec.spare,
    }


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))
