"""The life of a process: start, readiness, management port, drain on SIGTERM, exit 0.

    async def run(service: Service) -> None:
        service.spawn("telemetry", publish_telemetry())
        service.ready()
        await service.stopping.wait()

    run_service("worker", settings, run)

Side tasks have names; one that dies stops the process loudly, because a process that has lost its telemetry or
its lease is worse than one that is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from importlib import metadata
from typing import Final

import structlog
import uvloop
from aiohttp import web

from peakclip import telemetry, tracing
from peakclip.settings import Settings

log = structlog.get_logger()

CANCEL_AGAIN_SECONDS: Final = 1.0


class Service:
    """What a running process knows of its own life."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._ready = False
        self._checks: dict[str, Callable[[], bool]] = {}
        self._side_tasks: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None
        self.management_port = 0

    def ready(self) -> None:
        """Start-up is complete: /readyz answers 200 from now on, while the checks hold and no stop is asked for."""
        self._ready = True
        log.info("ready", pid=os.getpid(), management_port=self.management_port)

    def check(self, name: str, holds: Callable[[], bool]) -> None:
        """Adds a condition of readiness, for example the connection to NATS."""
        self._checks[name] = holds

    @property
    def is_starting(self) -> bool:
        return not self._ready

    def missing(self) -> list[str]:
        """Why the process is not ready; empty when it is."""
        reasons = [] if self._ready else ["starting"]
        if self.stopping.is_set():
            reasons.append("stopping")
        return reasons + [name for name, holds in self._checks.items() if not holds()]

    def spawn(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs a side task for the life of the process; if it fails, the process stops with exit 1."""
        task = asyncio.create_task(work, name=name)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_task_done)
        return task

    def _side_task_done(self, task: asyncio.Task[None]) -> None:
        self._side_tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        self.failure = task.exception()
        log.error("side_task_died", task=task.get_name(), exc_info=self.failure)
        self.stopping.set()

    async def cancel_side_tasks(self) -> None:
        """Until they have ended: on Python 3.11 `wait_for` drops a cancellation that comes in the same moment as what
        is waited for, and whoever asks again and again would go on for ever."""
        left = set(self._side_tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)


def run_service(process: str, settings: Settings, run: Callable[[Service], Awaitable[None]]) -> None:
    """Runs `run` until it returns; SIGTERM and SIGINT set `service.stopping`. Exits 1 if a side task died."""
    telemetry.configure_logging(process, json=settings.log_json)
    telemetry.BUILD.labels(process, metadata.version("peakclip")).set(1)
    tracing.setup(process, settings)

    async def main() -> Service:
        service = Service()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, service.stopping.set)
        async with _management(service, settings):
            try:
                await _run_or_give_up(service, run)
            finally:
                service.stopping.set()
                await service.cancel_side_tasks()
        log.info("stopped")
        return service

    try:
        service = uvloop.run(main())
    finally:
        tracing.shutdown()
    if service.failure is not None:
        raise SystemExit(1)


async def _run_or_give_up(service: Service, run: Callable[[Service], Awaitable[None]]) -> None:
    """A process that still waits for others when it is asked to stop has nothing to finish."""
    running = asyncio.ensure_future(run(service))
    stopping = asyncio.create_task(service.stopping.wait(), name="stop")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        given_up = service.is_starting and running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            if not given_up:
                raise
    finally:
        stopping.cancel()
        running.cancel()


@contextlib.asynccontextmanager
async def _management(service: Service, settings: Settings) -> AsyncIterator[None]:
    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive", "pid": os.getpid()})

    async def readyz(request: web.Request) -> web.Response:
        # As Kubernetes' own servers have it: what answers for itself while a server is away need not be taken out of
        # service for it, since then nobody would answer.
        excluded = request.query.getall("exclude", ())
        missing = [name for name in service.missing() if name not in excluded]
        return web.json_response(
            {"status": "not ready" if missing else "ready", "missing": missing},
            status=503 if missing else 200,
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=telemetry.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.management_host, settings.management_port)
        await site.start()
        service.management_port = runner.addresses[0][1]
        yield
    finally:
        await runner.cleanup()
