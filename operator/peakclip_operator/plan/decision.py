"""What comes out of a tick: the decision, and what the next one needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peakclip_operator.plan.effect import Trials
from peakclip_operator.plan.explain import formula
from peakclip_operator.plan.health import Level
from peakclip_operator.plan.rates import Counters
from peakclip_operator.plan.starting import Starts


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int | None
    """None: not even the present number is known, so nobody may be started or ended."""
    rate: float
    """R in force, messages per second."""
    valid: bool
    """False: the lag is unknown. The number of workers is held, or the fallback's."""
    reason: str
    """WorkersUnknown, LagUnknown, Paused, Excluded, Ineffective, AtMaximum, CatchingUp, KeepingUp, Stabilizing or
    Idle."""
    binding_constraint: str
    """What the number would follow if it moved: unknown, fallback, paused, excluded, beginning, limit, demand,
    shortfall, catch-up, activation, ceiling, minimum, maximum, stabilization, scale-up-limit, scale-down-limit,
    scale-down-paused, trial or ineffective."""
    ceiling: int
    eta_seconds: float | None
    """To an empty queue; None: unknown, or never at this rate."""
    inputs: Mapping[str, float | None]
    """Every number that was used. None means unknown."""
    rate_reason: str = "limit"
    """Why the rate in force is what it is: limit, database, share or paused."""
    bounds: tuple[tuple[str, int], ...] = ()
    """Each constraint that was looked at, in that order, with the number of workers after it."""
    unknown: Mapping[str, float] = field(default_factory=dict)
    """Which signals are unknown, and since when (epoch seconds): lag, telemetry, workers, ready, delayed, arrivals,
    speed, database."""

    @property
    def formula(self) -> str:
        """How the number of workers follows from the inputs, with their values in it."""
        return formula(self.inputs, self.bounds, self.replicas)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next decision needs to know of the earlier ones."""

    replicas: int | None = None
    """None until the number that was found is known."""
    proven: int | None = None
    """While the rate of a worker is a guess, no ceiling that follows from it is below this: the number that was
    found at the start, or that was seen to be too small."""
    unknown: tuple[tuple[str, float], ...] = ()
    """Since when which signals have been unknown."""
    decided_at: float | None = None
    """When the last decision was made."""
    begun_at: float | None = None
    """When this controller began, if it began without a memory."""
    changed_at: float | None = None
    on_pace_at: float | None = None
    """When the pool last did what its backlog asks of it, had none, or had another number of workers."""
    at_limit: bool = False
    """The present backlog has once called for R."""
    share: float | None = None
    """What the pool had of a shared R."""
    counters: Counters = field(default_factory=Counters)
    needs: tuple[tuple[float, int], ...] = ()
    """When which number of workers was needed, for the rolling maximum; falling numbers only."""
    starts: Starts = field(default_factory=Starts)
    level: Level = field(default_factory=Level)
    trials: Trials = field(default_factory=Trials)
    moves: tuple[tuple[float, int], ...] = ()
    """When how many workers were added, or given back if negative, as long as a limit of steps asks for it."""
