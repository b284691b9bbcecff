"""Which Events a change is worth: told once, and not again for a while. Pure: the memory is passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from peakclip_operator.plan import Decision
from peakclip_operator.resource.conditions import Facts

_SCALED_SECONDS: Final = 5.0  # a way up in many steps is told as a few
_REPEAT_SECONDS: Final = 600.0  # the same trouble, coming and going


@dataclass(frozen=True, slots=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class EventMemory:
    """What was told. An operator that starts anew tells of the trouble that it finds, and else only of changes."""

    replicas: int | None = None
    limit: float | None = None
    rate_reason: str = ""
    ready: str = ""
    """Status and reason of the condition Ready."""
    paused: str = ""
    told: Mapping[str, float] = field(default_factory=dict)
    """When which text was last told, by its key."""


def events(facts: Facts, status: Mapping[str, Any], memory: EventMemory) -> tuple[list[Event], EventMemory]:
    """`status` is what `build_status` made of the facts."""
    words = {one["type"]: one for one in status["conditions"]}
    memory = replace(memory, told=_recent(memory.told, facts.now))
    found: list[Event] = []
    for step in (_scaled, _limit, _rate):
        event, memory = step(facts, memory)
        found += [event] if event else []
    for name in ("Ready", "Paused"):
        event, memory = _condition(name, words[name], memory, facts.now)
        found += [event] if event else []
    return found, memory


def _scaled(facts: Facts, memory: EventMemory) -> tuple[Event | None, EventMemory]:
    decision, before = facts.decision, memory.replicas
    if decision is None or decision.replicas is None or decision.replicas == before:
        return None, memory
    inputs = decision.inputs
    if before is None:
        observed = inputs.get("observed_workers")
        before = decision.replicas if observed is None else int(observed)
    if before == decision.replicas:
        return None, replace(memory, replicas=before)
    advises = facts.spec is not None and facts.spec.mode == "Advise"
    key = "Advised" if advises else "Scaled"
    if facts.now - memory.told.get(key, 0.0) < _SCALED_SECONDS:
        return None, replace(memory, replicas=before)  # told later, from the number last told of
    would = "Would go " if advises else ""
    text = f"{would}{before} -> {decision.replicas} workers: {_why(decision)}"
    return Event("Normal", key, text), replace(_told(memory, key, facts.now), replicas=decision.replicas)


def _why(decision: Decision) -> str:
    """`12,300 waiting, 180/s in, 40/s per worker, limit 100/s`"""
    inputs = decision.inputs
    ready, in_flight = inputs.get("lag_ready"), inputs.get("lag_in_flight")
    parts = []
    if ready is None or in_flight is None:
        parts.append("lag unknown")
    else:
        parts.append(f"{int(ready + in_flight):,} waiting")
    arrival, worker = inputs.get("arrival_per_second"), inputs.get("per_worker_per_second")
    if arrival is not None:
        parts.append(f"{_short(arrival)}/s in")
    if worker is not None:
        guess = " (a guess)" if inputs.get("per_worker_is_prior") else ""
        parts.append(f"{_short(worker)}/s per worker{guess}")
    parts.append(f"limit {_short(decision.rate)}/s")
    return ", ".join(parts) + f" ({decision.reason}, by {decision.binding_constraint})"


def _limit(facts: Facts, memory: EventMemory) -> tuple[Event | None, EventMemory]:
    if facts.spec is None:
        return None, memory
    limit, before = facts.spec.throughput.limit_per_second, memory.limit
    memory = replace(memory, limit=limit)
    if before is None or before == limit:
        return None, memory
    return Event("Normal", "LimitChanged", f"{before:g}/s -> {limit:g}/s, all workers together."), memory


def _rate(facts: Facts, memory: EventMemory) -> tuple[Event | None, EventMemory]:
    """That the database suffers, and that it is well again; not each step in between."""
    decision, before = facts.decision, memory.rate_reason
    if decision is None or not decision.valid:
        return None, memory
    memory = replace(memory, rate_reason=decision.rate_reason)
    limit = decision.inputs.get("limit_per_second")
    if (decision.rate_reason == "database") == (before == "database") or limit is None:
        return None, memory
    if before == "database":
        return Event(
            "Normal", "RateRestored", f"The database is well again: {_short(decision.rate)}/s."
        ), memory
    if facts.now - memory.told.get("RateLowered", -_REPEAT_SECONDS) < _REPEAT_SECONDS:
        return None, memory
    text = f"The database suffers: {_short(decision.rate)}/s of {_short(limit)}/s until it is well."
    return Event("Warning", "RateLowered", text), _told(memory, "RateLowered", facts.now)


def _condition(
    name: str, word: Mapping[str, Any], memory: EventMemory, now: float
) -> tuple[Event | None, EventMemory]:
    """Trouble, its end, and a pause; not the everyday words of a pool that works."""
    state = f"{word['status']}/{word['reason']}"
    before = memory.ready if name == "Ready" else memory.paused
    memory = replace(memory, ready=state) if name == "Ready" else replace(memory, paused=state)
    if state == before:
        return None, memory
    event = _ready(word, before) if name == "Ready" else _paused(word, before)
    if event is None:
        return None, memory
    key = f"{event.reason}: {event.message}"
    if event.type == "Warning" and now - memory.told.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
        return None, memory
    return event, _told(memory, key, now)


def _ready(word: Mapping[str, Any], before: str) -> Event | None:
    if word["status"] == "False" or word["reason"] in ("AtMaximum", "Ineffective"):
        return Event("Warning", word["reason"], word["message"])
    if word["status"] == "True" and before.startswith("False/"):
        return Event("Normal", "Recovered", f"No longer {before.removeprefix('False/')}. {word['message']}")
    return None


def _paused(word: Mapping[str, Any], before: str) -> Event | None:
    if not before:
        return None
    if word["status"] == "True":
        return Event("Normal", "Paused", word["message"])
    return Event("Normal", "Resumed", word["message"]) if before.startswith("True/") else None


def _told(memory: EventMemory, key: str, now: float) -> EventMemory:
    return replace(memory, told={**memory.told, key: now})


def _recent(told: Mapping[str, float], now: float) -> dict[str, float]:
    """None that lies ahead: the clock was set back, and would keep them for as long."""
    return {key: at for key, at in told.items() if 0 <= now - at < _REPEAT_SECONDS}


def _short(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.10g}"
