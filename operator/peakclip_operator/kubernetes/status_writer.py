"""The status of a WorkerPool: written when it has changed, at most once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from peakclip_operator.kubernetes.api import ApiRefusedError, KubernetesApi, resource_path
from peakclip_operator.resource.model import PLURAL

_PAUSE_SECONDS: Final = 1.0


class StatusWriter:
    """For one resource. A merge patch without a version: nobody else writes a status, so the last word is right."""

    def __init__(
        self, api: KubernetesApi, namespace: str, name: str, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._api = api
        self.name = name
        self._path = resource_path(namespace, name, "status")
        self._clock = clock or asyncio.get_running_loop().time
        self._written: Mapping[str, Any] | None = None
        self._at = float("-inf")
        self.gone = False
        """The API server knows no such resource any more."""

    async def write(self, status: Mapping[str, Any], *, at_once: bool = False) -> bool:
        """False when it was left for later. None in `status` takes a field away. Raises what the API server raises."""
        now = self._clock()
        if status == self._written or (not at_once and now - self._at < _PAUSE_SECONDS):
            return False
        self._at = now
        before, self._written = self._written, None  # whether it was written is not known without an answer
        body = {"status": {**_removed(before, status), **status}}
        try:
            await self._api.call("patch", f"{PLURAL}/status", self._path, body=body)
        except ApiRefusedError as exc:
            if exc.code != 404:
                raise
            self.gone = True
            return False
        self._written = dict(status)
        return True


def _removed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, None]:
    return dict.fromkeys((before or {}).keys() - now.keys())
