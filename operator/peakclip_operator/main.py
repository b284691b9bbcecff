"""`peakclip operator`: the control loop of one pool on one machine, with worker processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import click
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.service import Service, run_service
from peakclip_operator.lag import JetStreamLag
from peakclip_operator.loop import ControlLoop
from peakclip_operator.pace import NatsPace
from peakclip_operator.ports import Ports
from peakclip_operator.processes import ProcessScaler
from peakclip_operator.settings import OperatorSettings
from peakclip_operator.status import NatsStatus
from peakclip_operator.telemetry_source import NatsTelemetry

log = structlog.get_logger()

STREAMS = {topology.ORDERS_POOL: topology.SECKILL}  # the consumer has the name of the pool


@click.command()
@click.option("--pool", type=click.Choice(sorted(STREAMS)), help="Which pool to look after.")
def command(pool: str | None) -> None:
    """Keep just enough workers for the rate, and say why."""
    settings = OperatorSettings.load(pool=pool)
    run_service("operator", settings, lambda service: operate(settings, service))


async def operate(settings: OperatorSettings, service: Service) -> None:
    """Until the service is asked to stop; then the workers drain before this returns."""
    # First of all: the fork server imports the worker while this process connects.
    scaler = ProcessScaler(settings.pool, drain_seconds=settings.drain_seconds)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(scaler.close)
        js = await _connect(settings, service)
        if js is None:
            return
        stack.push_async_callback(js.close)
        service.check("nats", lambda: js.connected)
        loop = await _prepare(settings, service, js, scaler)
        if loop is None:
            return
        service.check("lag", lambda: loop.decision is not None and loop.decision.valid)
        service.ready()
        await loop.run(service.stopping)


async def _connect(settings: OperatorSettings, service: Service) -> JetStream | None:
    """None when the service is asked to stop before NATS has answered."""
    connecting = asyncio.create_task(JetStream.connect(settings.nats_url, name="peakclip-operator"))
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not connecting.done():
        connecting.cancel()
        return None
    return connecting.result()


async def _prepare(
    settings: OperatorSettings, service: Service, js: JetStream, scaler: ProcessScaler
) -> ControlLoop | None:
    """The loop with everything it needs in place; None when the service is stopped before that."""
    pace = NatsPace(js, settings.pool)
    lag = JetStreamLag(js, STREAMS[settings.pool], settings.pool)
    heard = NatsTelemetry(js, settings.pool)
    await heard.listen()
    for name, ready in (("pace", lambda: pace.prepare(settings.rate)), ("consumer", lag.read)):
        if not await _wait_for(service, name, ready):
            return None
    # Without the loop's patience: the first start waits until the fork server has imported the worker.
    await scaler.scale_to(settings.min_workers, [])
    ports = Ports(lag=lag, telemetry=heard, scaler=scaler, pace=pace, pace_sink=pace, status=NatsStatus(js))
    return ControlLoop(settings.pool, settings.spec(), ports, tick_seconds=settings.tick_seconds)


async def _wait_for(service: Service, name: str, ready: Callable[[], Awaitable[object]]) -> bool:
    """Tries until it works: processes may start in any order. False when the service is asked to stop first."""
    delay = 0.05
    while not service.stopping.is_set():
        try:
            await ready()
            return True
        except PeakclipError as exc:
            log.info("waiting", for_what=name, error=str(exc))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await service.stopping.wait()
        delay = min(2.0, delay * 2)
    return False
