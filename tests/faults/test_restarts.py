"""nats-server restarts again and again under load: everybody goes on by themselves, and soon.

PEAKCLIP_RESTARTS=N     restarts in a row (4); `make restarts` does 300, some ten minutes

The bound is two heartbeats: the idle heartbeat that is asked of an ordered consumer (`peakclip.jetstream`, 1 s), by
which a client learns that its consumer is gone. A pull has none; it ends after as long (`peakclip_worker.consumer`).
Counted from the moment at which the server greets with JetStream on. What a machine that is busy makes of it is added:
several times of what the one who watches is late.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from faults.buyers import Buyers, keep_buying, open_sale
from faults.consumers import SILENT_SECONDS, Consumers, Restart
from faults.judge import findings, holds
from faults.launcher import READY_SECONDS, launched
from faults.system import System, running

from peakclip import jetstream, topology
from peakclip.limiter.pace import set_pace
from peakclip.local.nats import NatsServer
from peakclip.local.process import ProcessSpec
from peakclip_worker.consumer import FETCH_SECONDS

RESTARTS = int(os.environ.get("PEAKCLIP_RESTARTS", "4"))
HEARTBEAT_SECONDS = jetstream._HEARTBEAT_SECONDS
LONGEST_STALL = 2 * HEARTBEAT_SECONDS
TIMES_LATE = 5
API_PROCESSES = 2
WORKERS = 2
RATE = 300.0
PAY_WITHIN = 5  # seconds: timers, sweep and reaper have work, too
PLANTED_SECONDS = 5.0  # much longer than who is well needs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300 + 20 * RESTARTS)]


class Stage:
    """A system on a nats-server of the test's own, which no supervisor makes wait between two starts."""

    def __init__(
        self, server: NatsServer, system: System, consumers: Consumers, chance: random.Random
    ) -> None:
        self.server = server
        self.system = system
        self.consumers = consumers
        self.chance = chance

    async def restart(self, kill: bool, patience_seconds: float = SILENT_SECONDS) -> Restart:
        await asyncio.sleep(self.chance.uniform(0.0, 0.4))
        await (self.server.kill() if kill else self.server.stop())
        await self.server.start()
        return await self.consumers.after("SIGKILL" if kill else "SIGTERM", time.time(), patience_seconds)


@contextlib.asynccontextmanager
async def stage(data: Path, chance: random.Random, sabotage: str = "") -> AsyncIterator[Stage]:
    server = NatsServer(data.parent / "nats", owner=True)
    await asyncio.to_thread(server.prepare)
    await server.start()

    def adapt(spec: ProcessSpec) -> ProcessSpec:
        return launched(spec, FAULTS_SABOTAGE=sabotage) if sabotage else spec

    settings = {"PEAKCLIP_NATS_URL": server.url, "PEAKCLIP_RECONCILE_AFTER_SECONDS": "6"}
    options = {"rate": RATE, "min_workers": WORKERS, "max_workers": WORKERS, "api_processes": API_PROCESSES}
    try:
        async with running(data, settings, adapt=adapt, **options) as system:
            await set_pace(system.js, topology.REAPER_POOL, limit_per_second=500)
            headers = {"Authorization": f"Bearer {system.credentials['admin']}"}
            async with aiohttp.ClientSession(system.credentials["url"], headers=headers) as session:
                consumers = Consumers(system, session, API_PROCESSES, WORKERS)
                await consumers.listen()
                yield Stage(server, system, consumers, chance)
    finally:
        await server.stop()


async def test_everybody_goes_on_after_every_restart(data: Path, chance: random.Random) -> None:
    assert FETCH_SECONDS <= HEARTBEAT_SECONDS
    async with stage(data, chance) as scene:
        system = scene.system
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale, over = await open_sale(system.credentials, 1_000_000, PAY_WITHIN), asyncio.Event()
        restarts: list[Restart] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_buying(buyers, sale, over))
            try:
                for number in range(RESTARTS):
                    restarts.append(await scene.restart(kill=number % 2 == 0))
                    say(number + 1, restarts[-1])
                    assert not restarts[-1].silent, restarts[-1]
            finally:
                over.set()
                tell(restarts)
        await system.until_ready(READY_SECONDS)
        holds(await system.audit(buyers.accepted, RATE, wait_seconds=180))
        assert not await findings(system, buyers.history, RATE)
        assert not buyers.wrong, buyers.wrong[:5]
        assert len(buyers.accepted) > 0
        assert not (late := stalled(restarts)), late


@pytest.mark.long
async def test_a_pull_that_does_not_notice_is_caught(data: Path, chance: random.Random) -> None:
    """Planted in the relay: after the first restart it takes nothing any more, and nobody else stops."""
    async with stage(data, chance, "deaf-pull") as scene:
        found = await scene.restart(kill=True, patience_seconds=PLANTED_SECONDS)
        tell([found])
    idle = {
        "worker 1",
        "worker 2",
    }  # nobody buys, so they have nothing to start: silence is seen of them, too
    assert {name for name in found.silent if not name.endswith("/relay")} == {
        f"{topology.STOCK}/reconciler",
        *idle,
    }
    assert f"{topology.INTAKE}/relay" in found.silent


def stalled(restarts: Sequence[Restart]) -> list[tuple[int, dict[str, float]]]:
    """Number of the restart, and who took longer than two heartbeats."""
    found = (
        (number, one.stalls(LONGEST_STALL + TIMES_LATE * one.late_seconds))
        for number, one in enumerate(restarts)
    )
    return [(number, names) for number, names in found if names]


def say(number: int, one: Restart) -> None:
    """The slowest of all, so that a long run that is ended says how far it came."""
    name, seconds = max(one.seconds.items(), key=lambda item: math.inf if item[1] is None else item[1])
    took = "silent" if seconds is None else f"{seconds:.2f} s"
    print(f"  {number:3} {one.how}: {name} last, {took}", flush=True)


def tell(restarts: Sequence[Restart]) -> None:
    late = max((one.late_seconds for one in restarts), default=0.0)
    print(
        f"{len(restarts)} restarts; who watched was {late:.2f} s late at worst. Seconds until each went on:"
    )
    for name in restarts[0].seconds if restarts else ():
        took = [one.seconds[name] for one in restarts]
        heard = [one for one in took if one is not None]
        if heard:
            silent = len(took) - len(heard)
            print(
                f"  {name:20} median {statistics.median(heard):.2f}, most {max(heard):.2f}, silent {silent}"
            )
        else:
            print(f"  {name:20} silent")
