"""`peakclip worker`: one worker of one pool."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import click

from peakclip import store, topology
from peakclip.clocks import Clocks
from peakclip.jetstream import JetStream
from peakclip.limiter.clock import local_time
from peakclip.limiter.limiter import Limiter
from peakclip.roles import ROLES, WORKER
from peakclip.service import Service, run_service
from peakclip.streams import until_there
from peakclip_worker.consumer import Drain
from peakclip_worker.database import Database
from peakclip_worker.pools import POOLS, Given
from peakclip_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from peakclip_worker.deliveries import Sender


@click.command()
@click.option("--pool", type=click.Choice(sorted(POOLS)), help="Which pool to work for.")
def command(pool: str | None) -> None:
    """Drain one pool into PostgreSQL at the limiter's pace."""
    settings = WorkerSettings.load(pool=pool)
    run_service(f"worker-{settings.pool}", settings, lambda service: work(settings, service))


async def work(settings: WorkerSettings, service: Service) -> None:
    async with contextlib.AsyncExitStack() as stack:
        js = await stack.enter_async_context(
            await JetStream.connect(settings.nats_url, name=f"peakclip-worker-{settings.pool}")
        )
        service.check("nats", lambda: js.connected)
        connections = await store.connect(settings.database_url, min_size=1, max_size=2)
        stack.push_async_callback(connections.close)
        await work_with(settings, service, js, connections)


async def work_with(
    settings: WorkerSettings,
    service: Service,
    js: JetStream,
    connections: Any,
    *,
    clocks: Clocks | None = None,
    worker: str | None = None,
) -> None:
    """Over connections that somebody else has made. `worker`: see `Drain`."""
    clocks, since_boot = (Clocks(), local_time) if clocks is None else (clocks, clocks.steady)
    async with contextlib.AsyncExitStack() as stack:
        database = Database(connections, settings.pool, clock=clocks.steady)
        await until_there(js, ROLES[WORKER])
        sender = await _sender(stack, settings, database)
        wake = sender.wake.set if sender is not None else lambda: None
        limiter = Limiter(js, settings.pool, since_boot)
        service.spawn("limiter", limiter.run())
        drain = Drain(
            js,
            js.pull(topology.POOLS[settings.pool].stream, settings.pool),
            limiter,
            POOLS[settings.pool](Given(database, js, settings, wake)),
            settings.pool,
            most_at_once=settings.most_at_once,
            database=database.word,
            clock=clocks.epoch,
            steady=clocks.steady,
            worker=worker,
        )
        service.spawn("telemetry", drain.publish_telemetry())
        service.ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drain.run(service), name="drain")
            if sender is not None:
                tasks.create_task(sender.run(service), name="sender")


async def _sender(stack: contextlib.AsyncExitStack, settings: WorkerSettings, database: Any) -> Sender | None:
    """Deliveries go out from the workers that write them; the others need none of this."""
    if settings.pool != topology.EFFECTS_POOL:
        return None
    from peakclip_worker.channels.configured import open_channels
    from peakclip_worker.deliveries import Sender

    return Sender(database, await stack.enter_async_context(open_channels(settings)))
