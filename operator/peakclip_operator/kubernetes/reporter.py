"""What a resource is told: status and Events. Provisional."""

from __future__ import annotations

import structlog

from peakclip.errors import PeakclipError
from peakclip_operator.kubernetes.api import KubernetesApi
from peakclip_operator.kubernetes.pools import Resource
from peakclip_operator.kubernetes.status_writer import StatusWriter
from peakclip_operator.loop import ControlLoop
from peakclip_operator.resource.model import WorkerPoolSpec

log = structlog.get_logger()


class Reporter:
    def __init__(self, api: KubernetesApi, resource: Resource, instance: str) -> None:
        self._status = StatusWriter(api, resource.namespace, resource.name)

    @property
    def gone(self) -> bool:
        return self._status.gone

    async def _write(self, status) -> None:
        try:
            await self._status.write(status)
        except PeakclipError as exc:
            log.warning("status_not_written", error=str(exc))

    async def failed(self, resource: Resource, exc: Exception) -> None:
        await self._write({"decision": {"reason": "Failed"}})

    async def invalid(self, resource: Resource, sentence: str) -> None:
        await self._write({"decision": {"reason": "Invalid"}})

    async def ticked(self, resource: Resource, spec: WorkerPoolSpec, loop: ControlLoop) -> None:
        s = loop.status
        await self._write(
            {
                "decision": {"reason": s.reason},
                "replicas": {"current": s.workers_current, "desired": s.workers_desired},
                "lag": {"ready": s.lag_ready},
            }
        )
