"""One operator acts: the one that holds a Lease. Others stand by, ready to take it.

The client's own `leaderelection` is not used: it has no release, goes on leading after an error that is not the
API's own (a timeout, a refused connection), and writes local time as UTC.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from peakclip import telemetry
from peakclip.errors import PeakclipError
from peakclip_operator.kubernetes.api import ApiRefusedError, KubernetesApi, path_to

log = structlog.get_logger()

_API: Final = "coordination.k8s.io/v1"
_RENEWS_PER_LEASE: Final = 5
_DEADLINE: Final = (
    2 / 3
)  # of the lease without success, and this one leads no longer: before others may take it


@dataclass(frozen=True, slots=True)
class Seen:
    """What others wrote, and when this process first saw it: its own clock counts, theirs may be off."""

    version: str
    at: float


class Lease:
    def __init__(
        self,
        api: KubernetesApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._object: dict[str, Any] | None = None
        self._seen: Seen | None = None
        self._held_until = 0.0
        self._trouble: str | None = None

    def held(self) -> bool:
        """False from the moment on at which another one might hold it, whatever this process was busy with."""
        return self._clock() < self._held_until

    async def run(self, stopping: asyncio.Event, lead: Callable[[], Awaitable[None]]) -> None:
        """Leads whenever it holds the lease, until `stopping` is set. Raises what `lead` raises."""
        telemetry.LEADER.set(0)
        while not stopping.is_set():
            if await self.take():
                await self._lead(stopping, lead)
            await _pause(stopping, self._seconds / _RENEWS_PER_LEASE)

    async def _lead(self, stopping: asyncio.Event, lead: Callable[[], Awaitable[None]]) -> None:
        log.info("leading", lease=self._name, identity=self._identity)
        telemetry.LEADER.set(1)
        leading = asyncio.create_task(_awaited(lead), name="leading")
        try:
            while not stopping.is_set() and not leading.done() and self.held():
                await _pause(
                    stopping, min(self._seconds / _RENEWS_PER_LEASE, self._held_until - self._clock())
                )
                if not stopping.is_set():
                    await self.take()
        finally:
            telemetry.LEADER.set(0)
            if not self.held():
                log.warning("leads_no_longer", lease=self._name, error=self._trouble)
            leading.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await leading
            finally:
                await self.release()

    async def take(self) -> bool:
        """Takes or renews it. False when another one has it, or when that cannot be known."""
        started = self._clock()
        try:
            async with asyncio.timeout(self._seconds * _DEADLINE / 2):
                taken = await self._take()
        except (PeakclipError, TimeoutError) as exc:
            self._say(str(exc) or repr(exc))
            return self.held()
        if taken:
            self._held_until = started + self._seconds * _DEADLINE
            self._trouble = None
        return taken

    async def _take(self) -> bool:
        try:
            if not self.held() or self._object is None:
                self._object = await self._api.call("get", "leases", self._path(self._name))
        except ApiRefusedError as exc:
            if exc.code != 404:
                raise
            return await self._write("create", {"metadata": {"name": self._name}, "spec": {}})
        if not self._is_free(self._object):
            self._held_until = 0.0
            return False
        return await self._write("update", self._object)

    def _is_free(self, lease: dict[str, Any]) -> bool:
        spec, version = lease.get("spec") or {}, lease["metadata"]["resourceVersion"]
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        if self._seen is None or self._seen.version != version:
            self._seen = Seen(version, self._clock())
        waits: float = spec.get("leaseDurationSeconds", self._seconds)
        return self._clock() - self._seen.at >= waits

    async def _write(self, verb: str, lease: dict[str, Any]) -> bool:
        """False when somebody else was faster."""
        spec = lease.setdefault("spec", {})  # one that was made without has none
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if spec.get("holderIdentity") != self._identity:
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "renewTime": now,
        }
        body = {"apiVersion": _API, "kind": "Lease", **lease}
        path = self._path() if verb == "create" else self._path(self._name)
        try:
            self._object = await self._api.call(verb, "leases", path, body=body)
        except ApiRefusedError as exc:
            self._object = None  # read it anew: whoever wrote it may hold it now
            if exc.code == 409:
                return False
            raise
        return True

    async def release(self) -> None:
        """Gives it back, so that the next one need not wait; does nothing when it is not held."""
        if not self.held() or self._object is None:
            return
        self._held_until = 0.0
        self._object["spec"]["holderIdentity"] = ""
        try:
            await self._api.call("update", "leases", self._path(self._name), body=self._object)
        except PeakclipError as exc:
            log.warning("lease_not_released", error=str(exc))
        finally:
            self._object = None

    def _path(self, name: str = "") -> str:
        return path_to(_API, self._namespace, "leases", name)

    def _say(self, trouble: str) -> None:
        """Once for each kind of trouble."""
        if trouble != self._trouble:
            log.warning("lease_failing", lease=self._name, error=trouble)
        self._trouble = trouble


async def _awaited(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await stopping.wait()
