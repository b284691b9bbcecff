"""Workers of any pool, and what the relay does for them, inside the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from peakclip import store, topology
from peakclip.jetstream import InMessage, JetStream, PullConsumer
from peakclip.limiter.limiter import Limiter
from peakclip.service import Service
from peakclip_worker.batch import BatchPool, Work
from peakclip_worker.consumer import Drain
from peakclip_worker.expiry import Sweep
from peakclip_worker.outbox import Outbox
from peakclip_worker.pools import REAPER_GATHER_SECONDS
from peakclip_worker.pools.effects import ApplyEffects
from peakclip_worker.pools.orders import DrainOrders
from peakclip_worker.pools.reaper import ExpireOrders
from peakclip_worker.relay import Relay
from peakclip_worker.timers import Timers

QUICK_BACKOFF = (0.05, 0.1)


def orders_pool(js: JetStream, database: Any, work_ms: float = 0.0) -> BatchPool[Any]:
    return BatchPool(topology.ORDERS_POOL, js, database, DrainOrders(database, work_ms), QUICK_BACKOFF)


def reaper_pool(js: JetStream, database: Any) -> BatchPool[Any]:
    work = ExpireOrders(database)
    return BatchPool(topology.REAPER_POOL, js, database, work, QUICK_BACKOFF, REAPER_GATHER_SECONDS)


def effects_pool(js: JetStream, database: Any) -> BatchPool[Any]:
    return BatchPool(topology.EFFECTS_POOL, js, database, ApplyEffects(database, js), QUICK_BACKOFF)


def batch_pool(name: str, js: JetStream, database: Any, work: Work[Any]) -> BatchPool[Any]:
    return BatchPool(name, js, database, work, QUICK_BACKOFF)


async def take(pull: PullConsumer, count: int, seconds: float = 15.0) -> list[InMessage]:
    """This many messages: what was given back a moment ago comes one by one."""
    found: list[InMessage] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            found += await pull.fetch(count - len(found), 1.0)
    return found


class Worker:
    def __init__(self, service: Service, loop: Drain, task: asyncio.Task[None]) -> None:
        self.service = service
        self.loop = loop
        self.task = task

    async def stop(self) -> None:
        """SIGTERM."""
        self.service.stopping.set()
        await asyncio.wait_for(self.task, 10)

    @property
    def in_hand(self) -> int:
        return self.loop.telemetry(0.0).in_flight


@contextlib.asynccontextmanager
async def drain(
    js: JetStream, pool: BatchPool[Any], name: str, *, most_at_once: int | None = None
) -> AsyncIterator[Worker]:
    """One worker of the pool, until the end of the block; then it drains as on SIGTERM."""
    service = Service()
    limiter = Limiter(js, name)
    service.spawn("limiter", limiter.run())
    loop = Drain(
        js, js.pull(topology.POOLS[name].stream, name), limiter, pool, name, most_at_once=most_at_once
    )
    task = asyncio.create_task(loop.run(service))
    try:
        yield Worker(service, loop, task)
        service.stopping.set()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await service.cancel_side_tasks()
    assert service.failure is None


@contextlib.asynccontextmanager
async def relay(js: JetStream, database: Any, parts: Sequence[str] = ()) -> AsyncIterator[None]:
    """What `peakclip relay` does: frames, outbox, timers, sweep; or only the named parts."""
    service = Service()
    sweep = Sweep(js, database)
    runs = {
        "frames": Relay(js, database).run,
        "outbox": Outbox(js, database).run,
        "timers": Timers(js, sweep.wake).run,
        "sweep": sweep.run,
    }
    tasks = [asyncio.create_task(run(service)) for name, run in runs.items() if not parts or name in parts]
    try:
        yield
        service.stopping.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def own_connections(nats_url: str, database_url: str) -> AsyncIterator[tuple[JetStream, Any]]:
    """As a process has them: a connection to NATS and a small pool."""
    async with await JetStream.connect(nats_url, name="worker") as js:
        database = await store.connect(database_url, max_size=2)
        try:
            yield js, database
        finally:
            database.terminate()
