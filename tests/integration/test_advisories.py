"""The net: what JetStream gave up on, or was told to end, is a dead letter although no pool wrote one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from pools import drain, orders_pool, relay
from support import insert_sale, make_order, store_frame, unfinished, until

from peakclip import messages, topology
from peakclip.dead_letters import CannotRedriveError, Desk, redriven
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.service import Service
from peakclip_worker.advisories import Advisories
from peakclip_worker.dead_letters import write_dead_letter

pytestmark = pytest.mark.integration

SUBJECT = topology.seckill_subject("s1")


async def limit(js: JetStream, stream: str, consumer: str, most: int) -> None:
    """A consumer that gives out each message `most` times, for 0.3 s each."""
    config = topology.CONSUMERS[stream, consumer]
    name = {"durable_name": consumer, "ack_policy": "explicit", "deliver_policy": "all"}
    await js.ensure_consumer(stream, {**name, **config, "ack_wait": 300_000_000, "max_deliver": most})


async def letters(database: Any) -> list[Any]:
    return list(await database.fetch("select * from dead_letters order by message_id"))


async def some_dead(database: Any) -> bool:
    return bool(await letters(database))


async def waits_for_the_relay(js: JetStream) -> int:
    return (await js.stream_state(topology.ADVISORIES)).messages


@contextlib.asynccontextmanager
async def net(js: JetStream, database: Any) -> AsyncIterator[None]:
    service = Service()
    task = asyncio.create_task(Advisories(js, database).run(service))
    yield
    await until(lambda: told(js))
    service.stopping.set()
    await asyncio.wait_for(task, 10)


async def told(js: JetStream) -> bool:
    return await unfinished(js, topology.ADVISORIES, topology.RELAY) == 0


async def exhaust(js: JetStream, stream: str, consumer: str, keep: int) -> None:
    """Takes whatever comes; acknowledges all but the message of this sequence, until the server gives it up."""
    pull = js.pull(stream, consumer)
    async with asyncio.timeout(20):
        while not await waits_for_the_relay(js):
            for message in await pull.fetch(10, 0.3):
                if message.seq != keep:
                    await message.ack()


async def test_a_message_that_the_server_gives_up_is_a_dead_letter_and_can_be_sent_back(
    js: JetStream, database: Any
) -> None:
    await insert_sale(database)
    await set_pace(js, topology.ORDERS_POOL, limit_per_second=5_000)
    await limit(js, topology.SECKILL, topology.ORDERS_POOL, 2)
    orders = [make_order() for _ in range(3)]
    for number, order in enumerate(orders):
        headers = {topology.FRAME_HEADER: "f1"}
        await js.publish(SUBJECT, messages.encode(order), message_id=f"f1.{number}", headers=headers)
    await exhaust(js, topology.SECKILL, topology.ORDERS_POOL, keep=2)
    async with net(js, database):
        await until(lambda: some_dead(database))
    (letter,) = await letters(database)
    assert (letter["message_id"], letter["pool"], letter["subject"]) == ("f1.1", "orders", SUBJECT)
    assert letter["payload"] == messages.encode(orders[1])
    assert msgspec.json.decode(letter["headers"])[topology.FRAME_HEADER] == "f1"
    assert (letter["cause"], letter["attempts"]) == (
        "max-deliveries: given out 2 times and never finished",
        2,
    )

    desk = Desk(database, js)
    (done,) = await desk.redrive(list((await desk.find(["f1.1"])).values()))
    assert done.problem is None
    async with drain(js, orders_pool(js, database), topology.ORDERS_POOL):
        await until(lambda: has_row(database, orders[1]))
    assert await letters(database) == []


async def has_row(database: Any, order: messages.Order) -> bool:
    return bool(await database.fetchval("select count(*) from orders where order_id = $1", order.order_id))


async def test_a_frame_that_the_server_gives_up_is_a_dead_letter_of_the_relay(
    js: JetStream, database: Any
) -> None:
    await limit(js, topology.INTAKE, topology.RELAY, 1)
    orders = [make_order() for _ in range(5)]
    await store_frame(js, orders, "f1")
    await exhaust(js, topology.INTAKE, topology.RELAY, keep=1)
    async with net(js, database):
        await until(lambda: some_dead(database))
    (letter,) = await letters(database)
    assert (letter["message_id"], letter["pool"]) == ("intake.f1:1", "relay")
    desk = Desk(database, js)
    await desk.redrive(list((await desk.find(["intake.f1:1"])).values()))
    async with relay(js, database, ["frames"]):
        await until(lambda: queued(js, 5))
    assert await letters(database) == []


async def queued(js: JetStream, count: int) -> bool:
    return (await js.stream_state(topology.SECKILL)).messages == count


async def test_a_message_that_somebody_ended_without_a_dead_letter_gets_one(
    js: JetStream, database: Any
) -> None:
    await js.publish(SUBJECT, b"ended", message_id="m1")
    (message,) = await js.pull(topology.SECKILL, topology.ORDERS_POOL).fetch(1, 2.0)
    await message.term()
    async with net(js, database):
        await until(lambda: some_dead(database))
    (letter,) = await letters(database)
    assert (letter["message_id"], letter["payload"], letter["attempts"]) == ("m1", b"ended", 1)
    assert letter["cause"] == "terminated: whoever ended it gave no reason"


async def test_a_dead_letter_that_is_there_already_stays_as_it_is(js: JetStream, database: Any) -> None:
    """As by a pool that writes it first and ends the message then; and the advisory comes twice."""
    heard: list[str] = []

    async def listen(message: Any) -> None:
        heard.append(message.subject)

    await js.subscribe_core("dlq.>", listen)
    await js.publish(SUBJECT, b"ended", message_id="m1")
    (message,) = await js.pull(topology.SECKILL, topology.ORDERS_POOL).fetch(1, 2.0)
    await write_dead_letter(database, js, topology.ORDERS_POOL, message, "unreadable", 1)
    before = await letters(database)
    await message.term()
    (advisory,) = await js.pull(topology.ADVISORIES, topology.RELAY).fetch(1, 5.0)
    for _ in range(2):
        await Advisories(js, database).handle(advisory)
    assert await letters(database) == before
    await js.round_trip()
    assert heard == ["dlq.orders"]


async def test_a_message_that_is_gone_is_on_record_all_the_same(js: JetStream, database: Any) -> None:
    """Purged by hand between its end and the relay's look; the next message must not be taken for it."""
    for number in range(2):
        await js.publish(SUBJECT, b"%d" % number, message_id=f"m{number}")
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    for message in await pull.fetch(2, 2.0):
        await (message.term() if message.seq == 1 else message.ack())
    await js.purge_below(topology.SECKILL, 2)
    async with net(js, database):
        await until(lambda: some_dead(database))
    (letter,) = await letters(database)
    assert (letter["message_id"], letter["payload"]) == ("gone.SECKILL.orders:1", b"")
    assert letter["cause"].endswith("; SECKILL no longer had the message")
    (found,) = (await Desk(database).find(["gone.SECKILL.orders:1"])).values()
    with pytest.raises(CannotRedriveError):
        redriven(found)


