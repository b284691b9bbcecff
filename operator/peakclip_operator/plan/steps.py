"""How a called-for number becomes the next one: at once, later, or step by step. And what goes before all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakclip_operator.plan.decision import Memory
from peakclip_operator.plan.observation import Observation
from peakclip_operator.plan.spec import PoolSpec, StepLimit

Moves = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The number of workers on its way through the constraints."""

    replicas: int | None
    binding: str
    needs: Moves
    """For the rolling maximum, with this tick's."""
    moves: Moves
    reason: str | None = None
    """None: it follows from the need."""
    bounds: tuple[tuple[str, int], ...] = ()

    def bound(self, name: str, replicas: int) -> Bounds:
        return replace(self, replicas=replicas, binding=name, bounds=(*self.bounds, (name, replicas)))


def overruled(
    spec: PoolSpec, observation: Observation, memory: Memory, now: float
) -> tuple[int | None, str, str] | None:
    """Number, reason and constraint where nothing is to be reckoned; None where the need decides.

    Neither stabilization nor a limit of steps holds these up.
    """
    if observation.replicas is None:
        # A number from memory may be wrong by now, but it is what was asked for last.
        return memory.replicas, "WorkersUnknown", "unknown"
    if spec.override.replicas is not None:
        return min(spec.override.replicas, spec.max_replicas), "Paused", "paused"
    if spec.override.hold:
        return observation.replicas, "Paused", "paused"
    since, fallback = dict(memory.unknown).get("lag"), spec.fallback
    if spec.paused or since is None or now - since < fallback.after_seconds or fallback.replicas is None:
        return None
    present = observation.replicas if memory.replicas is None else memory.replicas
    least = present if fallback.policy == "Floor" else 0
    return min(spec.max_replicas, max(least, fallback.replicas)), "LagUnknown", "fallback"


def stabilize(
    needed: int, current: int, needs: tuple[tuple[float, int], ...], now: float, seconds: float
) -> tuple[int, tuple[tuple[float, int], ...]]:
    """Up at once; down only to the largest number needed within `seconds`. Also returns the new history."""
    # Falling numbers only: an entry that this one reaches can never be the maximum again.
    kept = tuple(entry for entry in needs if entry[1] > needed and entry[0] > now - seconds)
    largest = kept[0][1] if kept else needed
    return max(needed, min(current, largest)), (*kept, (now, needed))


def step(
    spec: PoolSpec, wanted: int, current: int, moves: Moves, now: float
) -> tuple[int, str | None, Moves]:
    """`wanted`, or as far towards it as the limits of steps allow; then also the constraint's name.

    Worked number: 4 workers, 9 wanted, at most 3 in 10 s, 1 of them added 5 s ago: 6, scale-up-limit.
    """
    replicas, binding = wanted, None
    if wanted > current and spec.scale_up is not None:
        replicas = min(wanted, current + _left(spec.scale_up, moves, now, sign=1))
        binding = "scale-up-limit" if replicas < wanted else None
    if wanted < current and spec.scale_down is not None:
        replicas = max(wanted, current - _left(spec.scale_down, moves, now, sign=-1))
        binding = "scale-down-limit" if replicas > wanted else None
    longest = max((limit.period_seconds for limit in (spec.scale_up, spec.scale_down) if limit), default=0.0)
    kept = tuple(move for move in moves if move[0] > now - longest)
    return replicas, binding, (*kept, (now, replicas - current)) if replicas != current else kept


def _left(limit: StepLimit, moves: Moves, now: float, *, sign: int) -> int:
    """How many more may move in this direction now."""
    since = now - limit.period_seconds
    moved = sum(abs(by) for at, by in moves if at > since and by * sign > 0)
    return max(0, limit.pods - moved)
