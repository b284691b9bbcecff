"""The status of a resource, made from one tick's facts: the same objects that log, gauges and Events are made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic.alias_generators import to_camel

from peakclip.messages import PoolStatus
from peakclip_operator.plan import Decision
from peakclip_operator.resource import status_model as model
from peakclip_operator.resource.conditions import Facts, conditions
from peakclip_operator.resource.duration import written

_LONGEST_FORMULA: Final = 1024


def build_status(facts: Facts, previous: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All of `status`, with null for what is unknown. `previous` is the status as it is stored.

    Rounded, so that the status of a pool in which nothing happens stays the same: write it only when it differs.
    """
    before = (previous or {}).get("conditions") or ()
    decision, status = facts.decision, facts.status
    made = model.WorkerPoolStatus(
        observed_generation=facts.generation,
        lag=_lag(status),
        rates=_rates(facts, status),
        replicas=model.ReplicasStatus(
            current=facts.workers,
            desired=decision.replicas if decision else None,
            ceiling=decision.ceiling if decision else None,
        ),
        eta_seconds=_whole(decision.eta_seconds) if decision else None,
        eta=_eta(facts, status, decision),
        decision=_decision(decision),
        conditions=conditions(facts, before),
    )
    return made.model_dump(mode="json", by_alias=True)


def _lag(status: PoolStatus | None) -> model.LagStatus:
    if status is None:
        return model.LagStatus()
    ready, in_flight = status.lag_ready, status.lag_in_flight
    return model.LagStatus(
        total=None if ready is None or in_flight is None else ready + in_flight,
        ready=ready,
        in_flight=in_flight,
        delayed=status.lag_delayed,
        scheduled=status.lag_scheduled,
        redelivered=status.lag_redelivered,
        oldest_seconds=_whole(status.oldest_seconds),
    )


def _rates(facts: Facts, status: PoolStatus | None) -> model.RatesStatus:
    limit = facts.spec.throughput.limit_per_second if facts.spec else None
    if status is None:
        return model.RatesStatus(limit_per_second=limit)
    return model.RatesStatus(
        arrival_per_second=_rounded(status.arrival_per_second),
        drain_per_second=_rounded(status.drain_per_second),
        per_worker_per_second=_rounded(status.per_worker_per_second),
        limit_per_second=limit,
        effective_per_second=status.effective_per_second,
    )


def _decision(decision: Decision | None) -> model.DecisionStatus | None:
    if decision is None:
        return None
    return model.DecisionStatus(
        reason=decision.reason,
        binding_constraint=decision.binding_constraint,
        rate_reason=decision.rate_reason,
        formula=decision.formula[:_LONGEST_FORMULA],
        bounds=[model.BoundStatus(constraint=name, workers=workers) for name, workers in decision.bounds],
        unknown={to_camel(name): _time(since) for name, since in decision.unknown.items()},
        inputs={to_camel(name): _input(name, value) for name, value in decision.inputs.items()},
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _input(name: str, value: float | None) -> float | None:
    """Times are epoch seconds: three digits of them say nothing."""
    return _whole(value) if name.endswith("_until") else _rounded(value)


def _eta(facts: Facts, status: PoolStatus | None, decision: Decision | None) -> str:
    if decision is None or status is None or status.lag_ready is None or status.arrival_per_second is None:
        return "unknown"
    if decision.eta_seconds is not None:
        return written(_coarse(decision.eta_seconds))
    return "paused" if status.paused or (facts.spec is not None and facts.spec.paused) else "never"


def _coarse(seconds: float) -> float:
    """An hour hence nobody counts seconds."""
    step = 1 if seconds < 600 else 10 if seconds < 3600 else 60
    return round(seconds / step) * step


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _rounded(value: float | None) -> float | None:
    """To three digits: 1,234.5 is 1230, 99.97 is 100, 0.51234 is 0.512."""
    return None if value is None else float(f"{value:.3g}")
