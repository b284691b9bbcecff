"""The stack's own management port: is everything ready, and the metrics of all processes added up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
from aiohttp import web
from prometheus_client import multiprocess

from peakclip import telemetry
from peakclip.local.ports import LOOPBACK
from peakclip.local.supervisor import Supervisor


@contextlib.asynccontextmanager
async def management(supervisor: Supervisor, metrics_folder: Path, port: int) -> AsyncIterator[str]:
    """Serves /livez, /readyz and /metrics; yields the address."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive", "pid": os.getpid()})

    async def readyz(_: web.Request) -> web.Response:
        missing = await supervisor.missing()
        status = "not ready" if missing else "ready"
        return web.json_response({"status": status, "missing": missing}, status=503 if missing else 200)

    async def metrics(_: web.Request) -> web.Response:
        forget_dead(metrics_folder)
        text = telemetry.exposition(metrics_folder)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def forget_dead(metrics_folder: Path) -> None:
    """Gauges of a dead process are no longer true; its counters stay in the sum."""
    for file in metrics_folder.glob("gauge_live*_*.db"):
        number = file.stem.rpartition("_")[2]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            multiprocess.mark_process_dead(int(number), str(metrics_folder))  # type: ignore[no-untyped-call]
