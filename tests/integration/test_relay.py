"""Frames become single orders exactly once, whatever is repeated, killed or unreadable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from support import make_order, store_frame, unfinished, until

from peakclip import messages, topology
from peakclip.errors import OutcomeUnknownError, RefusedError, UnavailableError
from peakclip.jetstream import DUPLICATE_IN_BATCH, ConsumerState, InMessage, JetStream, OutMessage
from peakclip.local.nats import NatsServer
from peakclip.messages import Order
from peakclip.service import Service
from peakclip_worker.relay import BATCH, PLAIN_UP_TO, Relay, store_all

pytestmark = pytest.mark.integration


async def frames_in_hand(js: JetStream, most: int = 16) -> list[InMessage]:
    """As a relay that dies with them: they are never acknowledged."""
    return await js.pull(topology.INTAKE, "relay").fetch(most, 2.0)


async def queued(js: JetStream) -> list[Order]:
    """The whole of SECKILL."""
    orders, seq = [], 1
    while message := await js.message_from(topology.SECKILL, seq):
        orders.append(messages.decode_order(message.payload))
        seq = message.seq + 1
    return orders


async def relayed(js: JetStream) -> bool:
    return await unfinished(js, topology.INTAKE, "relay") == 0


@contextlib.asynccontextmanager
async def running(js: JetStream, database: Any) -> AsyncIterator[asyncio.Task[None]]:
    service = Service()
    task = asyncio.create_task(Relay(js, database).run(service))
    yield task
    assert not task.done(), "the relay died"
    task.cancel()  # how it stops in order is a test of its own
    await asyncio.gather(task, return_exceptions=True)


def ids(orders: Sequence[Order]) -> list[str]:
    return [order.order_id for order in orders]


async def test_frames_become_orders_in_their_order(js: JetStream, database: Any) -> None:
    """One by the plain way, one that needs several batches, one in between."""
    orders = [make_order(sale_id=f"s{n % 3}") for n in range(PLAIN_UP_TO + BATCH * 2 + 10)]
    first = await store_frame(js, orders[:PLAIN_UP_TO])
    await store_frame(js, orders[PLAIN_UP_TO : PLAIN_UP_TO + BATCH])
    await store_frame(js, orders[PLAIN_UP_TO + BATCH : PLAIN_UP_TO + BATCH * 2])
    await store_frame(js, orders[PLAIN_UP_TO + BATCH * 2 :])
    async with running(js, database):
        await until(lambda: relayed(js))
    assert await queued(js) == orders
    message = await js.message_from(topology.SECKILL, 2)
    assert message is not None
    assert message.subject == topology.seckill_subject("s1")
    assert message.headers["Nats-Msg-Id"] == f"{first}.1"
    assert message.headers[topology.FRAME_HEADER] == first


@pytest.mark.parametrize("size", [PLAIN_UP_TO, 40])
async def test_a_relay_killed_before_it_acknowledged_repeats_nothing(
    js: JetStream, database: Any, size: int
) -> None:
    orders = [make_order() for _ in range(size)]
    await store_frame(js, orders)
    (frame,) = await frames_in_hand(js)
    relay = Relay(js, database)
    await relay._relay([frame])  # acknowledged; the copy below was delivered before
    await relay._relay([frame])
    assert await queued(js) == orders


async def test_a_relay_killed_halfway_is_finished_by_the_next(js: JetStream, database: Any) -> None:
    """Some orders are stored already, so the whole batch is refused as holding a duplicate."""
    orders = [make_order() for _ in range(40)]
    frame_id = await store_frame(js, orders)
    (frame,) = await frames_in_hand(js)
    stored = [
        OutMessage(
            topology.seckill_subject("s1"),
            messages.encode(order),
            {"Nats-Msg-Id": f"{frame_id}.{index}", topology.FRAME_HEADER: frame_id},
        )
        for index, order in enumerate(orders)
    ]
    await js.publish_batch(stored[:25])
    with pytest.raises(RefusedError) as refused:
        await js.publish_batch(stored)
    assert refused.value.code == DUPLICATE_IN_BATCH
    await frame.nak()
    async with running(js, database):
        await until(lambda: relayed(js))
    assert await queued(js) == orders


async def test_two_relays_share_the_frames(js: JetStream, database: Any, nats_url: str) -> None:
    orders = [make_order() for _ in range(120)]
    for first in range(0, 120, 6):
        await store_frame(js, orders[first : first + 6])
    async with (
        await JetStream.connect(nats_url, name="other") as other,
        running(js, database),
        running(other, database),
    ):
        await until(lambda: relayed(js))
    assert sorted(ids(await queued(js))) == sorted(ids(orders))


async def test_the_same_order_in_two_frames_reaches_the_judge_twice(js: JetStream, database: Any) -> None:
    """Only the database knows which reservation to give back."""
    order = make_order()
    first, second = await store_frame(js, [order]), await store_frame(js, [order])
    async with running(js, database):
        await until(lambda: relayed(js))
    assert len(await queued(js)) == 2
    found = [await js.message_from(topology.SECKILL, seq) for seq in (1, 2)]
    assert [message.headers[topology.FRAME_HEADER] for message in found if message] == [first, second]


async def test_a_fence_is_passed_over(js: JetStream, database: Any) -> None:
    fence = {topology.FRAME_ORDERS_HEADER: "0"}
    await js.publish(topology.frame_subject("fenced"), b"", create_only=True, headers=fence)
    order = make_order()
    await store_frame(js, [order])
    async with running(js, database):
        await until(lambda: relayed(js))
    assert await queued(js) == [order]
    assert await database.fetchval("select count(*) from dead_letters") == 0


@pytest.mark.parametrize("body", [b"\xff", b'{"order_id": 1}\n', b"{}\n{}"])
async def test_an_unreadable_frame_is_set_aside_and_the_others_pass(
    js: JetStream, database: Any, body: bytes
) -> None:
    orders = [make_order() for _ in range(6)]
    await store_frame(js, orders[:3])
    await js.publish(topology.frame_subject("poison"), body, headers={topology.FRAME_ORDERS_HEADER: "2"})
    await store_frame(js, orders[3:])
    async with running(js, database):
        await until(lambda: relayed(js))
    assert await queued(js) == orders
    (row,) = await database.fetch("select * from dead_letters")
    assert (row["pool"], row["subject"], row["payload"]) == ("relay", "intake.poison", body)
    assert "unreadable frame" in row["cause"]


async def test_without_a_database_an_unreadable_frame_waits(
    js: JetStream, database: Any, fresh_database_url: str
) -> None:
    """It needs the database for the dead letter alone; until then the relay neither dies nor forgets it."""
    order = make_order()
    await js.publish(topology.frame_subject("poison"), b"\xff", headers={topology.FRAME_ORDERS_HEADER: "1"})
    await store_frame(js, [order])
    await database.execute("alter table dead_letters rename to away")
    async with running(js, database) as task:
        await until(lambda: in_hand(js))
        await database.execute("alter table away rename to dead_letters")
        await until(lambda: relayed(js))
        assert not task.done()
    assert await queued(js) == [order]
    assert await database.fetchval("select count(*) from dead_letters") == 1


async def in_hand(js: JetStream) -> bool:
    return (await js.consumer_state(topology.INTAKE, "relay")).ack_pending > 0


class Stumbling(JetStream):
    """The first questions after frames have come find nobody, as when the server restarts just then."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.stumbles = 3

    async def consumer_state(self, stream: str, consumer: str) -> ConsumerState:
        self.stumbles -= 1
        if self.stumbles >= 0:
            raise UnavailableError
        return await super().consumer_state(stream, consumer)


