"""The ports of one pool: pods through the API server, the rest through NATS as on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from peakclip.errors import UnavailableError
from peakclip.jetstream import JetStream
from peakclip_operator.kubernetes.api import KubernetesApi
from peakclip_operator.kubernetes.pace import ResourcePace, WantedPace
from peakclip_operator.kubernetes.scaler import WorkloadScaler
from peakclip_operator.lag import JetStreamDelayed, JetStreamLag
from peakclip_operator.ports import Ports
from peakclip_operator.resource.model import WorkerPoolSpec
from peakclip_operator.resource.wish import burst_of
from peakclip_operator.status import NatsStatus
from peakclip_operator.telemetry_source import NatsTelemetry


class Away:
    """NATS before it has answered for the first time, at every port."""

    async def _away(self, *_: object) -> NoReturn:
        raise UnavailableError("NATS has not answered since the operator started.")

    read = publish = set_effective = _away


@dataclass(slots=True)
class Wired:
    ports: Ports
    wanted: WantedPace
    heard: NatsTelemetry | None = None

    def wants(self, spec: WorkerPoolSpec) -> None:
        self.wanted = wanted_pace(spec)

    async def close(self) -> None:
        if self.heard is not None:
            await self.heard.close()


async def wire(api: KubernetesApi, js: JetStream | None, namespace: str, spec: WorkerPoolSpec) -> Wired:
    """Raises PeakclipError when NATS goes away in this moment."""
    scaler = WorkloadScaler(api, namespace, spec.workload.kind, spec.workload.name)
    wanted = wanted_pace(spec)
    if js is None:
        away = Away()
        return Wired(Ports(away, away, away, scaler, away, away, away), wanted)
    pool = spec.source.consumer
    heard = NatsTelemetry(js, pool)
    await heard.listen()
    wired: Wired
    pace = ResourcePace(js, pool, lambda: wired.wanted)
    wired = Wired(
        Ports(
            lag=JetStreamLag(js, spec.source.stream, pool),
            delayed=JetStreamDelayed(js, pool),
            telemetry=heard,
            scaler=scaler,
            pace=pace,
            pace_sink=pace,
            status=NatsStatus(js),
        ),
        wanted,
        heard,
    )
    return wired


def wanted_pace(spec: WorkerPoolSpec) -> WantedPace:
    return WantedPace(
        limit_per_second=spec.throughput.limit_per_second,
        burst=burst_of(spec),
        paused=spec.paused,
        enforced=spec.mode == "Enforce",
    )
