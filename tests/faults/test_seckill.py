"""A flash sale to its end, over real processes: whoever wants to pay gets what there is, and every unit is sold once.

PEAKCLIP_SECKILL_RUNS=N    sales of a thousand units, one after another, each with a seed of its own (2)
"""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults.history.record import History
from faults.judge import findings, holds
from faults.listeners import SETTINGS, heard, register
from faults.shoppers import Shop
from faults.system import System, running
from receivers import webhook_receiver
from support import until

from peakclip import topology
from peakclip.audit.fetch import read_stream
from peakclip.jetstream import StoredMessage
from peakclip.limiter.pace import set_pace
from peakclip.load.access import post
from peakclip.local.stack import TENANT

RUNS = int(os.environ.get("PEAKCLIP_SECKILL_RUNS", "2"))
STOCK = 1_000
BUYERS = 5_000
LISTENERS = 100  # of them are told by webhook
PAY_WITHIN = 4
RATE = 1_000.0
SECONDS = 240.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120 + 300 * RUNS)]


async def test_every_unit_is_sold_once_whoever_pays_late_twice_or_never(
    data: Path, chance: random.Random
) -> None:
    async with (
        webhook_receiver() as receiver,
        running(data, SETTINGS, rate=RATE, min_workers=1, max_workers=3) as system,
    ):
        await set_pace(system.js, topology.REAPER_POOL, limit_per_second=1_000)
        accepted: dict[str, int] = {}
        history = History(TENANT)
        sales: set[str] = set()
        listeners: list[str] = []
        for number in range(RUNS):
            seed = chance.randrange(1_000_000)
            shop = Shop(
                system.credentials["url"], system.credentials["service"], await open_sale(system), STOCK,
                random.Random(seed), history=history,
            )  # fmt: skip
            sales.add(shop.sale)
            listeners += (names := [f"{shop.sale}-{buyer}" for buyer in range(LISTENERS)])
            await register(system, receiver, names)
            await shop.run(BUYERS, SECONDS)
            accepted |= shop.accepted
            await until(lambda shop=shop: at_rest(system, shop.sale), 60, pause=0.2)
            await check(system, shop)
            print(f"run {number + 1} seed {seed}: {len(shop.accepted):,} orders for {STOCK:,} units,"
                  f" {shop.refunded:,} refunds, {dict(shop.answers)}")  # fmt: skip
        result = await system.audit(accepted, RATE)
        holds(result)
        # Nothing is killed here, so no relay's claim outlives it, and events are in the order of their orders' lives.
        found = await findings(
            system, history, RATE, lambda: heard(receiver), kept_trying=sales, overtaking=False,
            listeners=listeners, stocks=dict.fromkeys(sales, STOCK),
        )  # fmt: skip
        assert not found
        assert receiver.calls


async def open_sale(system: System) -> str:
    now = datetime.now(UTC)
    sale = await post(system.credentials["url"], "/v1/sales", system.credentials["admin"], {
        "product": "A thousand of them", "stock": STOCK, "price_cents": 4900, "per_customer_limit": 1,
        "opens_at": (now - timedelta(seconds=1)).isoformat(), "closes_at": (now + timedelta(hours=1)).isoformat(),
        "pay_within_seconds": PAY_WITHIN,
    })  # fmt: skip
    return str(sale["sale_id"])


async def at_rest(system: System, sale: str) -> bool:
    """Nobody can pay any more and nothing is owed: what is not sold is on offer."""
    row = await system.database.fetchrow("select * from audit_sales where sale_id = $1", sale)
    counter = await system.js.last_message(topology.STOCK, topology.stock_subject(sale))
    offered = int(counter.payload.split(b'"')[3]) if counter else None
    return row["reserved"] == 0 and offered == row["available"]


async def check(system: System, shop: Shop) -> None:
    """By the contract's views, against what the customers were told."""
    database, sale = system.database, shop.sale
    assert not shop.wrong, (len(shop.wrong), shop.wrong[:5])
    row = await database.fetchrow("select * from audit_sales where sale_id = $1", sale)
    assert (row["sold"], row["available"], row["reserved"]) == (STOCK, 0, 0), (
        "more people wanted to pay than there were units"
    )
    orders = await database.fetch(
        "select order_id::text, customer_id, status from audit_orders where sale_id = $1", sale
    )
    by_status = Counter(order["status"] for order in orders)
    assert len(orders) == len(shop.accepted)
    assert by_status["paid"] == STOCK
    assert shop.paid == {order["order_id"] for order in orders if order["status"] == "paid"}
    buyers = Counter(order["customer_id"] for order in orders if order["status"] == "paid")
    assert max(buyers.values()) == 1, "nobody got two"
    await check_payments(system, shop)
    await check_returns(system, shop, by_status["cancelled"])


async def check_payments(system: System, shop: Shop) -> None:
    """Each payment that did not win, and each of an order that was cancelled afterwards, has its refund."""
    rows = await system.database.fetch(
        "select p.order_id::text, p.kind, o.status from audit_payments p join audit_orders o using (order_id)"
        " where o.sale_id = $1", shop.sale,
    )  # fmt: skip
    kept: Counter[str] = Counter()
    for row in rows:
        kept[row["order_id"]] += 1 if row["kind"] == "payment" else -1
    paid = {row["order_id"] for row in rows if row["status"] == "paid"}
    assert all(count == (1 if order in paid else 0) for order, count in kept.items())
    lost = sum(row["kind"] == "refund" for row in rows)
    assert lost >= shop.refunded > 0


async def check_returns(system: System, shop: Shop, cancelled: int) -> None:
    """Units came back to the counter once for each cancelled order: what was taken is what was sold."""
    movements = await read_movements(system, shop.sale)
    returned = sum(units for name, units in movements if name.startswith(("c-", "x-")))
    assert returned == cancelled
    assert cancelled == len(shop.accepted) - STOCK - await rejected(system, shop.sale)


async def read_movements(system: System, sale: str) -> list[tuple[str, int]]:
    """Message id and units of every movement of the sale's admission counter."""
    found: list[tuple[str, int]] = []

    def note(message: StoredMessage) -> None:
        found.append((message.headers.get("Nats-Msg-Id", ""), int(message.headers["Nats-Incr"])))

    await read_stream(system.js, topology.STOCK, topology.stock_subject(sale), 1, note)
    return found


async def rejected(system: System, sale: str) -> int:
    return int(
        await system.database.fetchval(
            "select count(*) from audit_orders where sale_id = $1 and status = 'rejected'", sale
        )
    )
