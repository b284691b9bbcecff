"""The conditions of a pool. Ready carries the word that `kubectl get wp` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from peakclip.messages import PoolStatus
from peakclip_operator.plan import Decision
from peakclip_operator.resource.duration import written
from peakclip_operator.resource.model import WorkerPoolSpec
from peakclip_operator.resource.sharing import Sharing, Word, shared_word
from peakclip_operator.resource.status_model import Condition
from peakclip_operator.resource.trouble import Trouble, explain
from peakclip_operator.resource.wish import PAUSED, PAUSED_REPLICAS, PAUSED_SCALE_DOWN, Pauses

_LONGEST_MESSAGE: Final = 1024
_NOT_YET: Final = "The operator has not looked at the pool yet."

_READY_SENTENCES: Final = {
    "CatchingUp": "A backlog is drained at up to {limit}/s.",
    "KeepingUp": "The workers keep up with what arrives.",
    "Idle": "Nothing waits and nothing arrives.",
    "Stabilizing": "The workers of the last burst are kept for a while, in case there is another.",
    "Ineffective": "The last workers that were added brought no throughput, so they were given back and none are added"
    " for a while: look at what the workers wait for, the database first.",
    "Excluded": "In this period the number of workers is left as it is; the rate is kept.",
    "AtMaximum": "{maximum} workers are the maximum, and {limit}/s needs more: raise spec.replicas.max, or lower"
    " spec.throughput.limitPerSecond.",
}
_BINDING_SENTENCES: Final = {
    "limit": "as many as {limit}/s needs",
    "demand": "as many as the arrivals and the backlog need",
    "keeping-up": "those who are there do all that comes, and how fast one works is a guess",
    "shortfall": "one more, since the drain falls short",
    "catch-up": "none is given back before the backlog is gone",
    "activation": "as many as begin at once where there were none",
    "trial": "more are needed, and those that were added last show first whether they bring throughput",
    "ineffective": "more are needed, and the last ones that were added brought no throughput",
    "ceiling": "more could only wait for each other's share of {limit}/s",
    "minimum": "spec.replicas.min",
    "maximum": "spec.replicas.max, and more are needed",
    "stabilization": "kept for spec.behavior.scaleDown.stabilization",
    "scale-up-limit": "more are needed, and spec.behavior.scaleUp lets them come step by step",
    "scale-down-limit": "fewer are needed, and spec.behavior.scaleDown lets them go step by step",
    "scale-down-paused": "fewer are needed, and {annotation} keeps them",
}
_STATES: Final[Mapping[bool | None, Literal["True", "False", "Unknown"]]] = {
    True: "True",
    False: "False",
    None: "Unknown",
}
_LIMITED: Final = (
    "maximum",
    "scale-up-limit",
    "scale-down-limit",
    "scale-down-paused",
    "trial",
    "ineffective",
)
_HELD: Final = {
    "unknown": "the lag is unknown",
    "paused": "the pool is paused",
    "excluded": "this is a period in which nobody is started or ended",
    "beginning": "the operator has just begun, and does not know yet what went before",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a pool at one moment. Only the leader makes a status of it."""

    namespace: str
    generation: int
    now: float
    """Epoch seconds."""
    spec: WorkerPoolSpec | None
    """None: it could not be read, and `invalid` says why."""
    invalid: str = ""
    pauses: Pauses = field(default_factory=Pauses)
    decision: Decision | None = None
    """None: there was no tick yet."""
    status: PoolStatus | None = None
    workers: int | None = None
    """Those that run; None while that is unknown."""
    sharing: Sharing | None = None
    """None: the pool shares its R with nobody."""
    failures: Mapping[str, BaseException] = field(default_factory=dict)
    """What failed at the last tick, by the name of the port: those of `ControlLoop.failures`."""


