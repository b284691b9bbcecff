"""Tells the world whether what is acknowledged is on disk: somebody may change a server's setting at any time."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any, Final

import structlog

from peakclip import durability, telemetry
from peakclip.jetstream import JetStream
from peakclip.service import Service

log = structlog.get_logger()

LOOK_SECONDS: Final = 15.0


class DurabilityWatch:
    """Keeps `peakclip_durable` as the servers say it."""

    def __init__(self, js: JetStream, database: Any) -> None:
        self._js = js
        self._database = database
        self._told: dict[str, bool | None] = {}

    async def run(self, service: Service) -> None:
        while not service.stopping.is_set():
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await service.stopping.wait()

    async def look(self) -> None:
        """What a server does not tell is unknown (NaN), and not what it said before."""
        found = {
            "nats": await durability.nats_is_durable(self._js),
            "postgresql": await durability.postgres_is_durable(self._database),
        }
        for store, durable in found.items():
            telemetry.DURABLE.labels(store).set(math.nan if durable is None else int(durable))
        if found != self._told:
            self._told = found
            (log.info if all(found.values()) else log.warning)("durability", **found)
