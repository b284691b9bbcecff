"""Events of a WorkerPool (core/v1): made once for each key, then counted up."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from peakclip.errors import PeakclipError
from peakclip_operator.kubernetes.api import ApiRefusedError, KubernetesApi, path_to

log = structlog.get_logger()

_COMPONENT: Final = "peakclip-operator"
_REMEMBERED: Final = 100  # keys of one resource


class EventWriter:
    """For one resource. Best effort: what it has to tell stands in the status as well."""

    def __init__(self, api: KubernetesApi, involved: dict[str, str], instance: str) -> None:
        self._api = api
        self._involved = involved  # apiVersion, kind, name, namespace, uid
        self._instance = instance
        self._known: dict[str, tuple[str, int]] = {}  # key: name of the Event, how often

    async def write(self, key: str, *, warning: bool, reason: str, message: str) -> None:
        name, count = self._known.pop(key, ("", 0))
        try:
            if name:
                try:
                    await self._count_up(name, count + 1, message)
                except ApiRefusedError as exc:
                    if exc.code != 404:  # events live for an hour
                        raise
                    name = ""
            if not name:
                name, count = await self._create(warning, reason, message), 0
        except PeakclipError as exc:
            log.warning("event_not_written", reason=reason, error=str(exc))
            return
        self._known[key] = (name, count + 1)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    async def _create(self, warning: bool, reason: str, message: str) -> str:
        name = f"{self._involved['name']}.{secrets.token_hex(8)}"
        now = _now()
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self._involved["namespace"]},
            "involvedObject": self._involved,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:1024],
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.call("create", "events", self._path(), body=body)
        return name

    async def _count_up(self, name: str, count: int, message: str) -> None:
        body = {"count": count, "lastTimestamp": _now(), "message": message[:1024]}
        await self._api.call("patch", "events", self._path(name), body=body)

    def _path(self, name: str = "") -> str:
        return path_to("v1", self._involved["namespace"], "events", name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
