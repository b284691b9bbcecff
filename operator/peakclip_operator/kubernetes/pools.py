"""Which WorkerPools there are, and a task for each. Level-triggered: the newest state counts, however it came."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from peakclip_operator.kubernetes.api import EVERYWHERE

log = structlog.get_logger()

_REMEMBERED: Final = 1000  # resources that are gone, should an older word of them still come


@dataclass(frozen=True, slots=True)
class Resource:
    """A WorkerPool as it is stored."""

    namespace: str
    name: str
    uid: str
    version: str
    generation: int
    annotations: Mapping[str, str]
    spec: object
    created: str = ""
    """When, as the API server writes it: the earlier, the smaller."""
    conditions: Sequence[Mapping[str, Any]] = ()
    """Of its status: what an operator before this one said."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Runner(Protocol):
    """Looks after one resource."""

    def update(self, resource: Resource) -> None: ...

    async def run(self) -> None:
        """Until it is cancelled, or the resource is gone."""
        ...


class Pools:
    def __init__(self, runner: Callable[[Resource], Runner]) -> None:
        self._runner = runner
        self._running: dict[str, tuple[Runner, Resource, asyncio.Task[None]]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._closed = False

    def seen(self, body: Mapping[str, Any]) -> None:
        if self._closed:  # a watch that ends slowly still tells: what began now, nobody would ever end
            return
        resource = read_resource(body)
        if body["metadata"].get("deletionTimestamp"):
            self._end(resource.uid)
        elif resource.uid not in self._gone:
            self._keep(resource)

    def gone(self, body: Mapping[str, Any]) -> None:
        self._end(body["metadata"]["uid"])

    def listed(self, namespace: str, version: str, bodies: Sequence[Mapping[str, Any]]) -> None:
        """All of a namespace: what is not there has gone without a word, unless it is newer than the list."""
        for body in bodies:
            self.seen(body)
        there = {body["metadata"]["uid"] for body in bodies}
        for uid, (_, resource, _) in list(self._running.items()):
            was_there = uid in there or _is_older(version, resource.version)
            if namespace in (resource.namespace, EVERYWHERE) and not was_there:
                self._end(uid)

    async def close(self) -> None:
        self._closed = True
        tasks = [task for _, _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, resource: Resource) -> None:
        known = self._running.get(resource.uid)
        if known is None:
            log.info("worker_pool_found", resource=resource.key)
            runner = self._runner(resource)
            task = asyncio.create_task(runner.run(), name=f"worker-pool-{resource.key}")
            self._running[resource.uid] = (runner, resource, task)
            task.add_done_callback(lambda task: self._ended(resource, task))
            return
        runner, before, task = known
        if not _is_older(resource.version, before.version):
            self._running[resource.uid] = (runner, resource, task)
            runner.update(resource)

    def _ended(self, resource: Resource, task: asyncio.Task[None]) -> None:
        """The next word of the resource begins a new one."""
        self._running.pop(resource.uid, None)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("worker_pool_ended", resource=resource.key, exc_info=failure)

    def _end(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        known = self._running.get(uid)
        if known is not None:
            log.info("worker_pool_gone", resource=known[1].key)
            known[2].cancel()  # the workload stays as it is, and so does the pace


def read_resource(body: Mapping[str, Any]) -> Resource:
    metadata = body["metadata"]
    return Resource(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        annotations=dict(metadata.get("annotations") or {}),
        spec=body.get("spec"),
        created=metadata.get("creationTimestamp", ""),
        conditions=(body.get("status") or {}).get("conditions") or (),
    )


def _is_older(version: str, than: str) -> bool:
    """A list and an event come by different ways, and may overtake each other."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)
