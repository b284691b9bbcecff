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

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from peakclip_operator.plan.observation import Lag, Observation
from peakclip_operator.plan.rates import Counters
from peakclip_operator.plan.spec import PoolSpec

_SHORT = 0.98  # a drain below this share of R is short of it
_BACKLOG_SECONDS = 1.0  # less lag than R does in this time is work in hand, not a backlog


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    rate: float
    """R in force, messages per second."""
    valid: bool
    """False: not enough is known, the number of workers is held."""
    reason: str
    """LagUnknown, Paused, AtMaximum, CatchingUp, KeepingUp, Stabilizing or Idle."""
    binding_constraint: str
    """What the number would follow if it moved: unknown, paused, limit, demand, shortfall, catch-up, ceiling,
    minimum, maximum or stabilization."""
    ceiling: int
    eta_seconds: float | None
    """To an empty queue; None: unknown, or never at this rate."""
    inputs: Mapping[str, float | None]
    """Every number that was used. None means unknown."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next decision needs to know of the earlier ones."""

    replicas: int | None = None
    changed_at: float | None = None
    on_pace_at: float | None = None
    """When the pool last did what its backlog asks of it, had none, or had another number of workers."""
    at_limit: bool = False
    """The present backlog has once called for R."""
    counters: Counters = field(default_factory=Counters)
    needs: tuple[tuple[float, int], ...] = ()
    """When which number of workers was needed, for the rolling maximum; falling numbers only."""


@dataclass(frozen=True, slots=True)
class _Rates:
    arrival: float | None
    drain: float | None
    recent_arrival: float | None
    per_worker: float


@dataclass(frozen=True, slots=True)
class _Present:
    """Where the pool stands before this decision."""

    workers: int
    ceiling: int
    memory: Memory
    now: float


@dataclass(frozen=True, slots=True)
class _Need:
    workers: int
    binding: str
    backlog: bool
    at_limit: bool
    demand: float | None = None
    want: float | None = None
    beyond_maximum: bool = False


def decide(spec: PoolSpec, observation: Observation, memory: Memory, now: float) -> tuple[Decision, Memory]:
    """Pure. `now` in seconds on any clock that does not run backwards for long."""
    counters = memory.counters.observe(spec, observation, now)
    rates = _rates(spec, counters, now)
    current = memory.replicas if memory.replicas is not None else observation.replicas
    current = _between(spec.min_replicas, current or 0, spec.max_replicas)
    ceiling = _ceil(spec.rate_per_second / (rates.per_worker * spec.utilization))
    ceiling = _between(spec.min_replicas, ceiling, spec.max_replicas)
    need = _need(spec, observation.lag, rates, _Present(current, ceiling, memory, now))
    replicas, needs = _stabilize(
        need.workers, min(current, ceiling), memory.needs, now, spec.stabilization_seconds
    )
    binding = "stabilization" if replicas > need.workers else need.binding
    changed = memory.replicas != replicas
    behind = _is_behind(spec, observation.lag, need, rates)
    memory = replace(
        memory,
        replicas=replicas,
        changed_at=now if changed else memory.changed_at,
        on_pace_at=memory.on_pace_at if behind and not changed else now,
        at_limit=need.at_limit,
        counters=counters,
        needs=needs,
    )
    decision = Decision(
        replicas=replicas,
        rate=spec.rate_per_second,
        valid=observation.lag is not None,
        reason=_reason(need, binding, rates, replicas, spec),
        binding_constraint=binding,
        ceiling=ceiling,
        eta_seconds=_eta(spec, observation.lag, rates, memory, now),
        inputs=_inputs(spec, observation, rates, need, counters.speed.value is None),
    )
    return decision, memory


def _rates(spec: PoolSpec, counters: Counters, now: float) -> _Rates:
    return _Rates(
        arrival=counters.arrivals.rate(spec.panic_window_seconds, now),
        drain=counters.finished.rate(spec.panic_window_seconds, now),
        recent_arrival=counters.arrivals.rate(spec.forecast_window_seconds, now),
        per_worker=spec.batch * (counters.speed.value or 1 / spec.prior_batch_seconds),
    )


