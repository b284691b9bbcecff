"""Unpaid orders expire: the sweep finds them, the reaper cancels them at its own rate, their stock returns once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest
from pools import drain, own_connections, reaper_pool, relay, take
from support import TENANT, drain_batch, insert_sale, make_order, offer, on_offer, unfinished, until

from peakclip import messages, topology
from peakclip.audit.checks.rate import busiest_second
from peakclip.errors import OutcomeUnknownError
from peakclip.jetstream import JetStream, OutMessage, PubAck
from peakclip.limiter.grid import default_burst
from peakclip.limiter.pace import set_pace
from peakclip.local.nats import NatsServer
from peakclip.messages import Order
from peakclip.store import query
from peakclip_worker.expiry import BATCH, Sweep

pytestmark = pytest.mark.integration


async def stock(database: Any, sale_id: str = "s1") -> tuple[int, int, int]:
    """Available, reserved, sold."""
    return tuple(
        await database.fetchrow("select available, reserved, sold from sales where sale_id = $1", sale_id)
    )


async def pay(database: Any, order: Order, payment: int = 1) -> str:
    return str(
        await database.fetchval(
            "select outcome from pay_order($1, $2, null, $3, '')",
            order.tenant, order.order_id, messages.order_id(order.order_id, str(payment)),
        )
    )  # fmt: skip


async def expire(database: Any, orders: Sequence[Order]) -> tuple[int, int]:
    ids = [order.order_id for order in orders]
    return tuple(await database.fetchrow("select expired, kept from expire_orders($1::uuid[])", ids))


async def unpaid(database: Any, count: int, *, due: bool = True, **changes: Any) -> list[Order]:
    """Drained orders that wait for payment; due ones since a moment."""
    orders = [make_order(**changes) for _ in range(count)]
    for first in range(0, count, 1_000):
        await drain_batch(database, orders[first : first + 1_000])
    if due:
        ids = [order.order_id for order in orders]
        await database.execute(
            "update orders set expires_at = clock_timestamp() - interval '1 ms' where order_id = any($1::uuid[])",
            ids,
        )
    return orders


async def statuses(database: Any) -> Counter[str]:
    rows = await database.fetch("select status || coalesce(':' || reason, '') as told from orders")
    return Counter(row["told"] for row in rows)


async def payments(database: Any) -> Counter[str]:
    return Counter(row["kind"] for row in await database.fetch("select kind from audit_payments"))


async def queued(js: JetStream) -> int:
    return await unfinished(js, topology.EXPIRY, topology.REAPER_POOL)


# -- the statements ----------------------------------------------------------------------------------------


async def test_what_is_due_is_cancelled_and_its_units_return_once(database: Any) -> None:
    await insert_sale(database, stock=10, limit=5)
    orders = await unpaid(database, 3, quantity=2)
    assert await stock(database) == (4, 6, 0)
    assert await expire(database, orders) == (3, 0)
    assert await expire(database, orders) == (0, 3), "a redelivery changes nothing"
    assert await stock(database) == (10, 0, 0)
    assert await statuses(database) == {"cancelled:expired": 3}
    returned = await database.fetch("select message_id, increment from outbox where increment is not null")
    assert [row["increment"] for row in returned] == [6]
    cancelled = await database.fetch("select payload from outbox where subject = 'order.cancelled'")
    assert {msgspec.json.decode(row["payload"])["order_id"] for row in cancelled} == {
        order.order_id for order in orders
    }


async def test_what_is_not_due_or_paid_stays(database: Any) -> None:
    await insert_sale(database, stock=10)
    early = await unpaid(database, 2, due=False)
    paid = await unpaid(database, 1, due=False)
    assert await pay(database, paid[0]) == "done"
    assert await expire(database, [*early, *paid, make_order()]) == (0, 4)
    assert await stock(database) == (7, 2, 1)


async def test_a_payment_after_the_time_is_up_loses_and_is_refunded_before_the_reaper_has_come(
    database: Any,
) -> None:
    """The deadline is a promise of the database's clock, not a matter of how busy the reaper is."""
    await insert_sale(database, stock=10)
    (order,) = await unpaid(database, 1)
    assert await pay(database, order) == "lost"
    assert await pay(database, order) == "lost", "the same payment again"
    assert await payments(database) == {"payment": 1, "refund": 1}
    assert await expire(database, [order]) == (1, 0)
    assert await stock(database) == (10, 0, 0)


