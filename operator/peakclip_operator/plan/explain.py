"""A decision explained as data: every number that it rests on, and the formula with the numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peakclip_operator.plan.decision import Memory
    from peakclip_operator.plan.need import Need, Present, Rates
    from peakclip_operator.plan.observation import Observation
    from peakclip_operator.plan.spec import PoolSpec

Inputs = Mapping[str, float | None]


def inputs_of(
    spec: PoolSpec,
    observation: Observation,
    rates: Rates,
    need: Need,
    present: Present,
    memory: Memory,
) -> dict[str, float | None]:
    """Every number that was used; None is unknown."""
    lag, reading, trials = observation.lag, memory.level.reading, memory.trials
    blocked = present.now < trials.until and trials.most is not None
    return {
        "lag_ready": lag.ready if lag else None,
        "lag_in_flight": lag.in_flight if lag else None,
        "lag_stuck": present.stuck if lag else None,
        "lag_delayed": observation.delayed,
        "lag_scheduled": observation.scheduled,
        "oldest_seconds": lag.oldest_seconds if lag else None,
        "arrival_per_second": rates.arrival,
        "stable_arrival_per_second": rates.stable_arrival,
        "counted_arrival_per_second": need.arrival,
        "drain_per_second": rates.drain,
        "per_worker_per_second": rates.per_worker,
        "per_worker_is_prior": memory.counters.speed.value is None,
        "batch": spec.batch,
        "limit_per_second": spec.limit_per_second,
        "effective_per_second": spec.rate_per_second,
        "database_per_second": memory.level.rate,
        "share_per_second": spec.share_per_second,
        "database_error_share": reading.error_share if reading else None,
        "database_wait_seconds": reading.wait_seconds if reading else None,
        "database_p95_seconds": reading.p95_seconds if reading else None,
        "demand_per_second": need.demand,
        "want_per_second": need.want,
        "needed_workers": need.workers,
        "observed_workers": observation.replicas,
        "ready_workers": observation.ready,
        "blocked_above_workers": trials.most if blocked else None,
        "blocked_until": trials.until if blocked else None,
        "catch_up_seconds": spec.catch_up_seconds,
        "start_seconds": present.start_seconds,
        "utilization": spec.utilization,
        "spare": spec.spare,
    }


def formula(inputs: Inputs, bounds: Sequence[tuple[str, int]], replicas: int | None) -> str:
    """Worked example: `want = min(R 100, lag 10000/120 + arrivals 1667*3/120 + 1667/0.7 = 2506) = 100; needed =
    100*1.2/22; limit 6, ceiling 7 -> 6 workers`."""
    known = {name: "?" if value is None else _short(value) for name, value in inputs.items()}
    ready, in_flight = inputs.get("lag_ready"), inputs.get("lag_in_flight")
    lag = (
        "?" if ready is None or in_flight is None else _short(ready + in_flight - (inputs["lag_stuck"] or 0))
    )
    arrivals, catch_up = known["counted_arrival_per_second"], known["catch_up_seconds"]
    parts = []
    if inputs.get("want_per_second") is not None:
        demand = known["demand_per_second"]
        parts.append(
            f"want = min(R {known['effective_per_second']}, lag {lag}/{catch_up}"
            f" + arrivals {arrivals}*{known['start_seconds']}/{catch_up}"
            f" + {arrivals}/{known['utilization']} = {demand}) = {known['want_per_second']}"
        )
        spare = _short(1 + (inputs["spare"] or 0.0))
        parts.append(f"needed = {known['want_per_second']}*{spare}/{known['per_worker_per_second']}")
    steps = ", ".join(f"{name} {number}" for name, number in bounds)
    result = "unknown" if replicas is None else f"{replicas} workers"
    parts.append(f"{steps} -> {result}" if steps else f"-> {result}")
    return "; ".join(parts)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
