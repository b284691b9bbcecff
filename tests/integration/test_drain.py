"""From SECKILL to rows: the judge in the database alone, then the worker's loop with real servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pools import Worker, drain, orders_pool, own_connections, relay, take
from support import NOW, drain_batch, insert_sale, make_order, new_name, unfinished, until
from trade import insert_orders

from peakclip import messages, store, topology
from peakclip.jetstream import InMessage, JetStream, OutMessage
from peakclip.limiter.limiter import Limiter
from peakclip.limiter.pace import set_pace
from peakclip.local.postgres import PostgresServer
from peakclip.messages import Order
from peakclip.service import Service
from peakclip_worker.consumer import BatchResult, Drain

pytestmark = pytest.mark.integration

# -- the judge: drain_seckill ------------------------------------------------------------------------------


async def stock(database: Any, sale_id: str = "s1") -> tuple[int, int, int]:
    """Available, reserved, sold."""
    return tuple(
        await database.fetchrow("select available, reserved, sold from sales where sale_id = $1", sale_id)
    )


async def reasons(database: Any) -> Counter[str]:
    rows = await database.fetch("select coalesce(reason, status) as told from orders")
    return Counter(row["told"] for row in rows)


async def given_back(database: Any, sale_id: str = "s1") -> list[int]:
    rows = await database.fetch(
        "select increment from outbox where subject = $1 order by id", topology.stock_subject(sale_id)
    )
    return [row["increment"] for row in rows]


async def events(database: Any) -> Counter[str]:
    return Counter(
        row["subject"]
        for row in await database.fetch(
            "select subject from outbox where increment is null and subject not like 'timer.%'"
        )
    )


async def timers(database: Any) -> list[str]:
    rows = await database.fetch("select subject from outbox where subject like 'timer.expiry.%'")
    return [row["subject"] for row in rows]


async def test_a_batch_becomes_rows_stock_and_events(database: Any) -> None:
    await insert_sale(database, stock=10, limit=3)
    orders = [make_order(quantity=quantity) for quantity in (1, 2, 3)]
    assert await drain_batch(database, orders) == (3, 0, 0)
    assert await stock(database) == (4, 6, 0)
    rows = await database.fetch("select * from orders order by quantity")
    for row, order in zip(rows, orders, strict=True):
        assert str(row["order_id"]) == order.order_id
        assert (row["tenant"], row["customer_id"], row["status"]) == (
            "t1",
            order.customer_id,
            "pending_payment",
        )
        assert (row["frame_id"], row["fingerprint"], row["reason"]) == ("f1", "print", None)
        assert row["started_at"] == NOW
        assert row["accepted_at"].timestamp() == make_order().accepted_at
        assert 890 < (row["expires_at"] - row["committed_at"]).total_seconds() < 910
    assert await events(database) == {"order.created": 3}
    assert len(await timers(database)) in (1, 2)  # one for each second in which something expires
    assert await given_back(database) == []


async def test_a_batch_that_comes_again_changes_nothing(database: Any) -> None:
    await insert_sale(database, stock=3)
    orders = [make_order() for _ in range(5)]
    assert await drain_batch(database, orders) == (3, 2, 0)
    before = await database.fetch("table orders")
    outbox = await database.fetch("table outbox")
    assert await drain_batch(database, orders) == (0, 0, 5)
    assert await drain_batch(database, orders[::-1] + orders) == (0, 0, 10)
    assert await database.fetch("table orders") == before
    assert await database.fetch("table outbox") == outbox
    assert await stock(database) == (0, 3, 0)


async def test_an_order_twice_in_one_batch_is_one_order(database: Any) -> None:
    await insert_sale(database, stock=3)
    order = make_order()
    assert await drain_batch(database, [order, order]) == (1, 0, 1)
    assert await stock(database) == (2, 1, 0)
    assert await given_back(database) == []


async def test_an_order_admitted_twice_gives_the_second_reservation_back_once(database: Any) -> None:
    await insert_sale(database, stock=9, limit=2)
    order = make_order(quantity=2)
    await drain_batch(database, [order], "f1")
    for _ in range(3):
        assert await drain_batch(database, [order], "f2") == (0, 0, 1)
    assert await drain_batch(database, [order, order], ["f2", "f1"]) == (0, 0, 2)
    assert await given_back(database) == [2]
    await drain_batch(database, [order, order], "f3")  # the same message twice in hand
    assert await given_back(database) == [2, 2]
    assert await stock(database) == (7, 2, 0)
    assert await events(database) == {"order.created": 1}
    ids = [
        row["message_id"] for row in await database.fetch("select message_id from outbox where increment > 0")
    ]
    assert ids == [f"b-f2-{order.order_id}", f"b-f3-{order.order_id}"]


async def test_both_admissions_of_an_order_in_one_batch(database: Any) -> None:
    await insert_sale(database, stock=9)
    order = make_order()
    assert await drain_batch(database, [order, order], ["f1", "f2"]) == (1, 0, 1)
    assert await given_back(database) == [1]
    assert await database.fetchval("select frame_id from orders") == "f1"


async def test_a_key_used_for_two_sales_at_once_gives_the_loser_its_units_back(database: Any) -> None:
    await insert_sale(database, "s1")
    await insert_sale(database, "s2")
    key = new_name("key-")
    one, other = make_order(key, sale_id="s1"), make_order(key, sale_id="s2")
    assert one.order_id == other.order_id
    results = await asyncio.gather(drain_batch(database, [one], "f1"), drain_batch(database, [other], "f2"))
    assert sorted(results) == [(0, 0, 1), (1, 0, 0)]
    assert sorted([await given_back(database, "s1"), await given_back(database, "s2")]) == [[], [1]]
    winner = await database.fetchval("select sale_id from orders")
    assert await given_back(database, winner) == []


async def test_a_key_of_an_order_that_did_not_wait_in_line_gives_the_units_back_once(database: Any) -> None:
    """That one is of no frame, and the line does not know its key: the sale has admitted another."""
    await insert_sale(database, stock=10, limit=5)
    order = make_order(quantity=2)
    await insert_orders(database, 1)
    await database.execute("update orders set order_id = $1", order.order_id)
    for _ in range(2):
        assert await drain_batch(database, [order]) == (0, 0, 1)
    assert await given_back(database) == [2]


async def test_beyond_the_limit_is_rejected_and_goes_back(database: Any) -> None:
    await insert_sale(database, stock=10, limit=2)
    same = [make_order(customer_id="c1") for _ in range(4)]
    assert await drain_batch(database, same[:1]) == (1, 0, 0)
    assert await drain_batch(database, same[1:]) == (1, 2, 0)
    assert await reasons(database) == {"pending_payment": 2, "limit-reached": 2}
    assert await given_back(database) == [1, 1]
    assert await stock(database) == (8, 2, 0)
    assert await events(database) == {"order.created": 2, "order.rejected": 2}


async def test_a_cancelled_order_does_not_count_against_the_limit(database: Any) -> None:
    await insert_sale(database, stock=10, limit=1)
    await drain_batch(database, [make_order(customer_id="c1")])
    await database.execute("update orders set status = 'cancelled'")
    assert await drain_batch(database, [make_order(customer_id="c1")]) == (1, 0, 0)


async def test_the_limit_of_one_sale_does_not_concern_another(database: Any) -> None:
    for sale in ("s1", "s2"):
        await insert_sale(database, sale, limit=1)
    orders = [make_order(customer_id="c1", sale_id=sale) for sale in ("s1", "s2")]
    assert await drain_batch(database, orders) == (2, 0, 0)


async def test_beyond_the_stock_is_rejected_and_only_what_is_left_goes_back(database: Any) -> None:
    """4 + 4 of 10: the third finds 2. Its other 2 were never there, so they do not go back."""
    await insert_sale(database, stock=10, limit=4)
    assert await drain_batch(database, [make_order(quantity=4) for _ in range(4)]) == (2, 2, 0)
    assert await reasons(database) == {"pending_payment": 2, "sold-out": 2}
    assert await given_back(database) == [2]
    assert await stock(database) == (2, 8, 0)


async def test_a_rejected_order_takes_nothing_from_those_behind_it(database: Any) -> None:
    await insert_sale(database, stock=3, limit=2)
    greedy = [make_order(customer_id="c1", quantity=2), make_order(customer_id="c1", quantity=2)]
    assert await drain_batch(database, [*greedy, make_order()]) == (2, 1, 0)
    assert await stock(database) == (0, 3, 0)


async def test_an_unknown_sale_is_a_rejection_with_its_reason(database: Any) -> None:
    await insert_sale(database)
    assert await drain_batch(database, [make_order(sale_id="nowhere"), make_order()]) == (1, 1, 0)
    assert await reasons(database) == {"unknown-sale": 1, "pending_payment": 1}
    assert await given_back(database, "nowhere") == []


async def test_batches_at_once_neither_oversell_nor_undersell(database: Any) -> None:
    """Four connections, overlapping batches in any order, each order twice, two sales, limits and quantities."""
    chance = random.Random(7)
    for sale in ("s1", "s2"):
        await insert_sale(database, sale, stock=150, limit=2)
    orders = [
        make_order(
            sale_id=chance.choice(["s1", "s2"]), customer_id=f"c{n % 150}", quantity=chance.choice([1, 1, 2])
        )
        for n in range(400)
    ]
    twice = orders + orders
    chance.shuffle(twice)
    batches = [twice[first : first + 25] for first in range(0, len(twice), 25)]

    async def one_worker(number: int) -> list[tuple[int, int, int]]:
        return [await drain_batch(database, batch) for batch in batches[number::4]]

    results = [result for part in await asyncio.gather(*map(one_worker, range(4))) for result in part]
    assert sum(created + rejected for created, rejected, _ in results) == 400
    assert sum(repeated for *_, repeated in results) == 400
    for sale in ("s1", "s2"):
        available, reserved, sold = await stock(database, sale)
        assert (available + reserved, sold) == (150, 0)
        assert reserved == await database.fetchval(
            "select sum(quantity) from orders where sale_id = $1 and status = 'pending_payment'", sale
        )
    assert not await database.fetch(
        "select 1 from orders where status = 'pending_payment' group by sale_id, customer_id having sum(quantity) > 2"
    )
    rejected = await database.fetchval("select count(*) from orders where status = 'rejected'")
    assert await events(database) == {"order.created": 400 - rejected, "order.rejected": rejected}


async def test_batches_at_once_sell_all_of_the_stock(database: Any) -> None:
    await insert_sale(database, stock=100)
    orders = [make_order() for _ in range(300)]
    results = await asyncio.gather(
        *(drain_batch(database, orders[first : first + 10]) for first in range(0, 300, 10))
    )
    assert sum(created for created, *_ in results) == 100
    assert await stock(database) == (0, 100, 0)
    assert await given_back(database) == []


# -- the worker --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def worker(nats_url: str, database_url: str, work_ms: float = 0.0) -> AsyncIterator[Worker]:
    """A worker with connections of its own, and the relay's part for what waits to be tried again."""
    async with (
        own_connections(nats_url, database_url) as (js, database),
        relay(js, database, ["timers"]),
        drain(js, orders_pool(js, database, work_ms), topology.ORDERS_POOL) as one,
    ):
        yield one


