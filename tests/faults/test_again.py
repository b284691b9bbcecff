"""The same key gets the same answer, also from an API process that has not heard of the order yet."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, buy_the_rest, holds
from faults.system import System, running

from peakclip.load.access import create_sale

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

RATE = 100.0  # slow, so that accepted orders stand in line for seconds
ROUNDS = 3
STOCK = 300


async def test_what_sold_out_while_nats_restarted_is_still_the_buyers(
    data: Path, chance: random.Random
) -> None:
    """Each process follows the log of accepted orders; after a restart of NATS it takes a while to follow again."""
    async with running(data, rate=RATE, min_workers=1, max_workers=2) as system:
        url, admin = system.credentials["url"], system.credentials["admin"]
        buyers = Buyers(url, system.credentials["service"], chance)
        for _ in range(ROUNDS):
            sale = await create_sale(url, admin, stock=STOCK)
            async with asyncio.TaskGroup() as group:
                group.create_task(buyers.wave(sale, STOCK, connections=32, again=0.0))
                system.send(system.pids("nats")[0], signal.SIGKILL)
            seen, *answers = await asyncio.gather(
                states(system, list(buyers.accepted)[-STOCK:]), buyers.ask_again(sale), buyers.ask_again(sale)
            )
            print(seen, answers)
            assert set(seen) == {200}, "nor is an order that was accepted unknown anywhere"
            await system.until_ready()
            await buy_the_rest(system, buyers, sale)
        result = await system.audit(buyers.accepted, RATE)
        holds(result)
        await answers_hold(system, buyers)


async def states(system: System, order_ids: Sequence[str]) -> Counter[int]:
    """`GET /v1/orders/{id}` of each, over connections that reach either process."""
    headers = {"Authorization": f"Bearer {system.credentials['service']}"}
    connector = aiohttp.TCPConnector(limit=16, force_close=True)
    async with aiohttp.ClientSession(
        system.credentials["url"], connector=connector, headers=headers
    ) as session:

        async def status(order_id: str) -> int:
            while True:
                async with session.get(f"/v1/orders/{order_id}") as answer:
                    if answer.status != 503:
                        return answer.status
                await asyncio.sleep(0.1)

        return Counter(await asyncio.gather(*(status(order_id) for order_id in order_ids)))
