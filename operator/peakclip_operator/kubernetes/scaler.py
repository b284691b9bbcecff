"""The workers of a pool as pods of a Deployment: the number by `/scale`, who goes first by the deletion cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from peakclip.errors import PeakclipError
from peakclip_operator.kubernetes import pods
from peakclip_operator.kubernetes.api import ApiRefusedError, KubernetesApi, path_to
from peakclip_operator.ports import Workers, WorkerSample
from peakclip_operator.resource.trouble import WorkloadMissingError

log = structlog.get_logger()

_APPS: Final = "apps/v1"
_PLURALS: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets"}


class WorkloadScaler:
    """Two requests a look: the scale and, from the API server's memory, the pods."""

    def __init__(self, api: KubernetesApi, namespace: str, kind: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._plural = _PLURALS[kind]
        self._name = name
        self._selector: str | None = None
        self._asked: int | None = None
        self._pods: list[pods.Pod] = []
        self.last: Workers | None = None
        """What was seen last."""

    async def current(self) -> Workers:
        """Raises WorkloadMissingError, ForbiddenError or KubernetesUnavailableError."""
        if self._selector is None:
            self._see(await self._read_scale())
        scale, listed = await asyncio.gather(self._read_scale(), self._list(self._selector or ""))
        self._see(scale)
        self._pods = pods.read_pods(listed)
        self.last = pods.count(self._pods, self._asked or 0)
        return self.last

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        """Says nothing that the workload says already: pods that come and go are its own controller's business."""
        if self._asked is None:
            self._see(await self._read_scale())
        if replicas == self._asked:
            return
        if self._asked is not None and replicas < self._asked:
            await self._mark(idle_first, self._asked - replicas)
        body = {"spec": {"replicas": replicas}}
        self._see(await self._api.call("patch", f"{self._plural}/scale", self._path("scale"), body=body))

    async def _mark(self, idle_first: Sequence[WorkerSample], fewer: int) -> None:
        """Who goes is a kindness: scaling down does not wait for its success."""
        changes = pods.marks(self._pods, idle_first, fewer)
        done = await asyncio.gather(
            *(self._annotate(name, cost) for name, cost in changes.items()), return_exceptions=True
        )
        for failure in done:
            if isinstance(failure, PeakclipError):
                log.warning("pod_not_marked", workload=self._name, error=str(failure))
                break
            if isinstance(failure, BaseException):
                raise failure

    async def _annotate(self, pod: str, cost: str | None) -> None:
        body = {"metadata": {"annotations": {pods.DELETION_COST: cost}}}
        await self._api.call("patch", "pods", path_to("v1", self._namespace, "pods", pod), body=body)

    async def _read_scale(self) -> dict[str, Any]:
        try:
            return await self._api.call("get", f"{self._plural}/scale", self._path("scale"))
        except ApiRefusedError as exc:
            self._selector = self._asked = None  # one that is made anew may be another one
            if exc.code == 404:
                raise WorkloadMissingError from exc
            raise

    async def _list(self, selector: str) -> bytes:
        # Version 0: as new as the API server's own cache, which costs etcd nothing.
        query = {"labelSelector": selector, "resourceVersion": "0"}
        return await self._api.raw("list", "pods", path_to("v1", self._namespace, "pods"), query=query)

    def _see(self, scale: dict[str, Any]) -> None:
        self._asked = scale.get("spec", {}).get("replicas", 0)
        self._selector = scale.get("status", {}).get("selector", "")

    def _path(self, subresource: str) -> str:
        return path_to(_APPS, self._namespace, self._plural, self._name, subresource)
