"""`peakclip api`: one API process."""

from __future__ import annotations

import asyncio
import gc

import click
import structlog
from aiohttp import web

from peakclip.service import Service, run_service
from peakclip_api import keys
from peakclip_api.app import create_app
from peakclip_api.express import ExpressRunner
from peakclip_api.settings import ApiSettings

log = structlog.get_logger()

DRAIN_SECONDS = 10.0  # for requests that wait for their frame; a group's own deadline is 5 s


@click.command()
@click.option("--host", help="Address for clients.")
@click.option("--port", type=int, help="Port for clients; several processes may share it.")
def command(host: str | None, port: int | None) -> None:
    """Accept orders over HTTP."""
    settings = ApiSettings.load(host=host, port=port)
    run_service("api", settings, lambda service: serve(settings, service))


async def serve(settings: ApiSettings, service: Service) -> None:
    """Serves until asked to stop: then not ready, and after `leave_seconds` no new connections, every waiting request
    answered."""
    app = create_app(settings, service)
    runner_of = ExpressRunner if settings.express_lane else web.AppRunner
    runner = runner_of(app, access_log=None, handle_signals=False, shutdown_timeout=DRAIN_SECONDS)
    starting = asyncio.create_task(runner.setup(), name="start-up")
    stopping = asyncio.create_task(service.stopping.wait(), name="stop")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    await starting
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=4096, reuse_port=True)
        await site.start()
        log.info("listening", host=settings.host, port=runner.addresses[0][1])
        _settle_garbage_collector()
        service.ready()
        await stopping
        app[keys.BOARD].end_streams()
        if service.failure is None:  # else it cannot keep what it would promise meanwhile
            await asyncio.sleep(settings.leave_seconds)
    finally:
        stopping.cancel()
        await runner.cleanup()


def _settle_garbage_collector() -> None:
    """What start-up has built stays, so it is not looked through again; and a request leaves no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