async def test_a_second_payment_is_refunded_and_a_repeat_is_not(database: Any) -> None:
    await insert_sale(database, stock=10)
    (order,) = await unpaid(database, 1, due=False)
    assert [await pay(database, order, number) for number in (1, 1, 2, 2, 1)] == [
        "done", "repeated", "lost", "lost", "repeated",
    ]  # fmt: skip
    assert await payments(database) == {"payment": 2, "refund": 1}
    assert await stock(database) == (9, 0, 1)


async def test_a_paid_order_that_is_cancelled_is_refunded_and_its_unit_returns(database: Any) -> None:
    await insert_sale(database, stock=10)
    (order,) = await unpaid(database, 1, due=False)
    await pay(database, order)
    cancel = (
        "select outcome from transition_order($1, $2, 'cancel', $3, null, 'cancelled-by-customer', $4, '')"
    )
    for key, outcome in (("k", "done"), ("k", "repeated"), ("other", "illegal"), (None, "illegal")):
        assert await database.fetchval(cancel, TENANT, order.order_id, order.customer_id, key) == outcome
    assert await pay(database, order, 2) == "lost"
    assert await payments(database) == {"payment": 2, "refund": 2}
    assert await stock(database) == (10, 0, 0)


async def test_a_sale_that_grows_is_not_looked_through_for_one_order(database: Any) -> None:
    """A connection of the first minute keeps its plans; statistics come later."""
    await insert_sale(database, stock=10_000)
    orders = await unpaid(database, 30, due=False)
    async with database.acquire() as connection, connection.transaction():
        for order in orders[:10]:
            await pay(connection, order)
            await expire(connection, [order])
        orders += await unpaid(connection, 2_000, due=False)
        before = await _looked_through(connection)
        for order in orders[-3:]:
            assert await pay(connection, order) == "done"
            assert await expire(connection, [order]) == (0, 1)
        assert await _looked_through(connection) == before


async def _looked_through(connection: Any) -> int:
    """Times that all orders were read; some of earlier transactions too."""
    return int(
        await connection.fetchval("select seq_scan from pg_stat_xact_user_tables where relname = 'orders'")
    )


async def test_payment_and_expiry_at_the_same_moment_have_one_winner(database: Any) -> None:
    """Payments, cancellations and expiries of the same orders, all at once, around the deadline."""
    await insert_sale(database, stock=200, limit=1)
    orders = await unpaid(database, 120, due=False)
    # However slow the machine is: some have an hour left and some are late; the others are paid around their deadline.
    for ids, left in ((orders[:15], "1 hour"), (orders[15:30], "-1 ms"), (orders[30:], "150 ms")):
        await database.execute(
            f"update orders set expires_at = clock_timestamp() + interval '{left}' where order_id = any($1::uuid[])",
            [order.order_id for order in ids],
        )
    ends = time.monotonic() + 0.6
    outcomes: Counter[str] = Counter()

    async def buyer(number: int, order: Order) -> None:
        await asyncio.sleep(0.08 + 0.14 * number / len(orders))
        outcomes.update(await asyncio.gather(pay(database, order, 1), pay(database, order, 2)))

    async def reaper() -> None:
        while time.monotonic() < ends:
            await expire(database, orders)
            await asyncio.sleep(0.001)

    await asyncio.gather(reaper(), reaper(), *(buyer(number, order) for number, order in enumerate(orders)))
    await expire(database, orders)
    found = await statuses(database)
    assert found["paid"] + found["cancelled:expired"] == 120
    assert found["paid"] >= 15
    assert found["cancelled:expired"] >= 15
    assert outcomes["done"] == found["paid"]
    assert await payments(database) == {"payment": 240, "refund": 240 - found["paid"]}
    assert await stock(database) == (200 - found["paid"], 0, found["paid"])
    returned = await database.fetchval("select sum(increment) from outbox where increment is not null")
    assert returned == found["cancelled:expired"]


