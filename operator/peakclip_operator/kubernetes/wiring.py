"""The ports of one pool: pods through the API server, the rest through NATS as on one machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

from peakclip import topology
from peakclip.errors import UnavailableError
from peakclip.jetstream import JetStream
from peakclip_operator.foreign import ForeignConsumer, ForeignLag, ForeignPace, ForeignTelemetry
from peakclip_operator.kubernetes.api import KubernetesApi
from peakclip_operator.kubernetes.scaler import WorkloadScaler
from peakclip_operator.lag import JetStreamDelayed, JetStreamLag, JetStreamScheduled
from peakclip_operator.memory import NatsMemory
from peakclip_operator.ports import Ports
from peakclip_operator.resource.model import WorkerPoolSpec
from peakclip_operator.resource.wish import burst_of, group_of
from peakclip_operator.resource_pace import ResourcePace, WantedPace
from peakclip_operator.status import NatsStatus
from peakclip_operator.telemetry_source import NatsTelemetry


class Away:
    """NATS before it has answered for the first time, at every port."""

    async def _away(self, *_: object) -> NoReturn:
        raise UnavailableError("NATS has not answered since the operator started.")

    read = publish = set_effective = _away


@dataclass(slots=True)
class Wired:
    pool: str
    ports: Ports
    wanted: WantedPace
    heard: NatsTelemetry | None = None

    @property
    def speaks_to_nats(self) -> bool:
        """False: it was made while NATS was away."""
        return self.heard is not None

    def wants(self, spec: WorkerPoolSpec, namespace: str) -> None:
        self.wanted = wanted_pace(spec, namespace)

    async def close(self) -> None:
        if self.heard is not None:
            await self.heard.close()


async def wire(api: KubernetesApi, js: JetStream | None, namespace: str, spec: WorkerPoolSpec) -> Wired:
    """`js` is None while NATS is away, or goes away in this moment: then make it again."""
    scaler = WorkloadScaler(api, namespace, spec.workload.kind, spec.workload.name)
    pool, wanted = spec.source.consumer, wanted_pace(spec, namespace)
    away = Away()
    wired = Wired(pool, Ports(away, away, away, scaler, away, away, away), wanted)
    if js is None:
        return wired
    heard = NatsTelemetry(js, pool)
    try:
        await heard.listen()
    except UnavailableError:
        return wired
    wired.heard = heard

    def wishes() -> WantedPace:
        """One that has just lost the lease, and does not know it yet, says nothing to the workers either."""
        return replace(wired.wanted, enforced=wired.wanted.enforced and api.may_write())

    pace = ResourcePace(js, pool, wishes)
    workload = f"{spec.workload.kind} {namespace}/{spec.workload.name}"
    wired.ports = Ports(
        lag=JetStreamLag(js, spec.source.stream, pool),
        delayed=JetStreamDelayed(js, pool),
        telemetry=heard,
        scaler=scaler,
        pace=pace,
        pace_sink=pace,
        status=NatsStatus(js),
        scheduled=JetStreamScheduled(js) if spec.source.stream == topology.EXPIRY else None,
        memory=NatsMemory(js, pool, f"{spec.source.stream}/{pool} by {workload}", may_write=api.may_write),
    )
    if not is_peakclips(spec):
        consumer = ForeignConsumer(js, spec.source.stream, pool)
        foreign_pace = ForeignPace(consumer, pace, wishes)
        wired.ports = replace(
            wired.ports,
            lag=ForeignLag(consumer),
            telemetry=ForeignTelemetry(consumer, heard, lambda: scaler.last),
            pace=foreign_pace,
            pace_sink=foreign_pace,
        )
    return wired


def is_peakclips(spec: WorkerPoolSpec) -> bool:
    """Whose consumer gets every message of its stream, and whose workers take tickets."""
    known = topology.POOLS.get(spec.source.consumer)
    return known is not None and known.stream == spec.source.stream


def wanted_pace(spec: WorkerPoolSpec, namespace: str) -> WantedPace:
    return WantedPace(
        limit_per_second=spec.throughput.limit_per_second,
        burst=burst_of(spec),
        paused=spec.paused,
        enforced=spec.mode == "Enforce",
        group=group_of(spec, namespace),
    )