async def test_what_is_nobodys_work_is_passed_over(js: JetStream, database: Any) -> None:
    """Somebody else's consumer on the same stream, and an advisory that cannot be read."""
    other = {"durable_name": "other", "ack_policy": "explicit", "deliver_policy": "all"}
    await js.ensure_consumer(topology.SECKILL, other)
    await js.publish(SUBJECT, b"ended")
    (message,) = await js.pull(topology.SECKILL, "other").fetch(1, 2.0)
    await message.term()
    await js.publish_core("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.SECKILL.orders", b"nonsense")
    await until(lambda: both_stored(js))
    async with net(js, database):
        pass
    assert await letters(database) == []


async def both_stored(js: JetStream) -> bool:
    return await waits_for_the_relay(js) == 2


async def test_without_a_database_the_net_waits(js: JetStream, database: Any) -> None:
    await js.publish(SUBJECT, b"ended", message_id="m1")
    (message,) = await js.pull(topology.SECKILL, topology.ORDERS_POOL).fetch(1, 2.0)
    await message.term()
    await database.execute("alter table dead_letters rename to away")
    async with net(js, database):
        await until(lambda: in_hand(js))
        await asyncio.sleep(0.1)  # it meets a database that refuses
        await database.execute("alter table away rename to dead_letters")
        await until(lambda: some_dead(database), 5)


async def in_hand(js: JetStream) -> bool:
    return (await js.consumer_state(topology.ADVISORIES, topology.RELAY)).ack_pending > 0


@pytest.mark.parametrize(("stream", "consumer"), topology.CONSUMERS)
async def test_consumers_of_work_give_up_in_the_end_and_no_others(
    js: JetStream, stream: str, consumer: str
) -> None:
    answer = await js._api(f"CONSUMER.INFO.{stream}.{consumer}")
    gives_up = answer["config"].get("max_deliver", -1)
    assert gives_up == (topology.MAX_DELIVER if topology.pool_of(stream, consumer) else -1)