@pytest.fixture
async def queue(js: JetStream, database: Any) -> JetStream:
    """A sale of a thousand units, and workers may go fast."""
    await insert_sale(database, stock=1_000)
    await set_pace(js, topology.ORDERS_POOL, limit_per_second=5_000)
    return js


def as_message(order: Order, frame: str = "f1") -> OutMessage:
    return OutMessage(
        topology.seckill_subject(order.sale_id),
        messages.encode(order),
        {"Nats-Msg-Id": new_name("m"), topology.FRAME_HEADER: frame},
    )


async def enqueue(js: JetStream, orders: Sequence[Order], frame: str = "f1") -> None:
    for first in range(0, len(orders), 250):
        await js.publish_batch([as_message(order, frame) for order in orders[first : first + 250]])


async def drained(js: JetStream) -> bool:
    delayed = (await js.stream_state(topology.TIMERS)).messages - await _moved(js)
    return delayed == 0 and await unfinished(js, topology.SECKILL, topology.ORDERS_POOL) == 0


async def _moved(js: JetStream) -> int:
    """Deliveries of schedules that the relay has moved on."""
    answer = await js._api("STREAM.INFO.TIMERS", b'{"subjects_filter": "timer.due.>"}')
    due = sum((answer["state"].get("subjects") or {}).values())
    return due - await unfinished(js, topology.TIMERS, "relay")


