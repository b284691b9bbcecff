"""What a transaction owes is published once: events as CloudEvents, units back to the admission counter."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from support import drain_batch, insert_sale, make_order, offer, on_offer, until

from peakclip import store, telemetry, topology
from peakclip.errors import OutcomeUnknownError, RefusedError
from peakclip.jetstream import JetStream, PubAck, StoredMessage
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.service import Service
from peakclip_api.line import Follower, Line
from peakclip_worker.outbox import BATCH, Outbox

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def running(js: JetStream, database: Any) -> AsyncIterator[asyncio.Task[None]]:
    service = Service()
    task = asyncio.create_task(Outbox(js, database).run(service))
    yield task
    service.stopping.set()
    await asyncio.wait_for(task, 10)


async def nothing_owed(database: Any) -> bool:
    return await database.fetchval("select count(*) from outbox") == 0


def owed() -> float:
    """As `/metrics` says it."""
    families = list(telemetry.OUTBOX.collect())
    return families[0].samples[0].value if families else -1.0


async def events(js: JetStream) -> list[StoredMessage]:
    return await stored(js, topology.EVENTS)


async def stored(js: JetStream, stream: str) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    while message := await js.message_from(stream, found[-1].seq + 1 if found else 1):
        found.append(message)
    return found


async def test_events_and_returned_units_are_published_and_forgotten(js: JetStream, database: Any) -> None:
    await insert_sale(database, stock=3, limit=2)
    await offer(js, 3)
    good, greedy = make_order(quantity=2, customer_id="c1"), make_order(customer_id="c1")
    await drain_batch(database, [good, greedy])
    async with running(js, database):
        await until(lambda: nothing_owed(database))
    created, rejected = await events(js)
    assert (created.subject, rejected.subject) == ("order.created", "order.rejected")
    body = msgspec.json.decode(created.payload)
    assert (body["order_id"], body["status"], body["quantity"]) == (good.order_id, "pending_payment", 2)
    assert msgspec.json.decode(rejected.payload)["reason"] == "limit-reached"
    assert created.headers["Nats-Msg-Id"] == created.headers["ce-id"] == f"{good.order_id}:1"
    assert {name: created.headers[name] for name in ("ce-specversion", "ce-type", "ce-source")} == {
        "ce-specversion": "1.0", "ce-type": "order.created", "ce-source": "/peakclip/orders",
    }  # fmt: skip
    assert await on_offer(js) == 4
    (released,) = await stored(js, topology.RELEASES)
    assert released.payload.decode() == greedy.order_id


async def test_a_batch_of_cancellations_is_one_release_that_the_line_understands(
    js: JetStream, database: Any
) -> None:
    await insert_sale(database, stock=10)
    orders = [make_order() for _ in range(4)]
    await drain_batch(database, orders)
    due = [order.order_id for order in orders[:3]]
    await database.execute("update orders set expires_at = now() where order_id = any($1::uuid[])", due)
    await database.execute("select * from expire_orders($1::uuid[])", due)
    async with running(js, database):
        await until(lambda: nothing_owed(database))
    (released,) = await stored(js, topology.RELEASES)
    line = Line(1_000)
    line.add_frame(1, orders)
    follower = Follower(js, line)
    for _ in range(2):  # to hear of it twice changes nothing
        await follower._on_release(released)
    found = [line.find(order.order_id) for order in orders]
    assert [entry is not None and entry.released for entry in found] == [True, True, True, False]
    assert [line.bought(order.sale_id, order.customer_id) for order in orders] == [0, 0, 0, 1]


async def test_more_than_a_batch_keeps_its_order(js: JetStream, database: Any) -> None:
    await insert_sale(database, stock=1_000)
    orders = [make_order() for _ in range(BATCH * 2 + 7)]
    await drain_batch(database, orders)
    async with running(js, database):
        await until(lambda: nothing_owed(database))
    assert [msgspec.json.decode(event.payload)["order_id"] for event in await events(js)] == [
        order.order_id for order in orders
    ]


class Crashing:
    """A connection to JetStream whose answers are lost: everything is stored, nobody is told."""

    def __init__(self, js: JetStream) -> None:
        self._js = js

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None
    ) -> PubAck:
        return await self._js.publish(subject, payload, headers=headers)

    async def publish_batch(self, messages: Any) -> PubAck:
        return await self._js.publish_batch(messages)

    async def increment(self, subject: str, delta: int, *, message_id: str) -> PubAck:
        await self._js.increment(subject, delta, message_id=message_id)
        raise OutcomeUnknownError


@pytest.mark.parametrize("orders", [3, 30])
async def test_a_crash_between_publishing_and_forgetting_counts_once(
    js: JetStream, database: Any, orders: int
) -> None:
    """By the plain way and by the batch; the second time JetStream knows every message id."""
    await insert_sale(database, stock=100, limit=1)
    await offer(js, 100)
    await drain_batch(database, [make_order(customer_id="c1") for _ in range(orders)])
    owed = await database.fetchval("select count(*) from outbox")
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            await Outbox(Crashing(js), database)._publish_some()  # type: ignore[arg-type]
        assert await database.fetchval("select count(*) from outbox") == owed
    async with running(js, database):
        await until(lambda: nothing_owed(database))
    assert len(await events(js)) == orders
    assert await on_offer(js) == 100 + orders - 1


async def test_a_database_that_refuses_for_a_while_is_waited_for(js: JetStream, database: Any) -> None:
    """As with a full disk: the relay takes frames apart meanwhile, so its outbox must not end it."""
    await insert_sale(database, stock=3)
    await drain_batch(database, [make_order()])
    await database.execute("alter table outbox rename to outbox_away")
    async with running(js, database) as task:
        await asyncio.sleep(0.2)
        assert not task.done()
        await database.execute("alter table outbox_away rename to outbox")
        await until(lambda: nothing_owed(database))
    assert len(await events(js)) == 1


async def test_what_cannot_be_published_is_counted(
    js: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise RefusedError(10077, "maximum bytes exceeded")

    monkeypatch.setattr("peakclip_worker.outbox.store_all", refuse)
    monkeypatch.setattr("peakclip_worker.outbox.COUNT_SECONDS", 0.05)
    await database.execute(
        "insert into outbox (message_id, subject) select 'm' || n, 'order.created' from generate_series(1, 300) n"
    )
    async with running(js, database):
        await until(lambda: owed() == 300)
        await database.execute("alter table outbox rename to outbox_away")
        await until(lambda: math.isnan(owed()))
        await database.execute("alter table outbox_away rename to outbox")
        await database.execute("delete from outbox")
        await until(lambda: owed() == 0)


async def test_two_at_once_publish_everything_once(js: JetStream, database: Any) -> None:
    await insert_sale(database, stock=1_000, limit=1)
    await offer(js, 1_000)
    for first in range(0, 600, 50):
        await drain_batch(database, [make_order(customer_id=f"c{(first + n) % 400}") for n in range(50)])
    async with running(js, database), running(js, database):
        await until(lambda: nothing_owed(database))
    assert len(await events(js)) == 600
    assert await on_offer(js) == 1_200


async def test_a_new_sale_is_on_offer_once_whoever_is_first(js: JetStream, database: Any) -> None:
    """The API offers at once under the same message id."""
    await offer(js, 10, "s1")
    await database.execute(
        "insert into outbox (message_id, subject, increment)"
        " values ('init-s1', 'stock.s1', 10), ('init-s2', 'stock.s2', 7)"
    )
    async with running(js, database):
        await until(lambda: nothing_owed(database))
    assert (await on_offer(js, "s1"), await on_offer(js, "s2")) == (10, 7)


async def test_restarts_of_both_servers_lose_and_double_nothing(
    js: JetStream, fresh_database_url: str, nats_server: NatsServer, postgres_server: PostgresServer
) -> None:
    pool = await store.connect(fresh_database_url, max_size=3)
    try:
        await insert_sale(pool, stock=5_000, limit=1)
        await offer(js, 5_000)
        await drain_batch(pool, [make_order(customer_id=f"c{n % 1_000}") for n in range(1_500)])
        async with running(js, pool) as task:
            await until(lambda: some_published(js), pause=0.002)
            await asyncio.gather(nats_server.kill(), postgres_server.kill())
            await asyncio.gather(nats_server.start(), postgres_server.start())
            await until(lambda: js.connected)
            await until(lambda: nothing_owed_at_last(pool), 30)
            assert not task.done()
        assert len(await events(js)) == 1_500
        assert await on_offer(js) == 5_500
    finally:
        pool.terminate()


async def some_published(js: JetStream) -> bool:
    return (await js.stream_state(topology.EVENTS)).messages > 0


async def nothing_owed_at_last(database: Any) -> bool:
    try:
        return await nothing_owed(database)
    except store.DATABASE_AWAY:
        return False
