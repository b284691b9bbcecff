"""What can be wrong with what a pool needs, each with one word and a sentence that says what to do.

The edges raise the errors of this module where they know more than the library's errors say; `explain` finds
the words for any error of a port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peakclip import errors
from peakclip.errors import OutcomeUnknownError, PeakclipError, RefusedError, UnavailableError
from peakclip_operator.resource.model import WorkerPoolSpec

_STREAM_NOT_FOUND: Final = 10059  # err_code of JetStream
_CONSUMER_NOT_FOUND: Final = 10014


class WorkloadMissingError(PeakclipError):
    """The workload does not exist."""


class ForbiddenError(PeakclipError):
    """Kubernetes forbids it."""

    def __init__(self, verb: str, resource: str) -> None:
        super().__init__(f"Kubernetes does not allow the operator to {verb} {resource}.")
        self.verb = verb  # get, patch, …
        self.resource = resource  # deployments/scale, …


class KubernetesUnavailableError(PeakclipError):
    """The API server does not answer."""


class ConflictError(PeakclipError):
    """Another WorkerPool has the consumer or the workload."""

    def __init__(self, other: str) -> None:
        super().__init__(
            f"The WorkerPool {other} is older and has a consumer of the same name or the same workload."
        )


@dataclass(frozen=True, slots=True)
class Trouble:
    reason: str
    message: str


def explain(port: str, error: BaseException, spec: WorkerPoolSpec, namespace: str) -> Trouble:
    """Words for the failure of a port: `scaler` and `scale` speak to Kubernetes, all others to NATS."""
    if isinstance(error, ConflictError):
        return Trouble(
            "Conflict", f"{error} Nothing is done here: delete one of the two, or correct its spec."
        )
    if port == "loop":  # the operator itself
        return Trouble("Failing", f"The operator failed at this pool, and tries again: {_clause(error)}.")
    stream, consumer = spec.source.stream, spec.source.consumer
    if isinstance(error, WorkloadMissingError):
        kind, name = spec.workload.kind, spec.workload.name
        return Trouble(
            "WorkloadMissing",
            f"The {kind} {name} does not exist in the namespace {namespace}: create it or correct"
            " spec.workload.name.",
        )
    if isinstance(error, ForbiddenError):
        return Trouble(
            "Forbidden",
            f"Kubernetes does not allow the operator to {error.verb} {error.resource} in the namespace {namespace}:"
            " give its ServiceAccount this verb in a Role there.",
        )
    if isinstance(error, errors.ForbiddenError):
        return Trouble(
            "NatsRefused",
            f"NATS refuses the operator: {_clause(error)}. Check its Secret, the permissions of its user, and"
            " that spec.source names what there is.",
        )
    if isinstance(error, RefusedError) and error.code == _STREAM_NOT_FOUND:
        return Trouble(
            "StreamMissing",
            f"The stream {stream} does not exist: create it (`peakclip migrate` makes those of Peakclip) or correct"
            " spec.source.stream.",
        )
    if isinstance(error, RefusedError) and error.code == _CONSUMER_NOT_FOUND:
        return Trouble(
            "ConsumerMissing",
            f"The stream {stream} has no consumer {consumer}: create it (`peakclip migrate` makes those of Peakclip)"
            " or correct spec.source.consumer.",
        )
    return _outage(port, error)


def _outage(port: str, error: BaseException) -> Trouble:
    silent = isinstance(error, (UnavailableError, OutcomeUnknownError, TimeoutError, OSError))
    if isinstance(error, KubernetesUnavailableError) or (silent and port in ("scaler", "scale")):
        return Trouble(
            "KubernetesUnavailable", "The API server does not answer the operator; it goes on asking."
        )
    if silent:
        return Trouble(
            "NatsUnavailable",
            "NATS does not answer the operator; it goes on asking. Check that NATS runs, and whether a"
            " NetworkPolicy or a missing permission is in the way.",
        )
    return Trouble("Failing", f"The operator cannot use its port {port}: {_clause(error)}.")


def _clause(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")[:300]