def _need(spec: PoolSpec, lag: Lag | None, rates: _Rates, present: _Present) -> _Need:
    """The number of workers that this tick calls for, before stabilization."""
    current, ceiling, at_limit = present.workers, present.ceiling, present.memory.at_limit
    if lag is None:
        return _Need(current, "unknown", backlog=at_limit, at_limit=at_limit)
    limit = spec.rate_per_second
    backlog = lag.total >= max(1.0, limit * _BACKLOG_SECONDS)
    if spec.paused:
        return _Need(current, "paused", backlog=backlog, at_limit=at_limit and backlog)
    demand = _demand(spec, lag, rates.arrival)
    # Without a history of arrivals (after a start or a gap) a backlog may be the beginning of a burst.
    at_limit = backlog and (at_limit or demand is None or demand >= limit)
    if demand is None and not at_limit:
        return _Need(min(current, ceiling), "demand", backlog=backlog, at_limit=False)
    want = limit if at_limit or demand is None else min(limit, demand)
    exact = want * (1 + spec.spare) / rates.per_worker
    beyond = exact > spec.max_replicas * (1 + spec.tolerance)
    workers = _ceil(exact)
    binding = "limit" if want >= limit else "demand"
    if current < workers and exact <= current * (1 + spec.tolerance):
        workers = current  # noise
    if backlog and workers <= current and _falls_short(spec, present.memory, present.now):
        workers, binding = current + 1, "shortfall"
    elif backlog and workers < current:
        workers, binding = current, "catch-up"  # a worker less would only lengthen the drain
    if workers > ceiling:
        workers, binding = ceiling, "maximum" if beyond else "ceiling"
    if workers < spec.min_replicas:
        workers, binding = spec.min_replicas, "minimum"
    return _Need(workers, binding, backlog, at_limit, demand, want, beyond)


def _falls_short(spec: PoolSpec, memory: Memory, now: float) -> bool:
    """These workers have long had enough to do and did too little of it, whatever their rate promises.

    What a worker does between two batches is in no busy second. One more at a time, and the ceiling holds.
    Twice the window: a moment's loss, seen through one window, is over by then.
    """
    since = memory.on_pace_at
    return since is not None and now - since > 2 * spec.panic_window_seconds


def _is_behind(spec: PoolSpec, lag: Lag | None, need: _Need, rates: _Rates) -> bool:
    """There is a backlog, and the pool is seen to do less than R or, where that would do, than what ends it in time.

    Without the second, an R far above the usual arrivals would let the backlog grow until it calls for all of R.
    """
    if lag is None or rates.drain is None or spec.paused or not need.backlog:
        return False
    in_time = (rates.arrival or 0.0) + lag.total / spec.catch_up_seconds
    goal = spec.rate_per_second if need.at_limit else min(spec.rate_per_second, in_time)
    return rates.drain < _SHORT * goal


def _demand(spec: PoolSpec, lag: Lag, arrival: float | None) -> float | None:
    """Messages per second that keep up with the arrivals and end the backlog within the catch-up time."""
    if arrival is None:
        return None
    catch_up = (lag.total + arrival * spec.start_seconds) / spec.catch_up_seconds
    return catch_up + arrival / spec.utilization


def _stabilize(
    needed: int, current: int, needs: tuple[tuple[float, int], ...], now: float, seconds: float
) -> tuple[int, tuple[tuple[float, int], ...]]:
    """Up at once; down only to the largest number needed within `seconds`. Also returns the new history."""
    # Falling numbers only: an entry that this one reaches can never be the maximum again.
    kept = tuple(entry for entry in needs if entry[1] > needed and entry[0] > now - seconds)
    largest = kept[0][1] if kept else needed
    return max(needed, min(current, largest)), (*kept, (now, needed))


def _reason(need: _Need, binding: str, rates: _Rates, replicas: int, spec: PoolSpec) -> str:
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


def _eta(spec: PoolSpec, lag: Lag | None, rates: _Rates, memory: Memory, now: float) -> float | None:
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
    spec: PoolSpec, observation: Observation, rates: _Rates, need: _Need, prior: bool
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


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)  # 5.0000000001 workers are five


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))
