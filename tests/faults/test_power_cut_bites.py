"""The power cut finds servers that answer too soon: accepted orders are lost, and named."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from faults.buyers import Buyers
from faults.lazy import LazyNats, LazyPostgres
from faults.machine import BOTH, on_disks, running_on
from support import until

from peakclip.audit import audit_system
from peakclip.load.access import create_sale

RATE = 200.0
ORDERS = 1_000

pytestmark = [
    pytest.mark.long,
    pytest.mark.faults,
    pytest.mark.timeout(240),
    pytest.mark.power,
]


async def lost(scratch: Path, data: Path, chance: random.Random, whose: Iterable[str], **servers: Any) -> int:
    """How many accepted orders, when the plug is pulled in the middle of the drain."""
    async with on_disks(scratch, **servers) as machines, running_on(machines, data, RATE) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=1_000_000)
        await buyers.wave(sale, ORDERS, again=0.0)

        async def draining() -> bool:
            return await system.done() >= ORDERS / 4

        await until(draining, 60)
        assert await system.done() < ORDERS, "in mid-drain"
        print(await machines.pull_the_plug(chance.randrange(2**32), whose, torn=False))
        result, reasons = await audit_system(
            system.database, system.js, accepted=buyers.accepted, wait_seconds=30
        )
        print(f"{result.lost} of {len(buyers.accepted)} lost; still under way: {reasons}")
        return result.lost


async def test_nats_that_syncs_every_two_minutes_loses_accepted_orders(
    scratch: Path, data: Path, chance: random.Random
) -> None:
    assert await lost(scratch, data, chance, BOTH, nats=LazyNats) > 0


async def test_postgresql_that_commits_before_it_writes_loses_accepted_orders(
    scratch: Path, data: Path, chance: random.Random
) -> None:
    """If NATS runs on: a queue that was cut too may offer them once more."""
    assert await lost(scratch, data, chance, ("postgres",), postgres=LazyPostgres) > 0
