"""The plug of NATS and PostgreSQL is pulled while customers buy: nothing accepted is lost.

PEAKCLIP_FAULTS_CUTS=N     cuts in a row (3)
PEAKCLIP_FAULTS_WHOLE=1    also a machine with the whole stack on the disk
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

import pytest
from faults.buyers import Buyers
from faults.disk.disk import Disk
from faults.judge import answers_hold, holds, queued_once
from faults.machine import BOTH, family, kill, on_disks, running_on
from faults.system import connected, down, up

from peakclip.load.access import create_sale

CUTS = int(os.environ.get("PEAKCLIP_FAULTS_CUTS", "3"))
RATE = 400.0

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300 + 30 * CUTS),
    pytest.mark.power,
]


async def test_nothing_accepted_is_lost_when_the_plug_is_pulled(
    scratch: Path, data: Path, chance: random.Random
) -> None:
    async with on_disks(scratch) as machines, running_on(machines, data, RATE) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=1_000_000)
        for number in range(CUTS):
            async with asyncio.TaskGroup() as group:
                group.create_task(buyers.wave(sale, 900, rate=300, again=0.0))
                await asyncio.sleep(chance.uniform(0.5, 2.5))
                whose = BOTH if number == 0 else chance.choice([BOTH, ("nats",), ("postgres",)])
                told = await machines.pull_the_plug(chance.randrange(2**32), whose)
            print(f"cut {number + 1}: {told} not synced, {len(buyers.accepted)} accepted so far")
        await system.until_ready()
        print(f"{buyers.sent} orders, {buyers.retries} retries: {dict(buyers.causes)}")
        holds(await system.audit(buyers.accepted, RATE))
        await answers_hold(system, buyers)
        await queued_once(system)


@pytest.mark.skipif(
    not os.environ.get("PEAKCLIP_FAULTS_WHOLE"), reason="slow: metrics are mapped into memory there"
)
async def test_a_machine_with_everything_on_it(scratch: Path, chance: random.Random) -> None:
    """From its first start on: whatever the stack writes of its own, it starts again on what is left of that."""
    with Disk(scratch / "machine") as disk:
        data = disk.path / "data"
        buyers, sale = None, ""
        process = await up(data, 240)
        try:
            for number in range(2):
                credentials = json.loads((data / "credentials.json").read_text())
                if buyers is None:
                    buyers = Buyers(credentials["url"], credentials["service"], chance)
                    sale = await create_sale(credentials["url"], credentials["admin"], stock=1_000_000)
                await buyers.wave(sale, 300, again=0.0)
                kill(family(process.pid))
                print(f"cut {number + 1}: {disk.cut(chance.randrange(2**32))} not synced")
                await process.wait()
                disk.mount()
                process = await up(data, 240)
            async with connected(json.loads((data / "credentials.json").read_text())) as system:
                holds(await system.audit(buyers.accepted, 1_000))
                await answers_hold(system, buyers)
        finally:
            await down(process)
