"""What a resource wishes for, in the words of the plan: spec and annotations to a PoolSpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from peakclip.limiter import grid
from peakclip_operator import plan
from peakclip_operator.resource.model import WorkerPoolSpec

PAUSED: Final = "peakclip.dev/paused"
PAUSED_REPLICAS: Final = "peakclip.dev/paused-replicas"
PAUSED_SCALE_DOWN: Final = "peakclip.dev/paused-scale-down"

_START_SECONDS: Final = 3.0  # from the decision to a pod that works
_OFF: Final = ("false", "")


@dataclass(frozen=True, slots=True)
class Pauses:
    """The annotations that stop the scaling and let the work go on."""

    scaling: bool = False
    replicas: int | None = None
    scale_down: bool = False
    complaint: str = ""
    """A sentence when an annotation could not be read; it then counts as a wish to pause."""


def read_pauses(annotations: Mapping[str, str], spec: WorkerPoolSpec) -> Pauses:
    """Somebody who writes `paused: yes` wants a pause: everything but `false` and nothing counts as true."""
    scaling = annotations.get(PAUSED, "").strip().lower() not in _OFF
    scale_down = annotations.get(PAUSED_SCALE_DOWN, "").strip().lower() not in _OFF
    wanted = annotations.get(PAUSED_REPLICAS, "").strip()
    if not wanted:
        return Pauses(scaling, None, scale_down)
    if not (wanted.isascii() and wanted.isdigit()):
        complaint = (
            f'The annotation {PAUSED_REPLICAS}: "{wanted}" is not a whole number: the present one is held.'
        )
        return Pauses(True, None, scale_down, complaint)
    most = spec.replicas.max
    if int(wanted) > most:
        complaint = (
            f'The annotation {PAUSED_REPLICAS}: "{wanted}" is above spec.replicas.max: {most} are kept.'
        )
        return Pauses(scaling, most, scale_down, complaint)
    return Pauses(scaling, int(wanted), scale_down)


def to_pool_spec(spec: WorkerPoolSpec, annotations: Mapping[str, str]) -> plan.PoolSpec:
    pauses = read_pauses(annotations, spec)
    behavior, health = spec.behavior, spec.throughput.database_health
    return plan.PoolSpec(
        limit_per_second=spec.throughput.limit_per_second,
        paused=spec.paused,
        advise=spec.mode == "Advise",
        min_replicas=spec.replicas.min,
        max_replicas=spec.replicas.max,
        activation_replicas=spec.replicas.activation,
        scale_up=_step_limit(behavior.scale_up.pods, behavior.scale_up.period),
        scale_down=_step_limit(behavior.scale_down.pods, behavior.scale_down.period),
        fallback=plan.Fallback(spec.fallback.after, spec.fallback.policy, spec.fallback.replicas),
        override=plan.Override(pauses.scaling, pauses.replicas, pauses.scale_down),
        health=plan.Health(
            enabled=health.enabled,
            most_error_share=health.max_error_percent / 100,
            most_wait_seconds=health.max_wait,
            most_p95_seconds=health.max_p95,
        ),
        effect=plan.Effect(enabled=behavior.scale_up.reverse_ineffective),
        utilization=spec.throughput.utilization,
        catch_up_seconds=spec.throughput.catch_up,
        stabilization_seconds=behavior.scale_down.stabilization,
        start_seconds=_START_SECONDS,
        excluded=tuple(one.period() for one in behavior.excluded_periods or ()),
    )


def group_of(spec: WorkerPoolSpec, namespace: str) -> str | None:
    """Its name for all namespaces; None for a pool that shares with nobody, or whose rate is another's to set."""
    shared = spec.throughput.shared
    return None if shared is None or spec.mode == "Advise" else f"{namespace}.{shared.group}"


def burst_of(spec: WorkerPoolSpec) -> int:
    """Starts that a sliding second may hold above the limit."""
    given = spec.throughput.burst
    return grid.default_burst(spec.throughput.limit_per_second) if given is None else given


def _step_limit(pods: int | None, period: float | None) -> plan.StepLimit | None:
    return None if pods is None or period is None else plan.StepLimit(pods, period)