async def test_frames_in_hand_are_not_left_alone_when_something_fails(
    js: JetStream, database: Any, nats_url: str
) -> None:
    """They would come again only after ack_wait, half a minute later."""
    orders = [make_order() for _ in range(3)]
    await store_frame(js, orders)
    async with await Stumbling.connect(nats_url, name="relay") as stumbling, running(stumbling, database):
        await until(lambda: relayed(js), 5)
    assert await queued(js) == orders


class Unheard(JetStream):
    """Its acknowledgements are never answered, as by a server that was killed and has forgotten what it gave out."""

    async def request(self, subject: str, payload: bytes, **options: Any) -> Any:
        if payload == b"+ACK":
            raise OutcomeUnknownError
        return await super().request(subject, payload, **options)


async def test_a_frame_whose_acknowledgement_is_never_answered_does_not_stop_the_others(
    js: JetStream, database: Any, nats_url: str
) -> None:
    first, second = [make_order()], [make_order()]
    async with await Unheard.connect(nats_url, name="relay") as unheard, running(unheard, database):
        await store_frame(js, first)
        await until(lambda: has_queued(js, first))
        await store_frame(js, second)
        await until(lambda: has_queued(js, [*first, *second]))


async def has_queued(js: JetStream, orders: list[Order]) -> bool:
    return await queued(js) == orders


