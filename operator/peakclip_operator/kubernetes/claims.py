"""Who looks after what: two WorkerPools for one consumer or one workload would undo each other's work for ever."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from peakclip_operator.kubernetes.pools import Resource
from peakclip_operator.resource.model import WorkerPoolSpec


@dataclass(slots=True)
class Claims:
    """By what is claimed: the resources that do, with their age. The oldest one has it."""

    _claims: dict[Hashable, dict[str, tuple[str, str]]] = field(default_factory=dict)

    def rival(self, resource: Resource, spec: WorkerPoolSpec) -> str | None:
        """Claims what the resource names, and nothing else for it; returns who has some of that already."""
        self.release(resource.uid)
        mine = (resource.created, resource.key)
        wanted: Iterable[Hashable] = (
            (
                "pool",
                spec.source.consumer,
            ),  # whatever the stream: rate and telemetry go by the consumer's name
            ("workload", resource.namespace, spec.workload.kind, spec.workload.name),
        )
        older = []
        for one in wanted:
            claims = self._claims.setdefault(one, {})
            claims[resource.uid] = mine
            older += [other for other in claims.values() if other < mine]
        return min(older)[1] if older else None

    def release(self, uid: str) -> None:
        for one, claims in list(self._claims.items()):
            claims.pop(uid, None)
            if not claims:
                del self._claims[one]
