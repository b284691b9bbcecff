"""`peakclip api`: one API process."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections.abc import Sequence
from typing import Final

import click
import structlog
from aiohttp import web

from peakclip.service import Service, run_service
from peakclip_api import keys
from peakclip_api.app import create_app
from peakclip_api.express import ExpressRunner
from peakclip_api.guard import Limits
from peakclip_api.guarded import GuardedRunner
from peakclip_api.settings import ApiSettings

log = structlog.get_logger()

READ_BYTES: Final = 16_384  # of a body that nobody reads yet: twice this, and then reading stops
OTHER_FILES: Final = 400  # servers, logs, and connections that are being refused
SEND_BUFFER, RECEIVE_BUFFER = 65_536, 32_768  # bytes; the kernel takes twice as much
LINGER_SECONDS: Final = 5.0  # what still arrives behind an answer is read for so long
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
    runner_of = ExpressRunner if settings.express_lane else GuardedRunner
    runner = runner_of(
        app,
        limits=limits_of(settings),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=DRAIN_SECONDS,
        keepalive_timeout=settings.keep_alive_seconds,
        lingering_time=LINGER_SECONDS,
        read_bufsize=max(READ_BYTES, settings.max_body_bytes),
    )
    service.spawn("connections", runner.guard.run())
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
        _bound_buffers(site)
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


def limits_of(settings: ApiSettings) -> Limits:
    """As many files as connections, if the system lets us; else fewer connections."""
    wanted = settings.max_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connections = settings.max_connections
    if soft < wanted:
        connections = max(16, soft - OTHER_FILES)
        log.warning("fewer_connections", wanted=settings.max_connections, files=soft, connections=connections)
    return Limits(
        connections,
        settings.receive_seconds,
        settings.send_seconds,
        settings.max_head_bytes,
        settings.max_unfinished_bytes,
    )


def _bound_buffers(site: web.TCPSite) -> None:
    """What the kernel keeps of each connection, which inherits it: by itself it would go up to some megabytes."""
    listening: Sequence[socket.socket] = getattr(site._server, "sockets", ())
    for one in listening:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _settle_garbage_collector() -> None:
    """What start-up has built stays, so it is not looked through again; and a request leaves no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