async def test_a_server_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    js: JetStream, database: Any, nats_server: NatsServer
) -> None:
    orders = [make_order() for _ in range(600)]
    for first in range(0, 600, 20):
        await store_frame(js, orders[first : first + 20])
    async with running(js, database):
        await until(lambda: some_queued(js), pause=0.002)
        await nats_server.kill()
        await nats_server.start()
        await until(lambda: js.connected)
        # What the relay had in hand it does not leave alone; what the server had sent into the broken connection
        # comes again after ack_wait (30 s).
        await until(lambda: relayed(js), 45)
    assert sorted(ids(await queued(js))) == sorted(ids(orders))


async def some_queued(js: JetStream) -> bool:
    return (await js.stream_state(topology.SECKILL)).messages > 0


async def test_a_relay_that_stops_gives_back_what_it_has_not_touched(js: JetStream, database: Any) -> None:
    relay, service = Relay(js, database), Service()
    orders = [make_order() for _ in range(5)]
    for order in orders:
        await store_frame(js, [order])
    await js._api(f"STREAM.UPDATE.{topology.SECKILL}", full(topology.SECKILL))
    task = asyncio.create_task(relay.run(service))
    await until(lambda: in_hand(js))
    service.stopping.set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), 0.1)
    await js._api(f"STREAM.UPDATE.{topology.SECKILL}", roomy(topology.SECKILL))
    await asyncio.wait_for(task, 5)
    async with running(js, database):
        await until(lambda: relayed(js), 10)
    assert await queued(js) == orders


def full(stream: str) -> bytes:
    """A configuration in which nothing fits."""
    return changed(stream, 1)


def roomy(stream: str) -> bytes:
    return changed(stream, topology.STREAMS[stream]["max_bytes"])


def changed(stream: str, max_bytes: int) -> bytes:
    config = {**topology.STREAMS[stream], "name": stream, "num_replicas": 1, "max_bytes": max_bytes}
    return messages.encode(config)


async def test_a_full_queue_is_waited_for(js: JetStream) -> None:
    """20 s of patience in the relay; here none: the refusal comes through, and nothing is lost by trying again."""
    await js._api(f"STREAM.UPDATE.{topology.SECKILL}", full(topology.SECKILL))
    batch = [
        OutMessage(topology.seckill_subject("s1"), messages.encode(make_order()), {"Nats-Msg-Id": f"f.{n}"})
        for n in range(10)
    ]
    for some in (batch, batch[:2]):
        with pytest.raises(RefusedError):
            await store_all(js, some, patience_seconds=0)
    storing = asyncio.create_task(store_all(js, batch))
    await asyncio.wait({storing}, timeout=0.1)
    assert not storing.done()
    await js._api(f"STREAM.UPDATE.{topology.SECKILL}", roomy(topology.SECKILL))
    await asyncio.wait_for(storing, 5)
    assert len(await queued(js)) == 10
