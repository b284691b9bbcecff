"""Listens to the controller and counts in the database while a run goes on. Keeps what the report needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from peakclip import topology
from peakclip.cli.live import View
from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus
from peakclip.store import DATABASE_AWAY

STALL_SECONDS: Final = 60.0  # nothing new in the database for so long, and not paused: it will not come
_COUNT_EVERY: Final = 1.0  # seconds
_COUNT_SHARE: Final = 0.05  # of the time may be spent on counting

_decode = msgspec.json.Decoder(PoolStatus).decode


class Watch:
    def __init__(self, js: JetStream, pool: Any, view: View, show: Callable[[], None]) -> None:
        self._js = js
        self._pool = pool
        self._view = view
        self._show = show
        self.statuses: list[PoolStatus] = []
        self._heard = asyncio.Event()

    async def listen(self) -> None:
        """Remembers every status of the pool from now on."""
        await self._js.subscribe_core(f"{topology.POOL_STATUS}.{topology.ORDERS_POOL}", self._on_status)

    async def _on_status(self, msg: Msg) -> None:
        try:
            status = _decode(msg.data)
        except msgspec.DecodeError:  # a newer controller: the run goes on without
            return
        self.statuses.append(status)
        self._view.status = status
        self._heard.set()

    async def until_running(self, fewest: int, wait_seconds: float) -> bool:
        """Waits for the controller to report `fewest` workers. False: it did not in time."""
        try:
            async with asyncio.timeout(wait_seconds):
                while (running := self._running()) is None or running < fewest:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return False
        return True

    async def until_drained(self, sale_id: str, expected: int) -> bool:
        """Counts until the database has `expected` orders of the sale. False: it stalled before."""
        last_count, last_at = await self._count(sale_id) or 0, time.monotonic()
        moved_at = last_at
        self._view.drained = last_count
        while last_count < expected:
            began = time.monotonic()
            count = await self._count(sale_id)
            now = time.monotonic()
            if count is not None:
                self._view.rates.append((count - last_count) / max(1e-3, now - last_at))
                if count > last_count or self._is_paused():
                    moved_at = now
                last_count, last_at = count, now
                self._view.drained = count
            self._show()
            if now - moved_at > STALL_SECONDS:
                return False
            if last_count < expected:
                await asyncio.sleep(max(_COUNT_EVERY, (now - began) / _COUNT_SHARE))
        return True

    async def until_given_back(self, fewest: int, wait_seconds: float) -> bool:
        """Waits until no more than `fewest` workers run. False: they still did after `wait_seconds`."""
        deadline = time.monotonic() + wait_seconds
        while self.statuses and ((running := self._running()) is None or running > fewest):
            if time.monotonic() > deadline:
                return False
            self._show()
            await asyncio.sleep(0.5)
        return True

    async def _count(self, sale_id: str) -> int | None:
        """None while the database is away: it comes back, and the count goes on."""
        try:
            return int(
                await self._pool.fetchval("select count(*) from audit_orders where sale_id = $1", sale_id)
            )
        except DATABASE_AWAY:
            return None

    def _running(self) -> int | None:
        """None: nobody has said it."""
        return self.statuses[-1].workers_current if self.statuses else None

    def _is_paused(self) -> bool:
        return bool(self.statuses and self.statuses[-1].paused)

    def highest_limit(self, since: float) -> tuple[float, int] | None:
        """The highest R, and the largest burst above it, that were in force since then; None: not known."""
        seen = [s for s in self.statuses if s.at >= since] or self.statuses[-1:]
        bursts = [s.burst for s in seen if s.burst is not None]
        return (max(s.limit_per_second for s in seen), max(bursts)) if bursts else None
