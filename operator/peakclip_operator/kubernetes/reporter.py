"""What a resource is told: its status and its Events, made of one tick's facts by the pure modules."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from peakclip.errors import PeakclipError
from peakclip_operator.kubernetes.api import KubernetesApi
from peakclip_operator.kubernetes.events import EventWriter
from peakclip_operator.kubernetes.pools import Resource
from peakclip_operator.kubernetes.status_writer import StatusWriter
from peakclip_operator.loop import ControlLoop
from peakclip_operator.resource.conditions import Facts
from peakclip_operator.resource.events import EventMemory, events
from peakclip_operator.resource.model import API_VERSION, KIND, WorkerPoolSpec
from peakclip_operator.resource.sharing import Sharing
from peakclip_operator.resource.status import build_status
from peakclip_operator.resource.wish import read_pauses

log = structlog.get_logger()


class Reporter:
    def __init__(
        self,
        api: KubernetesApi,
        resource: Resource,
        instance: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer = StatusWriter(api, resource.namespace, resource.name)
        involved = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": resource.name,
            "namespace": resource.namespace,
            "uid": resource.uid,
        }
        self._events = EventWriter(api, involved, instance)
        self._memory = EventMemory()
        self._clock = clock
        self._last: dict[str, Any] = {"conditions": resource.conditions}
        self._trouble: str | None = None

    @property
    def gone(self) -> bool:
        """The API server does not know the resource any more."""
        return self._writer.gone

    async def invalid(self, resource: Resource, sentence: str) -> None:
        facts = Facts(resource.namespace, resource.generation, self._clock(), spec=None, invalid=sentence)
        await self._tell(facts, at_once=True)

    async def failed(self, resource: Resource, spec: WorkerPoolSpec | None, exc: Exception) -> None:
        """The loop itself broke."""
        facts = Facts(
            resource.namespace, resource.generation, self._clock(), spec=spec, failures={"loop": exc}
        )
        await self._tell(facts, at_once=True)

    async def ticked(
        self,
        resource: Resource,
        spec: WorkerPoolSpec,
        loop: ControlLoop,
        sharing: Sharing | None = None,
    ) -> None:
        facts = Facts(
            namespace=resource.namespace,
            generation=resource.generation,
            now=self._clock(),
            spec=spec,
            pauses=read_pauses(resource.annotations, spec),
            decision=loop.decision,
            status=loop.status,
            workers=loop.workers.running if loop.workers else None,
            sharing=sharing,
            failures=loop.failures,
        )
        await self._tell(facts)

    async def _tell(self, facts: Facts, *, at_once: bool = False) -> None:
        """The times of the conditions go on from what was made last, written or not. `at_once` for what is not made
        again by the next tick: left for later, it would wait for a minute."""
        status = build_status(facts, self._last)
        self._last = status
        told, self._memory = events(facts, status, self._memory)
        try:
            await self._writer.write(status, at_once=at_once)
            self._trouble = None
        except PeakclipError as exc:
            if self._trouble != type(exc).__name__:  # one line for an outage, not one for each second of it
                log.warning(
                    "status_not_written", namespace=facts.namespace, name=self._writer.name, error=str(exc)
                )
            self._trouble = type(exc).__name__
        for event in told:
            key = f"{event.type}/{event.reason}/{event.message}"
            await self._events.write(
                key, warning=event.type == "Warning", reason=event.reason, message=event.message
            )
