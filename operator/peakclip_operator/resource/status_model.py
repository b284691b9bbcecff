"""`status` of a WorkerPool: what is known, what was decided and why. Absent or null always means unknown."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from peakclip_operator.resource.rules import Part


class LagStatus(Part):
    """Messages that are not finished, told apart by what they wait for."""

    total: int | None = None
    """Messages that call for workers: ready and in flight."""

    ready: int | None = None
    """Messages not yet delivered to a worker."""

    in_flight: int | None = None
    """Messages delivered to a worker and not yet finished."""

    delayed: int | None = None
    """Failed messages that wait for the time of their next attempt. They call for no worker."""

    scheduled: int | None = None
    """Wake-ups that wait for a second in which unpaid orders expire; each stands for all orders of its second.
    Known for the stream EXPIRY only."""

    redelivered: int | None = None
    """Of those in flight, the messages that were delivered before: a worker died with them, or nobody can finish
    them."""

    oldest_seconds: int | None = None
    """Age of the oldest message that is not finished, in seconds."""


class RatesStatus(Part):
    """Messages per second, rounded to three digits."""

    arrival_per_second: float | None = None
    """Messages that arrive per second, over the last 6 seconds."""

    drain_per_second: float | None = None
    """Messages that are finished per second, over the last 6 seconds."""

    per_worker_per_second: float | None = None
    """What one worker does per second while it works; its wait for the limiter does not count."""

    limit_per_second: float | None = None
    """The limit that was asked for."""

    effective_per_second: float | None = None
    """The limit that is in force at this moment; 0 while the work is paused."""


class ReplicasStatus(Part):
    """Numbers of workers."""

    current: int | None = None
    """Workers that run."""

    desired: int | None = None
    """Workers that the operator asks for, or in the mode Advise would ask for."""

    ceiling: int | None = None
    """More than this many workers could only wait for each other's share of the limit."""


class BoundStatus(Part):
    """One constraint of a decision."""

    constraint: str
    """Its name, as in bindingConstraint."""

    workers: int
    """The number of workers after it."""


class DecisionStatus(Part):
    """The last decision with everything that went into it."""

    reason: str
    """One word: CatchingUp, KeepingUp, Idle, Stabilizing, AtMaximum, Ineffective, Excluded, LagUnknown, WorkersUnknown
    or Paused."""

    binding_constraint: str
    """What the number of workers follows: limit, demand, keeping-up, shortfall, catch-up, activation, ceiling, minimum,
    maximum, stabilization, scale-up-limit, scale-down-limit, scale-down-paused, trial, ineffective, excluded,
    beginning, paused, fallback or unknown."""

    rate_reason: str
    """Why the limit in force is what it is: limit, database (it suffers), share (other pools need theirs) or
    paused."""

    formula: str
    """How the number of workers follows from the inputs, with their values in it."""

    bounds: list[BoundStatus] = Field(default_factory=list, max_length=32)
    """Each constraint that was looked at, in that order."""

    unknown: dict[str, str] = Field(default_factory=dict)
    """Signals that are unknown, and since when."""

    inputs: dict[str, float | None] = Field(default_factory=dict)
    """Every number that was used, rounded to three digits; null where it is unknown."""


class Condition(Part):
    """One aspect of the pool's state."""

    type: Literal["Ready", "Scaling", "LagAvailable", "Paused", "Shared"]
    """Name of the condition."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    reason: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z]+$")
    """One word for the cause."""

    message: str = Field(max_length=1024)
    """A sentence for people: what is the case and, if something is wrong, what to do."""

    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    """When `status` last changed."""

    observed_generation: int
    """The generation of the spec that this was said of."""


class WorkerPoolStatus(Part):
    """What the operator knows of the pool and decided for it. Written by the operator only."""

    observed_generation: int
    """The generation of the spec that this status was made for."""

    lag: LagStatus
    """Messages that are not finished."""

    rates: RatesStatus
    """Messages per second."""

    replicas: ReplicasStatus
    """Numbers of workers."""

    eta_seconds: int | None = None
    """Seconds until the queue is empty at this rate; null when that is unknown or never."""

    eta: str
    """The same for people: `2m10s`, `never` when at least as much arrives as is drained, `paused` or `unknown`."""

    decision: DecisionStatus | None = None
    """The last decision with everything that went into it; null before the first."""

    conditions: list[Condition] = Field(
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Ready, Scaling, LagAvailable and Paused, and Shared for a pool that shares its limit, each with a reason and a
    sentence."""
