"""PURE. What the pods of a workload tell: how many work, and which should go first when fewer are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from peakclip_operator.ports import Workers, WorkerSample

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_GOES_FIRST: Final = "-1"  # below the 0 of all that have no such annotation


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    phase: str = ""
    conditions: list[_Condition] = []


class _Metadata(msgspec.Struct):
    name: str
    deletionTimestamp: str | None = None  # noqa: N815 - as the API server writes it
    annotations: dict[str, str] = {}


class _Item(msgspec.Struct):
    metadata: _Metadata
    status: _Status


class _PodList(msgspec.Struct):
    items: list[_Item]


_decoder = msgspec.json.Decoder(_PodList)


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    ready: bool
    terminating: bool
    goes_first: bool


def read_pods(body: bytes) -> list[Pod]:
    """Those that have not ended. Raises msgspec.MsgspecError for anything that is no list of pods."""
    return [
        Pod(
            name=item.metadata.name,
            ready=any(one.type == "Ready" and one.status == "True" for one in item.status.conditions),
            terminating=item.metadata.deletionTimestamp is not None,
            goes_first=item.metadata.annotations.get(DELETION_COST) == _GOES_FIRST,
        )
        for item in _decoder.decode(body).items
        if item.status.phase not in ("Succeeded", "Failed")
    ]


def count(pods: Sequence[Pod], asked: int) -> Workers:
    """`asked` is the number that stands in the workload; what of it is not ready yet is starting.

    More than that are ready while a rollout goes on, or just after fewer were asked for. They are on their way out:
    an operator that began in the middle of a rollout would take them for wanted, and ask for them again.
    """
    ready = sum(pod.ready and not pod.terminating for pod in pods)
    running = min(ready, asked)
    return Workers(
        running=running,
        starting=asked - running,
        draining=sum(pod.terminating for pod in pods) + ready - running,
    )


def marks(pods: Iterable[Pod], idle_first: Sequence[WorkerSample], fewer: int) -> Mapping[str, str | None]:
    """The annotation by name of the pod, where it has to change: `fewer` go first, the others as they come.

    Pods that are not ready go first anyway. None takes an annotation away: a pod that was to go and is still there
    would otherwise be the first one the next time, whatever it does then.
    """
    staying = [pod for pod in pods if not pod.terminating]
    ready = {pod.name for pod in staying if pod.ready}
    order = dict.fromkeys(name for sample in idle_first if (name := pod_of(sample.worker)) in ready)
    others_first = max(0, fewer - (len(staying) - len(ready)))
    first = set(list(order)[:others_first])
    return {
        pod.name: _GOES_FIRST if pod.name in first else None
        for pod in staying
        if pod.goes_first != (pod.name in first)
    }


def pod_of(worker: str) -> str:
    """Workers in pods are called `<pod>-<pid>`."""
    return worker.rpartition("-")[0]
