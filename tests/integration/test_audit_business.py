"""The auditor and the whole business on real servers: payments, expiry, effects, retries; then damage to each."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from pools import batch_pool, drain, effects_pool, orders_pool, reaper_pool, relay
from support import TENANT, drain_batch, insert_sale, make_order, offer, until

from peakclip import messages, topology
from peakclip.audit import AuditResult, RateLimit, audit_system, run_audit
from peakclip.audit.rest import look, under_way
from peakclip.dead_letters import Desk
from peakclip.jetstream import InMessage, JetStream
from peakclip.limiter.pace import set_pace
from peakclip.messages import Order
from peakclip_worker.batch import BatchPool
from peakclip_worker.pools.orders import DrainOrders
from peakclip_worker.timers import Timers

pytestmark = pytest.mark.integration

RATE = RateLimit(1_000, 50)
PROVIDER = "p-1"


async def business(js: JetStream, database: Any) -> dict[str, Order]:
    """Five orders of a sale, each with another end, and an ordinary one to its review; nothing is under way."""
    await insert_sale(database, stock=10, limit=9)
    await offer(js, 10)
    names = ("new", "paid", "back", "late", "twice")
    orders = {name: make_order(customer_id=name, accepted_at=time.time()) for name in names}
    await store(js, list(orders.values()))
    for pool in topology.POOLS:
        await set_pace(js, pool, limit_per_second=1_000)
    async with (
        relay(js, database),
        drain(js, orders_pool(js, database), topology.ORDERS_POOL),
        drain(js, effects_pool(js, database), topology.EFFECTS_POOL),
        drain(js, reaper_pool(js, database), topology.REAPER_POOL),
    ):
        await until(lambda: counted(database, "orders", 5))
        await pay(database, orders["paid"], "A")
        await pay(database, orders["paid"], "A")
        await pay(database, orders["twice"], "B")
        await pay(database, orders["twice"], "C")
        await pay(database, orders["back"], "D")
        await cancel(database, orders["back"])
        await expire_soon(database, orders["late"])
        orders["ordinary"] = await serve(database)
        await until(lambda: settled(js, database), 30)
    await settle_reservations(js)
    return orders


async def store(js: JetStream, orders: Sequence[Order]) -> None:
    await js.increment(topology.stock_subject("s1"), -len(orders), message_id="g-f1-s1")
    headers = {topology.FRAME_ORDERS_HEADER: str(len(orders))}
    frame = messages.encode_frame(orders)
    await js.publish(topology.frame_subject("f1"), frame, create_only=True, headers=headers)


async def counted(database: Any, table: str, count: int) -> bool:
    return await database.fetchval(f"select count(*) from {table}") == count


async def pay(database: Any, order: Order, name: str) -> None:
    payment = uuid.uuid5(uuid.NAMESPACE_OID, name)
    await database.fetch("select * from pay_order($1, $2, null, $3, '')", TENANT, order.order_id, payment)


async def transition(database: Any, order: Order, action: str) -> None:
    outcome = await database.fetchval(
        "select outcome from transition_order($1, $2, $3, null, $4, 'cancelled-by-customer', null, '')",
        TENANT, order.order_id, action, PROVIDER,
    )  # fmt: skip
    assert outcome == "done", (action, outcome)


async def cancel(database: Any, order: Order) -> None:
    await transition(database, order, "cancel")


async def expire_soon(database: Any, order: Order) -> None:
    await database.execute(
        "update orders set expires_at = clock_timestamp() + interval '0.2 s' where order_id = $1",
        order.order_id,
    )


async def serve(database: Any) -> Order:
    """An ordinary order: created at once, accepted, completed, paid and reviewed badly."""
    await database.execute(
        "insert into providers (provider_id, tenant, name, latitude, longitude, radius_m, fingerprint)"
        " values ($1, $2, 'P', 1, 1, 5000, 'f')", PROVIDER, TENANT,
    )  # fmt: skip
    await database.execute(
        "insert into pets (pet_id, tenant, customer_id, name, species, fingerprint)"
        " values ('pet', $1, 'ada', 'Rex', 'dog', 'f')", TENANT,
    )  # fmt: skip
    await database.execute(
        "insert into service_packages (service_package_id, tenant, name, price_cents, duration_minutes, fingerprint)"
        " values ('walk', $1, 'Walk', 900, 30, 'f')", TENANT,
    )  # fmt: skip
    order = make_order(customer_id="ada", sale_id="")
    body = {
        "order_id": order.order_id, "tenant": TENANT, "customer_id": "ada", "pet_id": "pet", "latitude": 1.0,
        "longitude": 1.0, "service_package_id": "walk", "service_date": "2027-01-01T00:00:00Z", "fingerprint": "f",
        "accepted_at": time.time(), "traceparent": "",
    }  # fmt: skip
    await database.fetch("select * from create_orders($1, null, false)", msgspec.json.encode([body]).decode())
    for action in ("accept", "start", "complete"):
        await transition(database, order, action)
    await pay(database, order, "E")
    await database.fetch(
        "select * from create_review('r1', $1, $2, 'ada', 1, 'bad', 'f', '')", TENANT, order.order_id
    )
    return order


async def settled(js: JetStream, database: Any) -> bool:
    moment = await look(database, js)
    due = await database.fetchval("select count(*) from orders where status = 'cancelled'") < 2
    return not due and not moment.events_unfinished and not moment.outbox_rows and not moment.due_orders


async def settle_reservations(js: JetStream) -> None:
    """As the reconciler does, who is not running here."""
    pull = js.pull(topology.STOCK, "reconciler")
    while batch := await pull.fetch(100, 0.2):
        for message in batch:
            await message.ack()


async def audited(js: JetStream, database: Any) -> AuditResult:
    return await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)


def found(result: AuditResult) -> set[tuple[int, str]]:
    return {(one.invariant, one.message) for one in result.violations}


async def test_a_sound_business_passes_and_every_damage_to_it_is_named(js: JetStream, database: Any) -> None:
    orders = await business(js, database)
    accepted = {order.order_id: 1 for order in orders.values()}
    result, reasons = await audit_system(database, js, accepted=accepted, wait_seconds=10, rate=RATE)
    assert reasons == []
    assert result.violations == []
    details = {check.name: check.detail for check in result.checks}
    assert details["payment against expiry"] == "5 payments, 2 refunds, 4 orders that were paid"
    assert details["returned units"] == "2 units of cancelled orders, 2 returned"
    assert details["accepted orders"].startswith("6 rows, 0 waiting")
    assert details["effects happen once"].startswith("49 effects of 16 events, 0 events not finished")

    for damage, invariant, message in DAMAGES:
        await check_damage(js, database, damage, invariant, message)
    assert (await audited(js, database)).violations == []


OTHER_AMOUNT = "refunds of another amount or order than their payment"
OWED = "payments that lost, or of cancelled orders, without a refund"
WRONG_SUM = "sums that are not those of their events"
LATE = "update orders set paid_at = expires_at where status = 'paid'"
DAMAGES = [
    ("delete from payments where kind = 'refund'", 4, OWED),
    ("delete from payments where kind = 'payment'", 4, "refunds without a payment"),
    ("update orders set status = 'cancelled' where status = 'paid'", 4, OWED),
    (LATE, 4, "paid too late"),
    ("update orders set cancelled_at = expires_at - interval '1 s'", 4, "expired too early"),
    ("update payments set amount_cents = 1 where kind = 'refund'", 4, OTHER_AMOUNT),
    ("delete from effects where effect = 'notify-customer'", 5, "events that are finished and lack effects"),
    ("update effects set effect = 'tickets' where effect = 'ticket'", 5, "effects that their event does not call for"),
    ("delete from order_history where version = 2", 5, WRONG_SUM),
    ("update daily_figures set revenue_cents = revenue_cents + 100", 5, WRONG_SUM),
    ("update daily_figures set ratings = 0", 5, WRONG_SUM),
    ("delete from daily_figures", 5, WRONG_SUM),
    ("update providers set rating_sum = rating_sum + 1", 5, WRONG_SUM),
    ("update providers set completed_orders = 0", 5, WRONG_SUM),
    ("delete from tickets", 5, WRONG_SUM),
    ("update orders set version = version + 1", 5, "transitions without their event"),
    ("update orders set version = 1", 5, "events of transitions that never were"),
    ("update orders set status = 'cancelled', reason = 'expired' where status = 'pending_payment'", 3,
     "units of cancelled orders that were not returned"),
    ("update orders set reason = 'expired'", 3, "units returned for an order that does not explain them"),
    ("update orders set status = 'rejected' where reason = 'expired'", 3,
     "more units returned than orders were cancelled"),
]  # fmt: skip


async def check_damage(js: JetStream, database: Any, damage: str, invariant: int, message: str) -> None:
    """Done in a transaction of the auditor's own, so that the next one meets a sound system."""
    async with database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(damage)
        assert (invariant, message) in found(await audited(js, OnePool(connection))), damage
        await transaction.rollback()


