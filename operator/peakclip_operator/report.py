"""One decision, told twice: the status on the wire and the gauges for Prometheus show the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from peakclip import telemetry
from peakclip.messages import PoolStatus
from peakclip_operator.plan import Decision, Observation, PoolSpec
from peakclip_operator.ports import PaceReading, Telemetry, Workers


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ports said at one tick beyond what the decision rests on."""

    now: float
    workers: Workers | None
    heard: Telemetry | None
    pace: PaceReading | None
    delayed: int | None


def pool_status(
    pool: str,
    spec: PoolSpec,
    observation: Observation,
    decision: Decision,
    seen: Seen,
) -> PoolStatus:
    lag, totals, inputs = observation.lag, observation.totals, decision.inputs
    # Advice is never put in force, so what is in force is what somebody else has set.
    effective = seen.pace.effective_per_second if spec.advise and seen.pace else decision.rate
    per_worker = None if inputs["per_worker_is_prior"] else inputs["per_worker_per_second"]
    return PoolStatus(
        pool=pool,
        at=seen.now,
        limit_per_second=spec.limit_per_second,
        effective_per_second=effective,
        paused=spec.paused,
        lag_ready=lag.ready if lag else None,
        lag_in_flight=lag.in_flight if lag else None,
        oldest_seconds=lag.oldest_seconds if lag else None,
        arrival_per_second=inputs["arrival_per_second"],
        drain_per_second=inputs["drain_per_second"],
        per_worker_per_second=per_worker,
        workers_current=seen.workers.running if seen.workers else 0,
        workers_desired=decision.replicas or 0,  # the reason WorkersUnknown says that nothing is known
        workers_ceiling=decision.ceiling,
        eta_seconds=decision.eta_seconds,
        reason=decision.reason,
        binding_constraint=decision.binding_constraint,
        processed_total=totals.finished if totals else 0,
        failed_total=totals.failed if totals else 0,
        average_processing_seconds=1 / per_worker if per_worker else None,
        starts_max_sliding_second=seen.heard.starts_max_sliding_second if seen.heard else None,
        burst=seen.pace.burst if seen.pace else None,
        lag_delayed=seen.delayed,
    )


def export(status: PoolStatus, spec: PoolSpec, seen: Seen, desired: int | None) -> None:
    """Sets the gauges; unknown becomes NaN, which Prometheus draws as a gap."""
    pool, workers = status.pool, seen.workers
    telemetry.LAG.labels(pool, "ready").set(_number(status.lag_ready))
    telemetry.LAG.labels(pool, "in_flight").set(_number(status.lag_in_flight))
    telemetry.LAG.labels(pool, "delayed").set(_number(status.lag_delayed))
    telemetry.ARRIVAL.labels(pool).set(_number(status.arrival_per_second))
    telemetry.DRAIN.labels(pool).set(_number(status.drain_per_second))
    telemetry.LIMIT.labels(pool).set(status.limit_per_second)
    telemetry.EFFECTIVE_LIMIT.labels(pool).set(status.effective_per_second)
    telemetry.BURST.labels(pool).set(_number(status.burst))
    telemetry.CATCH_UP.labels(pool).set(spec.catch_up_seconds)
    telemetry.RECENT_STARTS.labels(pool).set(_number(seen.heard.starts_recent_most if seen.heard else None))
    telemetry.ETA.labels(pool).set(_number(status.eta_seconds))
    telemetry.MAX_STARTS.labels(pool).set(_number(status.starts_max_sliding_second))
    telemetry.WORKERS.labels(pool, "desired").set(_number(desired))
    telemetry.WORKERS.labels(pool, "ceiling").set(_number(status.workers_ceiling))
    telemetry.WORKERS.labels(pool, "running").set(_number(workers.running if workers else None))
    telemetry.WORKERS.labels(pool, "starting").set(_number(workers.starting if workers else None))
    telemetry.WORKERS.labels(pool, "draining").set(_number(workers.draining if workers else None))
    telemetry.DECISIONS.labels(pool, status.reason).inc()


_OF_A_POOL: Final = (
    telemetry.LAG,
    telemetry.ARRIVAL,
    telemetry.DRAIN,
    telemetry.LIMIT,
    telemetry.EFFECTIVE_LIMIT,
    telemetry.BURST,
    telemetry.CATCH_UP,
    telemetry.RECENT_STARTS,
    telemetry.ETA,
    telemetry.MAX_STARTS,
    telemetry.WORKERS,
)


def forget(pool: str) -> None:
    """Another operator looks after the pool from here on, or nobody has to: the last numbers would stay for ever."""
    for gauge in _OF_A_POOL:
        gauge.remove_by_labels({"pool": pool})


def unknown(pool: str) -> None:
    """The pool could not be looked at: what was known of it is true no longer."""
    for gauge in _OF_A_POOL:
        for family in gauge.collect():
            for sample in family.samples:
                if sample.labels["pool"] == pool:
                    gauge.labels(**sample.labels).set(math.nan)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
