"""kill -9 of everything, again and again, while customers buy: nothing accepted is lost, nothing is sold twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, buy_the_rest, exits, findings, holds, queued_once
from faults.system import KINDS, System, running
from structlog.testing import capture_logs
from support import until

from peakclip.load.access import create_sale

KILLS = int(os.environ.get("PEAKCLIP_FAULTS_KILLS", "10"))
MEAN_PAUSE = 1.2  # seconds between two kills

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300 + 30 * KILLS)]

RATE = 400.0
STOCK = 3_000


async def test_nothing_is_lost_when_everything_is_killed(data: Path, chance: random.Random) -> None:
    # A shorter patience than usual: units come back while the storm still rages, and meet late processes.
    settings = {"PEAKCLIP_RECONCILE_AFTER_SECONDS": "6"}
    options = {"rate": RATE, "min_workers": 2, "max_workers": 4, "work_ms": 2}
    with capture_logs() as said:
        async with running(data, settings, **options) as system:
            buyers, endless, scarce = await open_shop(system, chance)
            killed = await storm(system, buyers, [endless, scarce], chance)
            assert min(killed[kind] for kind in KINDS) >= KILLS
            await system.until_ready()
            await buyers.wave(endless, 200)
            await buy_the_rest(system, buyers, scarce)
            result = await system.audit(buyers.accepted, RATE)
            holds(result)
            await answers_hold(system, buyers)
            await queued_once(system)
            assert not await findings(system, buyers.history, RATE, kept_trying={scarce})
            assert await system.available(scarce) == 0
            assert exits(data / "logs" / "operator.log") <= {-signal.SIGKILL}, (
                "no worker ended that was not killed"
            )
    assert not by_themselves(said), "nor anybody else"


def by_themselves(said: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Processes that did not survive the end of another. PostgreSQL may need several starts after a kill:
    it refuses to, as long as a process of its own from before has not noticed."""
    return [
        one
        for one in said
        if one["event"] == "process_ended"
        and one["ended"] != "killed by SIGKILL"
        and one["name"] != "postgres"
    ]


async def open_shop(system: System, chance: random.Random) -> tuple[Buyers, str, str]:
    """A sale whose stock never runs out, and one that sells out."""
    url, admin = system.credentials["url"], system.credentials["admin"]
    endless = await create_sale(url, admin, stock=1_000_000)
    scarce = await create_sale(url, admin, stock=STOCK)
    return Buyers(url, system.credentials["service"], chance), endless, scarce


class Bursts:
    """Bursts of orders for either sale, one after another."""

    def __init__(self, buyers: Buyers, sales: list[str], chance: random.Random) -> None:
        self._buyers = buyers
        self._sales = sales
        self._chance = chance
        self.going_on = asyncio.Event()

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            self.going_on.set()
            sale, orders = self._chance.choice(self._sales), self._chance.randint(200, 600)
            # Some as fast as answers come, some long enough on a fast machine to be hit in their middle.
            await self._buyers.wave(sale, orders, rate=self._chance.choice([None, 600.0, 600.0]))
            self.going_on.clear()
            await asyncio.sleep(self._chance.uniform(1.0, 4.0))


async def storm(system: System, buyers: Buyers, sales: list[str], chance: random.Random) -> Counter[str]:
    """Load and kills together, until every kind has been killed often enough."""
    over = asyncio.Event()

    async def steady() -> None:
        while not over.is_set():
            await buyers.wave(sales[0], 240, rate=60, connections=16)

    bursts = Bursts(buyers, sales, chance)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(steady())
        group.create_task(bursts.run(over))
        try:
            killed = await kill_everything(system, bursts, chance)
        finally:
            over.set()
    print(f"storm of {time.monotonic() - began:.0f} s: {dict(killed)}")
    print(f"{buyers.sent} orders, {buyers.repeats} repeats, {buyers.retries} retries: {dict(buyers.causes)}")
    print(f"{len(buyers.accepted)} accepted, {len(buyers.refused)} refused, {await system.done()} rows")
    return killed


async def kill_everything(system: System, bursts: Bursts, chance: random.Random) -> Counter[str]:
    """Each kind KILLS times, in random order at random moments; now and then two within a moment.

    Who stands between a customer and the disk dies in the middle of a burst more often than chance would have it.
    """
    killed: Counter[str] = Counter()
    for _ in range(KILLS):
        for kind in chance.sample(KINDS, len(KINDS)):
            close = chance.random() < 0.2
            await asyncio.sleep(
                chance.uniform(0.0, 0.1) if close else min(6.0, chance.expovariate(1 / MEAN_PAUSE))
            )
            if kind in ("api", "nats") and chance.random() < 0.7:
                await until(bursts.going_on.is_set, 90)
                await asyncio.sleep(chance.uniform(0.0, 0.15))
            pids = await until(lambda kind=kind: system.pids(kind), 90)
            await kill(system, chance.choice(pids), chance)
            killed[kind] += 1
    return killed


async def kill(system: System, pid: int, chance: random.Random) -> None:
    """Half of the time it stands still for a moment first, so that it dies with much on its way to it and from it.

    A server that is killed outright has nearly always written what it was sent: then nobody needs to wonder.
    """
    try:
        if chance.random() < 0.5:
            system.send(pid, signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.05, 0.6))
    finally:
        system.send(pid, signal.SIGKILL)
