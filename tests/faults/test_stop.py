"""SIGTERM in the middle of everything: nothing is lost, doubled, or late."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, buy_the_rest, exits, holds, queued_once
from faults.system import Data, alive, connected, down, running, up
from support import until

from peakclip import topology
from peakclip.audit.fetch import read_stream
from peakclip.jetstream import StoredMessage
from peakclip.load.access import create_sale
from peakclip.messages import decode_order

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

RATE = 300.0
LATE_SECONDS = topology.ACK_WAIT_SECONDS / 2  # what a stopped worker did not give back comes after ack_wait
STOPS = 6


async def test_a_stopped_worker_gives_back_what_it_has_in_hand(data: Path, chance: random.Random) -> None:
    async with running(data, rate=RATE, min_workers=3, max_workers=4, work_ms=20) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=100_000)
        await buyers.wave(sale, 3_500)
        for _ in range(STOPS):
            await asyncio.sleep(chance.uniform(0.5, 1.2))
            pid = chance.choice(await until(lambda: system.pids("worker"), 10))
            system.send(pid, signal.SIGTERM)
            await until(lambda pid=pid: not alive(pid), 10)
        assert await system.done() < 3_500, "in mid-drain"
        result = await system.audit(buyers.accepted, RATE)
        late = await longest_overtaken(system)
        print(f"no order waited longer than {late:.2f} s after a younger one had started")
        assert late < LATE_SECONDS
        assert exits(data / "logs" / "operator.log") == {0}
        holds(result)
        await answers_hold(system, buyers)


async def longest_overtaken(system: Data) -> float:
    """The longest time by which an order started later than one that was queued behind it."""
    rows = await system.database.fetch(
        "select order_id::text, extract(epoch from started_at)::float8 as at from orders"
    )
    started = {row["order_id"]: row["at"] for row in rows}
    queue: list[float] = []

    def note(message: StoredMessage) -> None:
        queue.append(started[decode_order(message.payload).order_id])

    await read_stream(system.js, topology.SECKILL, "order.seckill.created.*", 1, note)
    return overtaken(queue)


def overtaken(starts: Sequence[float]) -> float:
    """`starts` in the order of the queue: the largest start minus a later entry's start. 1 2 9 3: 6."""
    longest, soonest = 0.0, float("inf")
    for start in reversed(starts):
        soonest = min(soonest, start)
        longest = max(longest, start - soonest)
    return longest


async def test_a_stack_stopped_in_mid_burst_goes_on_where_it_was(data: Path, chance: random.Random) -> None:
    process = await up(data)
    credentials = json.loads((data / "credentials.json").read_text())
    buyers = Buyers(credentials["url"], credentials["service"], chance)
    endless = await create_sale(credentials["url"], credentials["admin"], stock=1_000_000)
    scarce = await create_sale(credentials["url"], credentials["admin"], stock=1_500)
    over = asyncio.Event()

    async def burst(sale: str) -> None:
        while not over.is_set():
            await buyers.wave(sale, 300, connections=32)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(burst(endless))
            group.create_task(burst(scarce))
            for _ in range(2):
                await asyncio.sleep(chance.uniform(1.0, 2.0))
                await down(process)
                process = await up(data)
            await asyncio.sleep(1.0)
            over.set()
        async with connected(credentials) as system:
            await buy_the_rest(system, buyers, scarce)
            result = await system.audit(buyers.accepted, 1_000)
            print(f"{len(buyers.accepted)} accepted, {buyers.retries} retries: {dict(buyers.causes)}")
            holds(result)
            await answers_hold(system, buyers)
            await queued_once(system)
            assert await system.available(scarce) == 0
            assert buyers.causes["connection-lost"], "in mid-burst"
    finally:
        await down(process)