# -- sweep and reaper --------------------------------------------------------------------------------------


async def test_from_the_drain_to_the_offer(js: JetStream, database: Any) -> None:
    """The schedule wakes the sweep in the second of expiry: it does not wait for its own round of five seconds."""
    await insert_sale(database, stock=20, pay_within=1)
    await offer(js, 10)  # what ten accepted orders have left
    orders = await unpaid(database, 10, due=False)
    assert await pay(database, orders[0]) == "done"
    await set_pace(js, topology.REAPER_POOL, limit_per_second=1_000)
    began = time.monotonic()
    async with relay(js, database), drain(js, reaper_pool(js, database), topology.REAPER_POOL):
        await until(lambda: nothing_held(database), 10)
        woken_after = time.monotonic() - began
        await until(lambda: offered(js, 19), 10)
    assert woken_after < 4.0, "the sweep was not woken"
    assert await statuses(database) == {"paid": 1, "cancelled:expired": 9}
    assert await stock(database) == (19, 0, 1)


async def nothing_held(database: Any) -> bool:
    return bool(await database.fetchval("select reserved = 0 from sales"))


async def offered(js: JetStream, units: int) -> bool:
    return await on_offer(js) == units


async def test_a_sweep_queues_each_order_once_whatever_is_queued_already(
    js: JetStream, database: Any
) -> None:
    await insert_sale(database, stock=5_000)
    await unpaid(database, 3 * BATCH + 5)
    one = Sweep(js, database)
    assert await one.sweep() == 3 * BATCH + 5
    assert await one.sweep() == 0
    await unpaid(database, 7)
    assert await one.sweep() == 7
    anew = Sweep(js, database)  # another process: it goes on where the queue ends
    assert await anew.sweep() == 0
    assert await queued(js) == 3 * BATCH + 12


class Hiccup:
    """A connection to JetStream that loses the answer to one batch."""

    def __init__(self, js: JetStream, losing: int) -> None:
        self._js = js
        self._left = losing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._js, name)

    async def publish_batch(self, messages: Sequence[OutMessage]) -> PubAck:
        self._left -= 1
        ack = await self._js.publish_batch(messages)
        if self._left == 0:
            raise OutcomeUnknownError
        return ack


async def test_a_sweep_that_fails_in_the_middle_leaves_no_hole(js: JetStream, database: Any) -> None:
    await insert_sale(database, stock=5_000)
    await unpaid(database, 2 * BATCH + 10)
    sweep = Sweep(cast("JetStream", Hiccup(js, 2)), database)
    with pytest.raises(OutcomeUnknownError):
        await sweep.sweep()
    assert await queued(js) == 2 * BATCH, "the second one was stored, though nobody said so"
    assert await sweep.sweep() == BATCH + 10
    assert await queued(js) == 2 * BATCH + 10


async def test_a_sweep_reads_no_more_than_it_takes(database: Any) -> None:
    """Every second, among all that is unpaid; and a thousand that are due are not sorted for each few of them."""
    await insert_sale(database, stock=10_000)
    await unpaid(database, 5_000, due=False)
    await unpaid(database, 1_000)
    await database.execute("analyze orders")
    beginning = (0.0, "00000000-0000-0000-0000-000000000000")
    for name, arguments, read in (("find_due_orders", (*beginning, 10), 10), ("count_due_orders", (), 1_000)):
        rows = await database.fetch("explain (analyze, timing off) " + query(name), *arguments)
        plan = "\n".join(row[0] for row in rows)
        assert "orders_due" in plan, plan
        assert f"(actual rows={read}" in plan, plan
        assert "Removed by Filter" not in plan, plan
        assert "Sort" not in plan, plan


async def test_an_order_that_the_sweep_passed_by_is_found_when_the_queue_is_empty(
    js: JetStream, database: Any
) -> None:
    """Committed late, with a time that lies before what was swept already."""
    await insert_sale(database, stock=50)
    (late,) = await unpaid(database, 1, due=False)
    await unpaid(database, 3)
    sweep = Sweep(js, database)
    assert await sweep.sweep() == 3
    await database.execute(
        "update orders set expires_at = clock_timestamp() - interval '1 hour' where order_id = $1",
        late.order_id,
    )
    assert await sweep.sweep() == 0, "its time lies behind the cursor"
    await set_pace(js, topology.REAPER_POOL, limit_per_second=1_000)
    async with drain(js, reaper_pool(js, database), topology.REAPER_POOL):
        await until(lambda: reaped(js), 10)
        assert await sweep.sweep() == 1
        await until(lambda: nothing_held(database), 10)


