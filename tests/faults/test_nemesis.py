"""Everything at once, for a while: whoever buys meanwhile is told the truth, and the system keeps to it.

PEAKCLIP_NEMESIS_SECONDS=S     how long (20)
PEAKCLIP_NEMESIS_PAUSE=S       between two faults, on average (1)
PEAKCLIP_FAULTS_SEED=N         the same plan and the same customers as in the run that printed this seed
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from faults.buyers import Buyers, keep_buying, open_sale
from faults.history.record import History
from faults.judge import exits, findings, holds
from faults.launcher import READY_SECONDS
from faults.listeners import SETTINGS, heard, register
from faults.nemesis.nemesis import Nemesis, surroundings
from faults.nemesis.plan import plan
from faults.shoppers import Shop
from faults.system import System, running
from receivers import webhook_receiver
from structlog.testing import capture_logs

from peakclip import topology
from peakclip.limiter.pace import set_pace
from peakclip.local.stack import TENANT

SECONDS = float(os.environ.get("PEAKCLIP_NEMESIS_SECONDS", "20"))
PAUSE = float(os.environ.get("PEAKCLIP_NEMESIS_PAUSE", "1"))
RATE = 300.0
STOCK = 60  # of the sale whose customers pay
SHOPPERS = 240
LISTENERS = 60
# SIGTERM may come before a process has done its imports.
ASKED_TO_END = {"killed by SIGKILL", "killed by SIGTERM", "exit code 143", "exit code 0"}
PAY_WITHIN = 12  # seconds

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200 + 4 * SECONDS)]


async def test_nothing_of_it_breaks_a_promise(data: Path, chance: random.Random) -> None:
    seed = chance.randrange(1_000_000)
    with capture_logs() as said:
        await endure(data, seed)
    ends = {one["ended"] for one in said if one["event"] == "process_ended" and one["name"] != "postgres"}
    assert ends <= ASKED_TO_END, "nobody ended by themselves"
    assert exits(data / "logs" / "operator.log") <= {
        0,
        -signal.SIGKILL,
        -signal.SIGTERM,
        128 + signal.SIGTERM,
    }


async def endure(data: Path, seed: int) -> None:
    async with (
        webhook_receiver() as receiver,
        surroundings(data.parent) as around,
        running(
            data, SETTINGS | {"PEAKCLIP_RECONCILE_AFTER_SECONDS": "6"}, adapt=around.adapt, rate=RATE,
            min_workers=2, max_workers=4,
        ) as system,
    ):  # fmt: skip
        await set_pace(system.js, topology.REAPER_POOL, limit_per_second=500)
        history = History(TENANT)
        url, service = system.credentials["url"], system.credentials["service"]
        buyers = Buyers(url, service, random.Random(seed), history=history)
        endless, paying = (
            await open_sale(system.credentials, 1_000_000, 3_600),
            await open_sale(system.credentials, STOCK, PAY_WITHIN),
        )
        shop = Shop(url, service, paying, STOCK, random.Random(seed), history=history)
        listeners = [f"{paying}-{number}" for number in range(LISTENERS)]
        await register(system, receiver, listeners)

        nemesis, over = Nemesis(system, around), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_buying(buyers, endless, over))
            shopping = group.create_task(shop.run(SHOPPERS, SECONDS + 600))
            await nemesis.run(plan(seed, SECONDS, PAUSE))
            over.set()
            await system.until_ready(READY_SECONDS)
            await shopping
        print(f"{dict(nemesis.done)}, {len(nemesis.missed)} met nobody; {dict(buyers.causes)}")
        result = await system.audit({**buyers.accepted, **shop.accepted}, RATE, wait_seconds=180)
        holds(result)
        assert not await findings(
            system, history, RATE, lambda: heard(receiver), kept_trying={paying}, listeners=listeners,
            stocks={endless: 1_000_000, paying: STOCK},
        )  # fmt: skip
        assert not (buyers.wrong + shop.wrong), (buyers.wrong + shop.wrong)[:5]
        assert await rejected(system) == {}
        assert receiver.calls
        assert sum(nemesis.done.values()) >= SECONDS / PAUSE / 3


async def rejected(system: System) -> Counter[str]:
    """Accepted into the line, and then not sold: the admission said yes too often."""
    rows = await system.database.fetch(
        "select reason, count(*) from orders where status = 'rejected' group by reason"
    )
    return Counter({row["reason"]: row["count"] for row in rows})