class OnePool:
    """A pool of one connection that is inside of a transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def acquire(self) -> OnePool:
        return self

    async def __aenter__(self) -> Any:
        return SameTransaction(self._connection)

    async def __aexit__(self, *_: object) -> None:
        return None


class SameTransaction:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def transaction(self, **_: Any) -> Any:
        return self._connection.transaction()


# -- what waits for another attempt ------------------------------------------------------------------------


class Broken(DrainOrders):
    async def commit(self, items: Any, started_at: float) -> None:
        raise ValueError("not this time")


async def one_order(js: JetStream, database: Any) -> Order:
    await insert_sale(database)
    await offer(js, 10)
    order = make_order(accepted_at=time.time())
    await store(js, [order])
    async with relay(js, database, ["frames"]):
        await until(lambda: has_message(js, 1))
    return order


async def has_message(js: JetStream, seq: int) -> bool:
    return (await js.stream_state(topology.SECKILL)).last_seq == seq


async def fail(js: JetStream, database: Any, backoff: float) -> InMessage:
    """Fails once and is scheduled; acknowledged as a worker does."""
    pool: BatchPool[Any] = BatchPool(topology.ORDERS_POOL, js, database, Broken(database), (backoff, backoff))
    (message,) = await js.pull(topology.SECKILL, topology.ORDERS_POOL).fetch(1, 2.0)
    assert (await pool.process([message], 0.0)).finished == [message]
    await message.ack()
    return message


async def test_an_order_that_waits_for_another_attempt_is_neither_lost_nor_at_rest(
    js: JetStream, database: Any
) -> None:
    """As a schedule; delivered and not yet moved; back in its queue; and in the end a row."""
    order = await one_order(js, database)
    known = {order.order_id: 1}

    async def audit() -> list[str]:
        result, reasons = await audit_system(database, js, accepted=known, wait_seconds=0, rate=RATE)
        assert result.lost == 0
        return reasons

    await fail(js, database, backoff=0.6)
    assert "orders: 1 wait for another attempt" in await audit()
    await until(lambda: due(js))
    assert "TIMERS/relay: 1 not finished" in await audit()
    (message,) = await js.pull(topology.TIMERS, topology.RELAY).fetch(1, 5.0)
    await Timers(js, lambda: None)._handle(message)
    assert "SECKILL/orders: 1 not finished" in await audit()
    await set_pace(js, topology.ORDERS_POOL, limit_per_second=1_000)
    async with drain(js, orders_pool(js, database), topology.ORDERS_POOL):
        await until(lambda: counted(database, "orders", 1))
    assert not [reason for reason in await audit() if "orders" in reason]


async def due(js: JetStream) -> bool:
    return await js.count_messages(topology.TIMERS, topology.due_subject(topology.ORDERS_POOL)) == 1


async def test_a_delayed_order_that_vanishes_is_lost(js: JetStream, database: Any) -> None:
    """The schedule is removed by hand: nothing is left of the order but its frame."""
    order = await one_order(js, database)
    await fail(js, database, backoff=300)
    await js.purge_below(topology.TIMERS, 1_000, subject=topology.delayed_subject(topology.ORDERS_POOL, ">"))
    result = await audited(js, database)
    assert result.lost == 1
    assert result.violations[0].rows == [{"order_id": order.order_id, "seen": "SECKILL 1"}]


async def test_a_message_that_the_server_gave_up_without_a_word_is_lost_and_named(
    js: JetStream, database: Any
) -> None:
    """Its advisory was lost, so there is no dead letter: it is in the stream, and nobody will ever get it."""
    order = await one_order(js, database)
    config = topology.CONSUMERS[topology.SECKILL, topology.ORDERS_POOL]
    name = {"durable_name": topology.ORDERS_POOL, "ack_policy": "explicit", "deliver_policy": "all"}
    await js.ensure_consumer(topology.SECKILL, {**name, **config, "ack_wait": 200_000_000, "max_deliver": 1})
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    await pull.fetch(1, 2.0)
    async with asyncio.timeout(10):
        while (await js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)).ack_pending:
            await pull.fetch(1, 0.2)
    result = await audited(js, database)
    assert result.lost == 1
    assert result.violations[0].rows == [{"order_id": order.order_id, "seen": "SECKILL 1"}]


async def test_an_event_that_waits_for_another_attempt_lacks_nothing_and_one_that_vanished_does(
    js: JetStream, database: Any
) -> None:
    await insert_sale(database)
    await drain_batch(database, [order := make_order()])
    async with relay(js, database, ["outbox"]):
        await until(lambda: counted(database, "outbox", 0))

    class Refuses:
        def read(self, message: InMessage) -> bytes:
            return message.payload

        async def commit(self, items: Any, started_at: float) -> None:
            raise ValueError("not this time")

    pool: BatchPool[Any] = BatchPool(topology.EFFECTS_POOL, js, database, Refuses(), (300.0, 300.0))
    (message,) = await js.pull(topology.EVENTS, topology.EFFECTS_POOL).fetch(1, 2.0)
    await pool.process([message], 0.0)
    await message.ack()
    lacking = (5, "events that are finished and lack effects")
    assert lacking not in found(await audited(js, database))
    await js.purge_below(topology.TIMERS, 1_000, subject=topology.delayed_subject(topology.EFFECTS_POOL, ">"))
    result = await audited(js, database)
    assert lacking in found(result)
    (row,) = next(one.rows for one in result.violations if one.invariant == 5)
    assert row["event_id"] == f"{order.order_id}:1"


async def test_what_was_given_up_by_hand_is_no_loss_and_what_was_deleted_is(
    js: JetStream, database: Any
) -> None:
    order = await one_order(js, database)
    pool = batch_pool(topology.ORDERS_POOL, js, database, Broken(database))
    (message,) = await js.pull(topology.SECKILL, topology.ORDERS_POOL).fetch(1, 2.0)
    await pool._bury(message, "broken", 3)
    await message.ack()
    assert (await audited(js, database)).lost == 0
    desk = Desk(database)
    await desk.drop(list((await desk.find(["f1.0"])).values()))
    result = await audited(js, database)
    assert result.lost == 0
    assert "1 given up by hand" in result.checks[0].detail
    await database.execute("delete from dropped_dead_letters")
    result = await audited(js, database)
    assert result.lost == 1
    assert result.violations[0].rows[0]["order_id"] == order.order_id


async def test_due_orders_are_not_at_rest(js: JetStream, database: Any) -> None:
    await insert_sale(database)
    await drain_batch(database, [make_order()])
    assert not [one for one in under_way(await look(database, js)) if "due" in one]
    await database.execute("update orders set expires_at = now()")
    assert "1 unpaid orders are due and not yet cancelled" in under_way(await look(database, js))
