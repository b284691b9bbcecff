"""A connection ends at any step of what is said over it, one cut after another along the way of an order.

First it is counted how many bytes one wave of orders moves over each link. Then the link is cut after a first share of
them, after a second, and so on: in the middle of greetings, questions, batches, transactions and answers.

PEAKCLIP_CUTS=N    cuts of each link (3)
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Final

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, findings, holds, queued_once
from faults.launcher import READY_SECONDS
from faults.nemesis.links import Link
from faults.nemesis.nemesis import surroundings
from faults.system import System, running
from support import until

from peakclip.load.access import create_sale

CUTS: Final = int(os.environ.get("PEAKCLIP_CUTS", "3"))
RATE = 500.0
ORDERS = 10  # of a wave
# Whom an order passes. The operator is no step on its way, and has no connection to PostgreSQL.
PASSED: Final = ("api-nats", "api-postgres", "relay-nats", "relay-postgres", "worker-nats", "worker-postgres")
_AWAY_SECONDS = 6.0  # a wave moves fewer bytes than before, now and then: then it is cut as it is

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240 + 60 * CUTS)]


async def test_a_cut_at_any_step_loses_nothing_and_doubles_nothing(data: Path, chance: random.Random) -> None:
    async with (
        surroundings(data.parent) as around,
        running(
            data, {"PEAKCLIP_RECONCILE_AFTER_SECONDS": "6"}, adapt=around.adapt, rate=RATE, min_workers=1,
            max_workers=2,
        ) as system,
    ):  # fmt: skip
        url, admin = system.credentials["url"], system.credentials["admin"]
        buyers = Buyers(url, system.credentials["service"], chance)
        sale = await create_sale(url, admin, stock=100_000)
        moved = await measured(system, buyers, sale, [around.links[name] for name in PASSED])
        print(f"  bytes of a wave: {moved}")
        for number in range(CUTS):
            for name, much in moved.items():
                await cut(buyers, sale, around.links[name], 1 + much * number // CUTS)
        await system.until_ready(READY_SECONDS)
        print(
            f"  { ({name: around.links[name].cuts for name in PASSED}) } connections cut; {dict(buyers.causes)}"
        )
        holds(await system.audit(buyers.accepted, RATE))
        await answers_hold(system, buyers)
        await queued_once(system)
        assert not await findings(system, buyers.history, RATE)
        assert all(around.links[name].cuts >= CUTS for name in PASSED)


async def measured(system: System, buyers: Buyers, sale: str, links: list[Link]) -> dict[str, int]:
    """Bytes that each link moves for a wave, from the first request to the events."""
    before = {link.name: link.passed for link in links}
    await buyers.wave(sale, ORDERS, connections=4)
    await until(lambda: _all_told(system, buyers), 30)
    return {link.name: link.passed - before[link.name] for link in links}


async def _all_told(system: System, buyers: Buyers) -> bool:
    owed = await system.database.fetchval("select count(*) from outbox")
    return owed == 0 and await system.done() == len(buyers.accepted)


async def cut(buyers: Buyers, sale: str, link: Link, after_bytes: int) -> None:
    before = link.cuts
    link.cut(after_bytes)
    await buyers.wave(sale, ORDERS, connections=4)
    with contextlib.suppress(AssertionError):
        await until(lambda: link.cuts > before, _AWAY_SECONDS)
        return
    link.cut()