async def reaped(js: JetStream) -> bool:
    return await queued(js) == 0


async def test_the_reaper_keeps_its_own_rate(js: JetStream, database: Any) -> None:
    """Over two workers, by the moments at which the limiter let them start."""
    await insert_sale(database, stock=2_000)
    await unpaid(database, 1_000)
    await set_pace(js, topology.REAPER_POOL, limit_per_second=200)
    await Sweep(js, database).sweep()
    async with (
        drain(js, reaper_pool(js, database), topology.REAPER_POOL) as one,
        drain(js, reaper_pool(js, database), topology.REAPER_POOL) as two,
    ):
        await until(lambda: nothing_held(database), 60)
        told = [worker.loop.telemetry(0.0) for worker in (one, two)]
    starts = sorted(at for word in told for at, count in word.starts for _ in range(count))
    assert len(starts) == 1_000
    assert busiest_second(starts)[0] <= 200 + default_burst(200)
    assert await statuses(database) == {"cancelled:expired": 1_000}


async def test_the_reaper_gathers_what_starts_into_few_transactions(js: JetStream, database: Any) -> None:
    """A hundred starts a tenth of a second, ten of them in each of the limiter's chunks."""
    await insert_sale(database, stock=2_000)
    await unpaid(database, 600)
    await set_pace(js, topology.REAPER_POOL, limit_per_second=1_000)
    await Sweep(js, database).sweep()
    async with drain(js, reaper_pool(js, database), topology.REAPER_POOL) as worker:
        await until(lambda: nothing_held(database), 60)
        word = worker.loop.telemetry(0.0)
    transactions = await database.fetchval("select count(distinct xmin::text) from orders")
    assert sum(count for _, count in word.starts) == 600
    assert len(word.starts) >= 60, "chunks of at most ten"
    assert transactions <= len(word.starts) / 3


async def test_what_a_reaper_had_in_hand_when_it_died_comes_again_and_changes_nothing(
    js: JetStream, database: Any
) -> None:
    """Committed, and killed before the acknowledgement; and killed before the commit."""
    await insert_sale(database, stock=50)
    await unpaid(database, 10)
    await Sweep(js, database).sweep()
    pool = reaper_pool(js, database)
    pull = js.pull(topology.EXPIRY, topology.REAPER_POOL)
    for round_ in range(3):
        batch = await take(pull, 10)
        if round_:
            assert len((await pool.process(batch, time.time())).finished) == 10
        for message in batch:
            await message.nak()
    assert await statuses(database) == {"cancelled:expired": 10}
    assert await stock(database) == (50, 0, 0)
    assert await database.fetchval("select sum(increment) from outbox where increment is not null") == 10


async def test_a_restart_of_nats_in_the_middle_expires_everything_once(
    js: JetStream, database: Any, fresh_database_url: str, nats_server: NatsServer, nats_url: str
) -> None:
    await insert_sale(database, stock=3_000)
    await offer(js, 1_000)
    await unpaid(database, 2_000)
    await set_pace(js, topology.REAPER_POOL, limit_per_second=1_000)
    async with (
        own_connections(nats_url, fresh_database_url) as (mine, own),
        relay(mine, own),
        drain(mine, reaper_pool(mine, own), topology.REAPER_POOL),
    ):
        await until(lambda: some_cancelled(database), 20)
        await nats_server.kill()
        await nats_server.start()
        await until(lambda: nothing_held(database), 60)
        await until(lambda: js.connected)
        await until(lambda: offered(js, 3_000), 30)
    assert await stock(database) == (3_000, 0, 0)


async def some_cancelled(database: Any) -> bool:
    return bool(await database.fetchval("select exists (select from orders where status = 'cancelled')"))
