"""`peakclip relay`: moves what is already durable to where it is worked on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import click

from peakclip import store, topology
from peakclip.jetstream import JetStream
from peakclip.roles import ROLES
from peakclip.service import Service, run_service
from peakclip.streams import until_there
from peakclip_worker.advisories import Advisories
from peakclip_worker.dead_letters import DeadLetterCounts
from peakclip_worker.durability import DurabilityWatch
from peakclip_worker.expiry import Sweep
from peakclip_worker.janitor import Janitor
from peakclip_worker.outbox import Outbox
from peakclip_worker.reconciler import Reconciler
from peakclip_worker.relay import Relay
from peakclip_worker.settings import RelaySettings
from peakclip_worker.timers import Timers


@click.command()
def command() -> None:
    """Take frames apart, publish the outbox, find what has expired, return what nobody bought."""
    settings = RelaySettings.load()
    run_service("relay", settings, lambda service: relay(settings, service))


async def relay(settings: RelaySettings, service: Service) -> None:
    async with contextlib.AsyncExitStack() as stack:
        js = await stack.enter_async_context(
            await JetStream.connect(settings.nats_url, name="peakclip-relay")
        )
        service.check("nats", lambda: js.connected)
        database = await store.connect(settings.database_url, min_size=1, max_size=4)
        stack.push_async_callback(database.close)
        await relay_with(settings, service, js, database)


async def relay_with(
    settings: RelaySettings,
    service: Service,
    js: JetStream,
    database: Any,
    clock: Callable[[], float] = time.time,
) -> None:
    """Over connections that somebody else has made. `clock`: epoch seconds."""
    await until_there(js, ROLES[topology.RELAY])
    reconciler = Reconciler(js, settings.reconcile_after_seconds)
    keep = settings.keep_seconds, settings.keep_bytes
    janitor = Janitor(js, lambda: reconciler.settled_until, *keep, clock=clock)
    sweep = Sweep(js, database)
    service.ready()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Relay(js, database, clock=clock).run(service), name="frames")
        tasks.create_task(Outbox(js, database).run(service), name="outbox")
        tasks.create_task(reconciler.run(service), name="reconciler")
        tasks.create_task(sweep.run(service), name="sweep")
        tasks.create_task(Timers(js, sweep.wake).run(service), name="timers")
        tasks.create_task(janitor.run(service), name="janitor")
        tasks.create_task(Advisories(js, database).run(service), name="advisories")
        tasks.create_task(DeadLetterCounts(database).run(service), name="dead-letters")
        tasks.create_task(DurabilityWatch(js, database).run(service), name="durability")