def conditions(facts: Facts, previous: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """Always the first four, and Shared for a pool that shares its R. A time moves only when the status does."""
    words = {
        "Ready": _ready(facts),
        "Scaling": _scaling(facts),
        "LagAvailable": _lag_available(facts),
        "Paused": _paused(facts),
    }
    if facts.sharing is not None:
        words["Shared"] = shared_word(facts.sharing)
    before = {one.get("type"): one for one in previous}
    return [_condition(kind, word, before.get(kind, {}), facts) for kind, word in words.items()]


def _condition(kind: Any, word: Word, before: Mapping[str, Any], facts: Facts) -> Condition:
    status = _STATES[word.status]
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return Condition(
        type=kind,
        status=status,
        reason=word.reason,
        message=word.message[:_LONGEST_MESSAGE],
        last_transition_time=since or datetime.fromtimestamp(facts.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        observed_generation=facts.generation,
    )


def troubles(facts: Facts) -> list[Trouble]:
    """The failures that keep the operator from its work, the gravest first."""
    if facts.spec is None:
        return [Trouble("InvalidSpec", f"{facts.invalid} The workers and the rate are left as they are.")]
    ports: tuple[str, ...] = ("loop", "scaler", "lag")
    if facts.spec.mode != "Advise":
        ports = ("loop", "scaler", "scale", "lag", "pace", "set_pace")
    found = [
        (port, explain(port, facts.failures[port], facts.spec, facts.namespace))
        for port in ports
        if port in facts.failures
    ]
    return [replace(one, message=f"{one.message}{_meanwhile(port, facts)}") for port, one in found]


def _meanwhile(port: str, facts: Facts) -> str:
    if port in ("pace", "set_pace"):
        return " The rate in force stays."
    return "" if port == "lag" and _falls_back(facts) else " The number of workers is held."


def _ready(facts: Facts) -> Word:
    for trouble in troubles(facts):
        return Word(False, trouble.reason, trouble.message)
    spec, decision = facts.spec, facts.decision
    if spec is None or decision is None:
        return Word(None, "Starting", _NOT_YET)
    if _is_paused(facts):
        return Word(True, "Paused", _paused(facts).message)
    if decision.reason in ("LagUnknown", "WorkersUnknown"):
        return Word(None, decision.reason, "The operator has not got an answer yet; it goes on asking.")
    if spec.mode == "Advise":
        return Word(True, "Advising", f"Nothing is touched. {_advice(facts, decision)}")
    sentence = _READY_SENTENCES.get(decision.reason, decision.reason)
    return Word(True, decision.reason, _filled(sentence, facts) + _suffering(decision))


def _suffering(decision: Decision) -> str:
    if decision.rate_reason != "database":
        return ""
    return f" The database suffers, so {decision.rate:.3g}/s are in force until it is well."


def _scaling(facts: Facts) -> Word:
    spec, decision = facts.spec, facts.decision
    if spec is None:
        return Word(False, "Held", "The spec is invalid, so nothing is scaled.")
    if decision is None:
        return Word(None, "Starting", _NOT_YET)
    if spec.mode == "Advise":
        return Word(False, "Held", f"spec.mode is Advise. {_advice(facts, decision)}")
    if decision.replicas is None or "scaler" in facts.failures:
        return Word(False, "Held", "The present number of workers is not known, so nothing is scaled.")
    if _falls_back(facts):
        after = written(spec.fallback.after)
        text = f"{_count(decision.replicas)}: spec.fallback, since the lag is unknown for more than {after}."
        return Word(True, "Active", text)
    if (cause := _HELD.get(decision.binding_constraint)) is not None:
        return Word(False, "Held", f"{_count(decision.replicas)}, held since {cause}.")
    why = _BINDING_SENTENCES.get(decision.binding_constraint, decision.binding_constraint)
    reason = "Limited" if decision.binding_constraint in _LIMITED else "Active"
    running = facts.workers if facts.workers is not None and facts.workers < decision.replicas else None
    yet = "" if running is None else f", {running} of them running"
    return Word(True, reason, f"{_count(decision.replicas)}{yet}: {_filled(why, facts)}.")


def _lag_available(facts: Facts) -> Word:
    if facts.spec is None:
        return Word(None, "InvalidSpec", "The spec is invalid, so the lag is not read.")
    source = facts.spec.source
    if "lag" in facts.failures:
        trouble = explain("lag", facts.failures["lag"], facts.spec, facts.namespace)
        return Word(False, trouble.reason, trouble.message)
    if facts.status is None or facts.status.lag_ready is None:
        return Word(None, "Starting", "The lag has not been read yet.")
    return Word(True, "Available", f"Read from the consumer {source.consumer} of the stream {source.stream}.")


def _paused(facts: Facts) -> Word:
    """What stops the work first: it matters most."""
    pauses, words = facts.pauses, []
    if facts.spec is not None and facts.spec.paused:
        words.append(("WorkPaused", "No message is started until spec.paused is false."))
    elif facts.status is not None and facts.status.paused:
        words.append(("WorkPaused", "No message is started until `peakclip pace resume`."))
    if pauses.replicas is not None:
        text = f"{_count(pauses.replicas)} are kept until the annotation {PAUSED_REPLICAS} is removed."
        words.append(("ReplicasPaused", text))
    elif pauses.scaling:
        words.append(("ScalingPaused", f"Nothing is scaled until the annotation {PAUSED} is removed."))
    if pauses.scale_down:
        text = f"No worker is given back until the annotation {PAUSED_SCALE_DOWN} is removed."
        words.append(("ScaleDownPaused", text))
    if not words:
        return Word(False, "NotPaused", "Neither the work nor the scaling is paused.")
    sentences = [sentence for _, sentence in words] + ([pauses.complaint] if pauses.complaint else [])
    return Word(True, words[0][0], " ".join(sentences))


def _is_paused(facts: Facts) -> bool:
    """Fully: a pool that may still scale up has something better to say."""
    work = facts.spec is not None and (
        facts.spec.paused or (facts.status is not None and facts.status.paused)
    )
    return work or facts.pauses.scaling or facts.pauses.replicas is not None


def _falls_back(facts: Facts) -> bool:
    return facts.decision is not None and facts.decision.binding_constraint == "fallback"


def _advice(facts: Facts, decision: Decision) -> str:
    if decision.replicas is None:
        return "The present number of workers is not known, so there is no advice."
    return f"The advice is {_count(decision.replicas)} ({decision.reason})."


def _filled(sentence: str, facts: Facts) -> str:
    spec = facts.spec
    return sentence.format(
        limit=f"{spec.throughput.limit_per_second:g}" if spec else "",
        maximum=spec.replicas.max if spec else "",
        annotation=PAUSED_SCALE_DOWN,
    )


def _count(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"