async def rows(database: Any) -> dict[str, str]:
    return {
        str(row["order_id"]): row["status"]
        for row in await database.fetch("select order_id, status from orders")
    }


async def dead(database: Any) -> list[Any]:
    return list(await database.fetch("select * from dead_letters order by at"))


async def test_workers_drain_every_order_once(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    orders = [make_order() for _ in range(600)]
    await enqueue(queue, orders)
    async with worker(nats_url, fresh_database_url) as one, worker(nats_url, fresh_database_url):
        await until(lambda: drained(queue))
        telemetry = one.loop.telemetry(5.0)
    assert await rows(database) == {order.order_id: "pending_payment" for order in orders}
    assert await stock(database) == (400, 600, 0)
    assert (telemetry.in_flight, telemetry.failed, telemetry.at) == (0, 0, 5.0)
    assert 0 < telemetry.finished <= 600
    assert telemetry.busy_seconds > 0


async def test_a_worker_that_takes_one_at_a_time_says_so(queue: JetStream, database: Any) -> None:
    await enqueue(queue, [make_order() for _ in range(30)])
    pool = orders_pool(queue, database)
    sizes: list[int] = []
    process = pool.process

    async def counting(batch: Sequence[InMessage], started_at: float) -> BatchResult:
        sizes.append(len(batch))
        return await process(batch, started_at)

    pool.process = counting  # type: ignore[method-assign]
    async with drain(queue, pool, topology.ORDERS_POOL, most_at_once=1) as one:
        await until(lambda: drained(queue))
        assert one.loop.telemetry(0.0).most_at_once == 1
    assert sizes == [1] * 30


POISON = {
    "not JSON": b"\xff not an order",
    "another shape": b'{"order_id": 1}',
    "empty": b"",
    "a quantity of zero": messages.encode(make_order(quantity=0)),
    "a quantity beyond the type": messages.encode(make_order(quantity=2**40)),
    "a NUL in a name": messages.encode(make_order(customer_id="a\0b")),
    "an id that is none": messages.encode(make_order(order_id="not-a-uuid")),
    "a time beyond the calendar": messages.encode(make_order(accepted_at=1e12)),
    "a time beyond the clock": messages.encode(make_order(accepted_at=1e17)),
    "a time beyond everything": messages.encode(make_order(accepted_at=1e300)),
    "a time before PostgreSQL's": messages.encode(make_order(accepted_at=-62_135_596_800.0)),
}


async def test_poison_is_set_aside_with_its_cause_and_its_neighbours_pass(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    good = [make_order() for _ in range(len(POISON) * 4)]
    subject = topology.seckill_subject("s1")
    for number, (name, payload) in enumerate(POISON.items()):
        await enqueue(queue, good[number * 4 : number * 4 + 4])
        await queue.publish(subject, payload, message_id=f"poison {name}", headers={"Other": "kept"})
    async with worker(nats_url, fresh_database_url) as one:
        await until(lambda: drained(queue), 20)
        assert one.loop.telemetry(0.0).failed >= len(POISON) - 1
    found = {row["message_id"]: row for row in await dead(database)}
    kept = {f"poison {name}" for name in POISON} - {"poison a time before PostgreSQL's"}
    assert kept <= set(found)
    for name, payload in POISON.items():
        row = found.get(f"poison {name}")
        if row is None:
            continue
        assert (row["pool"], row["subject"], row["payload"]) == ("orders", subject, payload)
        assert row["cause"]
        assert 1 <= row["attempts"] <= 3
        assert '"Other":' in row["headers"]
    passed = await rows(database)
    assert {order.order_id for order in good} <= set(passed)
    assert set(passed.values()) == {"pending_payment"}


async def test_a_dead_letter_can_hold_anything_that_came_in_a_header(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    order = make_order()
    await queue.publish(
        topology.seckill_subject("s1"),
        b"poison",
        message_id="m-1",
        headers={"Odd": "a\0b", "Long": "x" * 3_000},
    )
    await enqueue(queue, [order])
    async with worker(nats_url, fresh_database_url):
        await until(lambda: drained(queue))
    assert [row["message_id"] for row in await dead(database)] == ["m-1"]
    assert await rows(database) == {order.order_id: "pending_payment"}


async def test_a_database_that_cannot_write_is_no_fault_of_the_orders(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    """A replica, a full disk or a missing migration refuses everything: the orders wait, none is set aside."""
    orders = [make_order() for _ in range(50)]
    await database.execute("alter table orders rename to orders_elsewhere")
    await enqueue(queue, orders)
    async with worker(nats_url, fresh_database_url) as one:
        await until(lambda: one.in_hand > 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await until(lambda: any_dead(database), 10)
        assert await dead(database) == []
        await database.execute("alter table orders_elsewhere rename to orders")
        await until(lambda: drained(queue))
    assert await rows(database) == {order.order_id: "pending_payment" for order in orders}
    assert await dead(database) == []


async def any_dead(database: Any) -> bool:
    return bool(await dead(database))


async def test_a_database_that_restarts_loses_nothing(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str, postgres_server: PostgresServer
) -> None:
    orders = [make_order() for _ in range(400)]
    await set_pace(queue, topology.ORDERS_POOL, limit_per_second=400)
    await enqueue(queue, orders)
    async with worker(nats_url, fresh_database_url, work_ms=20), worker(nats_url, fresh_database_url):
        await until(lambda: rows(database))
        await postgres_server.kill()
        await asyncio.sleep(0.2)  # they meet a server that is not there
        await postgres_server.start()
        await until(lambda: drained(queue), 30)
    async with await store.connect(fresh_database_url) as pool:
        assert await rows(pool) == {order.order_id: "pending_payment" for order in orders}
        assert await stock(pool) == (600, 400, 0)
        assert await dead(pool) == []


async def test_what_a_lost_worker_had_in_hand_comes_again_and_counts_once(
    queue: JetStream, database: Any
) -> None:
    """Committed, then killed before the acknowledgement."""
    orders = [make_order() for _ in range(10)]
    await enqueue(queue, orders)
    pool = orders_pool(queue, database)
    for _ in range(2):
        pull = queue.pull(topology.SECKILL, topology.ORDERS_POOL)
        batch = await take(pull, 10)
        assert len((await pool.process(batch, 1_800_000_000.0)).finished) == 10
        for message in batch:
            await message.nak()
    assert await rows(database) == {order.order_id: "pending_payment" for order in orders}
    assert await stock(database) == (990, 10, 0)


async def test_a_worker_that_is_cancelled_while_it_waits_for_its_start_ends(
    queue: JetStream, database: Any
) -> None:
    await enqueue(queue, [make_order()])
    never = Limiter(queue, topology.ORDERS_POOL)  # has not looked at any pace
    pull = queue.pull(topology.SECKILL, topology.ORDERS_POOL)
    loop = Drain(queue, pull, never, orders_pool(queue, database), topology.ORDERS_POOL)
    task = asyncio.create_task(loop.run(Service()))
    await until(lambda: loop.telemetry(0.0).in_flight == 1)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def test_a_worker_that_is_told_to_stop_finishes_what_has_started_and_gives_the_rest_back(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    orders = [make_order() for _ in range(200)]
    await enqueue(queue, orders)
    async with worker(nats_url, fresh_database_url, work_ms=300) as one:
        await until(lambda: one.in_hand > 0 and one.loop._acquiring is None)
        in_hand = [messages.decode_order(message.payload).order_id for message in one.loop._in_hand]
        assert await rows(database) == {}
        await one.stop()
        done = await rows(database)
        assert done
        assert set(done) <= set(in_hand)
        assert one.in_hand == 0
        state = await queue.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
        assert state.pending + state.ack_pending == 200 - len(done)
    # Given back means at once, and not after ack_wait.
    pull = queue.pull(topology.SECKILL, topology.ORDERS_POOL)
    left: set[int] = set()
    async with asyncio.timeout(topology.ACK_WAIT_SECONDS / 2):
        while len(left) < 200 - len(done):
            left |= {message.seq for message in await pull.fetch(256, 0.5)}


async def test_a_worker_that_waits_for_the_limiter_gives_everything_back_when_it_is_told_to_stop(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    await set_pace(queue, topology.ORDERS_POOL, paused=True)
    await enqueue(queue, [make_order() for _ in range(20)])
    async with worker(nats_url, fresh_database_url) as one:
        await until(lambda: one.loop._acquiring is not None)
        await one.stop()
    assert await rows(database) == {}
    pull = queue.pull(topology.SECKILL, topology.ORDERS_POOL)
    left: set[int] = set()
    async with asyncio.timeout(topology.ACK_WAIT_SECONDS / 2):
        while len(left) < 20:
            left |= {message.seq for message in await pull.fetch(256, 0.5)}


async def test_a_worker_stops_in_time_while_the_database_is_away(
    queue: JetStream,
    nats_url: str,
    fresh_database_url: str,
    postgres_server: PostgresServer,
    monkeypatch: Any,
) -> None:
    await enqueue(queue, [make_order() for _ in range(20)])
    monkeypatch.setattr("peakclip_worker.consumer.DRAIN_SECONDS", 0.5)
    async with worker(nats_url, fresh_database_url) as one:
        await postgres_server.kill()
        await until(lambda: one.in_hand > 0)
        one.service.stopping.set()
        await asyncio.wait_for(one.task, 5)
        assert one.in_hand == 0
    state = await queue.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
    assert state.pending + state.ack_pending > 0
