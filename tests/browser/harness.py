"""The real routes and a real Board in a small application of their own, which can go away and come back."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from aiohttp import web
from browser.scenes import Scene

from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus, encode
from peakclip.topology import POOL_STATUS
from peakclip_api import keys
from peakclip_api.board import Board
from peakclip_api.routes import dashboard, nats_metrics


class ShiftedClock:
    """The real clock, and `shift` seconds: lets ten minutes of history arrive in no time."""

    def __init__(self) -> None:
        self.shift = 0.0
        self._start = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._start + time.monotonic() + self.shift


class Site:
    """An API process with nothing but the dashboard."""

    def __init__(self, nats_url: str) -> None:
        self._nats_url = nats_url
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.clock = ShiftedClock()
        self.board: Board
        self.js: JetStream

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> Self:
        """On the port it had before, if it had one."""
        self.js = await JetStream.connect(self._nats_url, name="dashboard-test")
        self.board = Board(self.js, clock=self.clock)
        await self.board.start()
        app = web.Application()
        app[keys.BOARD] = self.board
        dashboard.add_routes(app)
        nats_metrics.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is None:
            return
        await self._runner.cleanup()
        self._runner = None
        await self.board.stop()
        await self.js.close()

    async def publish(self, status: PoolStatus) -> None:
        """As the controller does."""
        await self.js.publish_core(f"{POOL_STATUS}.{status.pool}", encode(status))

    async def keep_publishing(self, status: PoolStatus, every_seconds: float = 0.5) -> None:
        while True:
            await self.publish(status)
            await asyncio.sleep(every_seconds)

    def remember(self, scene: Scene, seconds: float = 600.0, silent_seconds: float = 0.0) -> PoolStatus:
        """Puts a scene that ended `silent_seconds` ago into the board's history; returns its last status."""
        last: PoolStatus | None = None
        for at, status in scene.play(seconds):
            self.clock.shift = at - seconds - silent_seconds
            self.board.add(status)
            last = status
        self.clock.shift = 0.0
        if last is None:
            raise ValueError("a scene has at least one status")
        return last
