"""How many workers, at which rate, and why: `decide(spec, observation, memory, now) -> (Decision, memory)`.

Symbols: L lag (messages not finished), A arrivals per second, R limit in force, T catch-up time, S start
time, mu rate of one worker, rho utilization; all per second or in seconds.

    R       = min(limit, what the database bears, what other pools of the same R leave)
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
from peakclip_operator.plan.effect import Scene
from peakclip_operator.plan.explain import inputs_of
from peakclip_operator.plan.need import Need, Present, Rates, call_for, ceil_of, is_behind
from peakclip_operator.plan.observation import Lag, Observation
from peakclip_operator.plan.periods import is_excluded
from peakclip_operator.plan.spec import PoolSpec
from peakclip_operator.plan.steps import Bounds, overruled, stabilize, step


def decide(spec: PoolSpec, observation: Observation, memory: Memory, now: float) -> tuple[Decision, Memory]:
    """Pure. `now` in epoch seconds; a clock that is set back costs what was measured in the last seconds."""
    memory = _looked(spec, observation, memory, now)
    rate, rate_reason = _in_force(spec, memory)
    if rate != spec.rate_per_second:
        spec = replace(spec, effective_per_second=rate)
    rates = _rates(spec, memory, now)
    present = _present(spec, observation, memory, rates, now)
    need = call_for(spec, observation.lag, rates, present)
    # An old one says nothing of now, and one over half a second nothing at all.
    whole = memory.counters.finished.covers_seconds >= 0.9 * spec.panic_window_seconds
    drain = rates.drain if whole and observation.lag is not None else None
    speed = rates.per_worker / spec.batch
    blind = present.guessing and (memory.proven or 0) > spec.min_replicas
    scene = Scene(drain, rate, need.backlog, speed, blind, observation.ready, present.start_seconds, now)
    unknown = _unknown(observation, memory, rates, now)
    memory = replace(memory, unknown=unknown, trials=memory.trials.seen(spec, scene))
    number = _number(spec, observation, need, present, memory)
    replicas = number.replicas
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
        share=spec.share_per_second,
        needs=number.needs,
        moves=number.moves,
        trials=memory.trials.decided(spec, scene, present.workers, replicas or 0),
    )
    decision = Decision(
        replicas=replicas,
        rate=rate,
        valid=observation.lag is not None,
        reason=number.reason or _reason(need, number.binding, rates, replicas, spec),
        binding_constraint=number.binding,
        ceiling=ceiling,
        eta_seconds=_eta(spec, observation.lag, rates, memory, now),
        inputs=inputs_of(spec, observation, rates, need, present, memory),
        rate_reason=rate_reason,
        bounds=number.bounds,
        unknown=dict(memory.unknown),
    )
    return decision, memory


def _looked(spec: PoolSpec, observation: Observation, memory: Memory, now: float) -> Memory:
    """The memory with what this tick saw, before anything is decided."""
    if memory.decided_at is not None and now - memory.decided_at > spec.gap_seconds:
        # Nobody looked: neither was the pool seen to be too slow, nor whether its last workers were of use.
        memory = replace(memory, on_pace_at=now, trials=memory.trials.interrupted())
    found, begun_at, needs = memory.proven, memory.begun_at, memory.needs
    if memory.replicas is None:
        found = observation.replicas
        if found is not None and begun_at is None:
            # Nobody is given back for what happened before anybody looked.
            begun_at, needs = now, ((now, found),)
    totals = observation.totals
    return replace(
        memory,
        counters=memory.counters.observe(spec, observation, now),
        starts=memory.starts.observe(memory.replicas, observation.ready, now),
        level=memory.level.observe(spec, totals.database if totals else None, observation.lag, now),
        proven=found,
        begun_at=None if begun_at is None else min(begun_at, now),
        decided_at=now,
        # What lies ahead was before the clock was set back: until the clock is there again it would never grow old.
        on_pace_at=None if memory.on_pace_at is None else min(memory.on_pace_at, now),
        changed_at=None if memory.changed_at is None else min(memory.changed_at, now),
        needs=tuple((min(at, now), needed) for at, needed in needs),
        moves=tuple((min(at, now), by) for at, by in memory.moves),
    )


def _in_force(spec: PoolSpec, memory: Memory) -> tuple[float, str]:
    """R in force and why it is what it is."""
    if spec.paused:
        return spec.rate_per_second, "paused"
    rate, reason = spec.limit_per_second, "limit"
    if memory.level.rate is not None and memory.level.rate < rate:
        rate, reason = memory.level.rate, "database"
    if spec.share_per_second is not None and spec.share_per_second < rate:
        rate, reason = spec.share_per_second, "share"
    return rate, reason


def _unknown(
    observation: Observation, memory: Memory, rates: Rates, now: float
) -> tuple[tuple[str, float], ...]:
    totals = observation.totals
    signals = (
        ("lag", observation.lag),
        ("telemetry", totals),
        ("workers", observation.replicas),
        ("ready", observation.ready),
        ("delayed", observation.delayed),
        ("arrivals", rates.arrival),
        ("speed", memory.counters.speed.value),
        ("database", totals.database if totals else None),
    )
    since = dict(memory.unknown)
    return tuple((name, min(now, since.get(name, now))) for name, value in signals if value is None)


def _present(spec: PoolSpec, observation: Observation, memory: Memory, rates: Rates, now: float) -> Present:
    # The guess counts for some seconds beside what is measured: see Speed.
    guessing = memory.counters.speed.value in (None, 1 / spec.prior_batch_seconds)
    before = memory.replicas if memory.replicas is not None else observation.replicas
    planned = rates.per_worker * spec.utilization
    ceiling = ceil_of(spec.rate_per_second / planned)
    if guessing:
        ceiling = max(ceiling, memory.proven or 0)
    ceiling = _between(spec.min_replicas, ceiling, spec.max_replicas)
    useful = max(ceiling, min(ceil_of(spec.limit_per_second / planned), spec.max_replicas))
    learned, lag = memory.starts.seconds, observation.lag
    return Present(
        workers=_between(spec.min_replicas, before or 0, spec.max_replicas),
        known=before is not None,
        ceiling=ceiling,
        useful=useful,
        memory=memory,
        now=now,
        guessing=guessing,
        start_seconds=spec.start_seconds if learned is None else learned,
        ready=observation.ready,
        stuck=0 if lag is None else memory.counters.stuck.messages(spec, lag, now),
    )


def _number(spec: PoolSpec, observation: Observation, need: Need, present: Present, memory: Memory) -> Bounds:
    """The next number with its constraint, and with its reason where that does not follow from the need."""
    now, current = present.now, present.workers
    largest = min(current, present.useful)
    replicas, needs = stabilize(need.workers, largest, memory.needs, now, spec.stabilization_seconds)
    number = Bounds(need.workers, need.binding, needs, memory.moves, bounds=need.bounds)
    forced = overruled(spec, observation, memory, now)
    if forced is not None:
        replicas_forced, reason, binding = forced
        return replace(number, replicas=replicas_forced, reason=reason, binding=binding)
    if spec.excluded and is_excluded(spec.excluded, now) is not None:
        return replace(number, replicas=current, reason="Excluded", binding="excluded")
    if _begins(spec, observation, present):
        return number.bound("beginning", current)
    if replicas > need.workers:
        number = number.bound("stabilization", replicas)
    effect = memory.trials.bound(now)
    if need.binding != "unknown" and effect is not None and replicas > max(effect[1], spec.min_replicas):
        number = number.bound(effect[0], max(effect[1], spec.min_replicas))
        number = replace(number, reason="Ineffective" if effect[0] == "ineffective" else None)
    replicas = number.replicas or 0
    if spec.override.no_scale_down and replicas < current:
        number, replicas = number.bound("scale-down-paused", current), current
    stepped, limited, moves = step(spec, replicas, current, memory.moves, now)
    if limited is not None:
        number = number.bound(limited, stepped)
    return replace(number, replicas=stepped, moves=moves)


def _begins(spec: PoolSpec, observation: Observation, present: Present) -> bool:
    """A controller without a memory finds more workers than the fewest: somebody had a reason for them. It leaves them
    alone until it has seen for some seconds what one of them does, or for a window what all do; so its own restart is
    never a step."""
    memory, found = present.memory, observation.replicas
    looks = spec.panic_window_seconds if present.guessing else spec.worker_settle_seconds
    return (
        memory.begun_at is not None
        and found is not None
        and found == memory.proven
        and spec.min_replicas < found <= spec.max_replicas
        and present.now - memory.begun_at < looks
        and not spec.paused
    )


def _rates(spec: PoolSpec, memory: Memory, now: float) -> Rates:
    counters = memory.counters
    speed = counters.speed.value or 1 / spec.prior_batch_seconds
    return Rates(
        arrival=counters.arrivals.rate(spec.panic_window_seconds, now),
        stable_arrival=counters.stable_arrival(spec, now),
        recent_arrival=counters.arrivals.rate(spec.forecast_window_seconds, now),
        seen_seconds=counters.arrivals.covers_seconds,
        drain=counters.finished.rate(spec.panic_window_seconds, now),
        per_worker=spec.batch * max(speed, memory.trials.least_speed(spec, now)),
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


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))
