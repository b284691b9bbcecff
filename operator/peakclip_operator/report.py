"""One decision, told twice: the status on the wire and the gauges for Prometheus show the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from peakclip import telemetry
from peakclip.messages import PoolStatus
from peakclip_operator.plan import Decision, Observation, PoolSpec
from peakclip_operator.ports import PaceReading, Telemetry, Workers

SIGNALS: Final = ("lag", "telemetry", "workers", "ready", "delayed", "arrivals", "speed", "database")
HEALTH: Final = (
    "error_share",
    "wait_seconds",
    "p95_seconds",
)  # inputs of the decision, there `database_` is in front


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ports said at one tick beyond what the decision rests on."""

    now: float
    workers: Workers | None
    heard: Telemetry | None
    pace: PaceReading | None
    has_timers: bool = False
    """The pool has messages that wait for a time of their own."""


def pool_status(
    pool: str,
    spec: PoolSpec,
    observation: Observation,
    decision: Decision,
    seen: Seen,
) -> PoolStatus:
    lag, inputs = observation.lag, decision.inputs
    # Advice is never put in force, so what is in force is what somebody else has set.
    effective = seen.pace.effective_per_second if spec.advise and seen.pace else decision.rate
    per_worker = None if inputs["per_worker_is_prior"] else inputs["per_worker_per_second"]
    processed, failed = _ever(seen.heard)
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
        workers_current=seen.workers.running if seen.workers else None,
        workers_desired=decision.replicas,
        workers_ceiling=decision.ceiling,
        eta_seconds=decision.eta_seconds,
        reason=decision.reason,
        binding_constraint=decision.binding_constraint,
        processed_total=processed,
        failed_total=failed,
        average_processing_seconds=1 / per_worker if per_worker else None,
        starts_max_sliding_second=seen.heard.starts_max_sliding_second if seen.heard else None,
        burst=seen.pace.burst if seen.pace else None,
        lag_delayed=observation.delayed,
        lag_scheduled=observation.scheduled,
        lag_redelivered=lag.redelivered if lag else None,
        rate_reason=decision.rate_reason,
        formula=decision.formula,
        bounds=tuple(decision.bounds),
        unknown=dict(decision.unknown),
        inputs={name: None if value is None else float(value) for name, value in inputs.items()},
    )


def _ever(heard: Telemetry | None) -> tuple[int, int]:
    """Finished and failed, with what the workers did before this controller began, where they tell of it: people do not
    care which controller counted."""
    if heard is None:
        return 0, 0
    finished, failed = heard.finished_ever, heard.failed_ever
    return (
        heard.totals.finished if finished is None else finished,
        heard.totals.failed if failed is None else failed,
    )


def export(status: PoolStatus, spec: PoolSpec, seen: Seen, desired: int | None) -> None:
    """Sets the gauges; unknown becomes NaN, which Prometheus draws as a gap."""
    pool, workers = status.pool, seen.workers
    telemetry.LAG.labels(pool, "ready").set(_number(status.lag_ready))
    telemetry.LAG.labels(pool, "in_flight").set(_number(status.lag_in_flight))
    telemetry.LAG.labels(pool, "delayed").set(_number(status.lag_delayed))
    if seen.has_timers:
        telemetry.LAG.labels(pool, "scheduled").set(_number(status.lag_scheduled))
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
    for signal in dict.fromkeys((*SIGNALS, *status.unknown)):
        since = status.unknown.get(signal)
        telemetry.UNKNOWN.labels(pool, signal).set(0.0 if since is None else max(0.0, status.at - since))
    for measure in HEALTH:
        telemetry.DATABASE_HEALTH.labels(pool, measure).set(_number(status.inputs.get(f"database_{measure}")))
    telemetry.SCALE_UP_BLOCKED.labels(pool).set(status.binding_constraint == "ineffective")
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
    telemetry.UNKNOWN,
    telemetry.DATABASE_HEALTH,
    telemetry.SCALE_UP_BLOCKED,
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
