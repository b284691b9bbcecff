"""One WorkerPool: the control loop with Kubernetes behind its ports, and what the resource is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from peakclip_operator import report
from peakclip_operator.kubernetes.api import PORT_SECONDS, KubernetesApi
from peakclip_operator.kubernetes.claims import Claims
from peakclip_operator.kubernetes.link import NatsLink
from peakclip_operator.kubernetes.pools import Resource
from peakclip_operator.kubernetes.reporter import Reporter
from peakclip_operator.kubernetes.wiring import Wired, wire
from peakclip_operator.lanes import SharedRates, demand_of, member_of
from peakclip_operator.loop import ControlLoop
from peakclip_operator.resource.model import InvalidSpecError, WorkerPoolSpec, read_spec
from peakclip_operator.resource.trouble import ConflictError
from peakclip_operator.resource.wish import to_pool_spec

log = structlog.get_logger()

_SHORTEST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pools share."""

    api: KubernetesApi
    link: NatsLink
    instance: str
    tick_seconds: float
    claims: Claims = field(default_factory=Claims)
    shared: SharedRates = field(default_factory=SharedRates)


class PoolRunner:
    def __init__(self, around: Surroundings, resource: Resource) -> None:
        self._around = around
        self._resource = resource
        self._changed = asyncio.Event()
        self._reporter = Reporter(around.api, resource, around.instance)
        self._wired: Wired | None = None
        self._key: tuple[Any, ...] | None = None
        self._loop: ControlLoop | None = None
        self._spec: WorkerPoolSpec | None = None

    def update(self, resource: Resource) -> None:
        if (resource.generation, resource.annotations) != (
            self._resource.generation,
            self._resource.annotations,
        ):
            self._changed.set()
        self._resource = resource

    async def run(self) -> None:
        """What this pool does not expect ends neither the process nor the other pools."""
        pause = _SHORTEST_PAUSE_SECONDS
        try:
            self._claim()
            await asyncio.sleep(0)  # all of a list have claimed before the first of them acts
            while not self._reporter.gone:
                started = asyncio.get_running_loop().time()
                try:
                    await self._look_after()
                except Exception as exc:
                    log.exception("worker_pool_failed", resource=self._resource.key)
                    self._told(report.unknown)
                    await self._reporter.failed(self._resource, self._spec, exc)
                await self._unwire()
                lasted = asyncio.get_running_loop().time() - started
                pause = _SHORTEST_PAUSE_SECONDS if lasted > _LONGEST_PAUSE_SECONDS else pause
                await self._until_changed(pause)
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        finally:
            self._told(report.forget)
            self._around.claims.release(self._resource.uid)
            self._around.shared.leave(self._resource.uid)
            await self._unwire()

    def _claim(self) -> None:
        with contextlib.suppress(InvalidSpecError):
            self._around.claims.rival(self._resource, read_spec(self._resource.spec))

    def _told(self, tell: Callable[[str], None]) -> None:
        """Tells the gauges, if there are any of this pool yet."""
        if self._spec is not None:
            tell(self._spec.source.consumer)

    async def _look_after(self) -> None:
        """Until the resource is gone."""
        clock = asyncio.get_running_loop().time
        while not self._reporter.gone:
            next_tick = clock() + self._around.tick_seconds
            self._changed.clear()
            resource = self._resource
            try:
                spec = read_spec(resource.spec)
            except InvalidSpecError as exc:
                self._told(report.unknown)
                await self._reporter.invalid(resource, str(exc))
                await self._until_changed(_LONGEST_PAUSE_SECONDS)
                continue
            if self._spec is not None and self._spec.source.consumer != spec.source.consumer:
                self._told(report.forget)
            self._spec = spec
            if (rival := self._around.claims.rival(resource, spec)) is not None:
                await self._stand_back(resource, spec, rival)
                continue
            loop = await self._loop_for(spec, resource)
            self._around.shared.join(
                resource.uid, member_of(spec, resource.namespace), functools.partial(demand_of, loop)
            )
            await loop.tick()
            await self._reporter.ticked(resource, spec, loop, self._around.shared.facts(resource.uid))
            await self._until_changed(next_tick - clock())

    async def _stand_back(self, resource: Resource, spec: WorkerPoolSpec, rival: str) -> None:
        """The gauges of the consumer are the other one's, too."""
        self._around.shared.leave(resource.uid)
        await self._unwire()
        await self._reporter.failed(resource, spec, ConflictError(rival))
        await self._until_changed(_SHORTEST_PAUSE_SECONDS)

    async def _loop_for(self, spec: WorkerPoolSpec, resource: Resource) -> ControlLoop:
        """The same one, with its memory, as long as it is the same work by the same workers."""
        wish = to_pool_spec(spec, resource.annotations)
        key = (spec.workload, spec.source)
        js = self._around.link.connected()
        known = self._wired is not None and (self._wired.speaks_to_nats or js is None)
        if self._loop is None or self._wired is None or not known or key != self._key:
            await self._unwire()
            self._wired = await wire(self._around.api, js, resource.namespace, spec)
            self._loop = ControlLoop(
                spec.source.consumer,
                wish,
                self._wired.ports,
                tick_seconds=self._around.tick_seconds,
                port_seconds=PORT_SECONDS,
            )
            self._key = key
        self._wired.wants(spec, resource.namespace)
        self._loop.wish(wish)
        return self._loop

    async def _unwire(self) -> None:
        wired, self._wired, self._loop = self._wired, None, None
        if wired is not None:
            await wired.close()

    async def _until_changed(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
