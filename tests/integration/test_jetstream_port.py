"""What `peakclip.jetstream` promises, against a real server that is killed, full or missing."""

from __future__ import annotations

import asyncio
import time

import pytest
from pools import take
from support import until

from peakclip import jetstream, streams, topology
from peakclip.errors import OutcomeUnknownError, RefusedError, UnavailableError
from peakclip.jetstream import (
    DUPLICATE_IN_BATCH,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    InMessage,
    JetStream,
    OutMessage,
    StoredMessage,
)
from peakclip.local.nats import NatsServer
from peakclip.pull import ack_all

pytestmark = pytest.mark.integration

SUBJECT = topology.seckill_subject("s1")


def out(number: int, *, key: str = "m") -> OutMessage:
    return OutMessage(SUBJECT, str(number).encode(), {"Nats-Msg-Id": f"{key}-{number}", "Kind": "test"})


async def fetch_all(js: JetStream, count: int, seconds: float = 15.0) -> list[InMessage]:
    return await take(js.pull(topology.SECKILL, topology.ORDERS_POOL), count, seconds)


# -- writing -----------------------------------------------------------------------------------------------


async def test_a_message_id_is_stored_once(js: JetStream) -> None:
    first = await js.publish(SUBJECT, b"1", message_id="a")
    again = await js.publish(SUBJECT, b"1", message_id="a")
    assert (first.seq, first.duplicate) == (1, False)
    assert (again.seq, again.duplicate) == (1, True)


async def test_create_only_stores_the_first_of_a_subject(js: JetStream) -> None:
    await js.publish("intake.f1", b"first", create_only=True)
    with pytest.raises(RefusedError) as refused:
        await js.publish("intake.f1", b"second", create_only=True)
    assert refused.value.code == WRONG_LAST_SEQUENCE
    stored = await js.last_message(topology.INTAKE, "intake.f1")
    assert stored is not None
    assert stored.payload == b"first"


async def test_a_counter_adds_up_and_a_repeat_has_no_value(js: JetStream) -> None:
    subject = topology.stock_subject("s1")
    assert (await js.increment(subject, 10, message_id="a")).value == 10
    assert (await js.increment(subject, -13, message_id="b")).value == -3
    repeat = await js.increment(subject, 10, message_id="a")
    assert (repeat.duplicate, repeat.value) == (True, None)


@pytest.mark.parametrize("size", [1, 2, 256, 1_000])
async def test_a_batch_is_stored_as_it_is(js: JetStream, size: int) -> None:
    batch = [out(number) for number in range(size)]
    assert (await js.publish_batch(batch)).seq == size
    found = await fetch_all(js, size)
    assert [message.payload for message in found] == [message.payload for message in batch]
    assert [message.seq for message in found] == list(range(1, size + 1))
    assert {message.headers["Kind"] for message in found} == {"test"}
    assert found[-1].headers["Nats-Msg-Id"] == f"m-{size - 1}"


async def test_a_batch_with_one_duplicate_stores_nothing(js: JetStream) -> None:
    await js.publish_batch([out(3)])
    with pytest.raises(RefusedError) as refused:
        await js.publish_batch([out(number) for number in range(5)])
    assert refused.value.code == DUPLICATE_IN_BATCH
    assert (await js.stream_state(topology.SECKILL)).messages == 1


async def test_a_full_stream_refuses_and_keeps_what_it_has(js: JetStream) -> None:
    config = (await js.stream_state(topology.SECKILL)).config
    await js.ensure_stream({**config, "max_bytes": 2_000})
    stored = 0

    async def fill() -> None:
        nonlocal stored
        while True:
            await js.publish(SUBJECT, b"x" * 200)
            stored += 1

    with pytest.raises(RefusedError):
        await fill()
    state = await js.stream_state(topology.SECKILL)
    assert (state.messages, state.first_seq) == (stored, 1)
    with pytest.raises(RefusedError):
        await js.publish_batch([OutMessage(SUBJECT, b"x" * 2_000) for _ in range(5)])
    assert (await js.stream_state(topology.SECKILL)).messages == stored


async def test_a_subject_that_no_stream_takes_is_unavailable(js: JetStream) -> None:
    with pytest.raises(UnavailableError):
        await js.publish("nobody.listens", b"")


async def test_while_the_server_is_away_nothing_is_written_and_nothing_waits_to_be(
    js: JetStream, nats_server: NatsServer
) -> None:
    await js.publish(SUBJECT, b"before")
    await nats_server.kill()
    refused = []
    for attempt in range(40):
        try:
            await js.publish(SUBJECT, f"{attempt}".encode(), timeout_seconds=0.2)
        except (UnavailableError, OutcomeUnknownError) as exc:
            refused.append(exc)
    assert len(refused) == 40
    with pytest.raises(UnavailableError):
        await js.publish_batch([out(1), out(2)])
    with pytest.raises(UnavailableError):
        await js.publish_core("any", b"")
    await nats_server.start()
    await until(lambda: js.connected)
    assert (await js.stream_state(topology.SECKILL)).messages == 1
    assert (await js.publish(SUBJECT, b"after")).seq == 2


# -- pulling -----------------------------------------------------------------------------------------------


async def test_a_fetch_returns_what_is_there_at_once(js: JetStream) -> None:
    await js.publish_batch([out(number) for number in range(3)])
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    began = time.monotonic()
    assert len(await pull.fetch(100, 30.0)) == 3
    assert time.monotonic() - began < 5


async def test_a_fetch_waits_for_the_first_and_no_longer(js: JetStream) -> None:
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    fetching = asyncio.create_task(pull.fetch(100, 30.0))
    await until(lambda: somebody_waits(js))
    assert not fetching.done()
    await js.publish_batch([out(1)])
    assert len(await asyncio.wait_for(fetching, 5)) == 1


async def somebody_waits(js: JetStream) -> bool:
    return (await js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)).waiting > 0


async def test_a_fetch_of_nothing_ends_empty(js: JetStream) -> None:
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    assert await pull.fetch(10, 0.2) == []
    await js.publish_batch([out(1)])
    assert len(await pull.fetch(10, 5.0)) == 1


async def test_a_fetch_that_is_cancelled_loses_nothing(js: JetStream) -> None:
    """Cancelled at any moment, what had arrived by then is handed out next."""
    await js.publish_batch([out(number) for number in range(200)])
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    found: list[InMessage] = []
    for turns in range(60):
        fetching = asyncio.create_task(pull.fetch(5, 1.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        if fetching.done():
            found += fetching.result()
        else:
            fetching.cancel()
            (got,) = await asyncio.gather(fetching, return_exceptions=True)
            found += got if isinstance(got, list) else []
    async with asyncio.timeout(8):  # less than ack_wait, so that nothing comes by redelivery
        while len({message.seq for message in found}) < 200:
            found += await pull.fetch(256, 0.5)
    assert len(found) == 200


async def test_a_fetch_survives_a_restart_of_the_server(js: JetStream, nats_server: NatsServer) -> None:
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    fetching = asyncio.create_task(pull.fetch(10, 30.0))
    await until(lambda: somebody_waits(js))
    await nats_server.kill()
    assert await asyncio.wait_for(fetching, 5) == []  # not at the end of its thirty seconds
    await nats_server.start()
    await until(lambda: js.connected)
    await js.publish(SUBJECT, b"after")

    async def fetched() -> list[InMessage]:
        return await pull.fetch(10, 0.5)

    assert [message.payload for message in await until(fetched)] == [b"after"]


async def test_what_is_given_back_comes_again_and_what_is_ended_does_not(js: JetStream) -> None:
    await js.publish_batch([out(number) for number in range(4)])
    acked, returned, ended, delayed = await fetch_all(js, 4)
    assert [message.delivered for message in (acked, returned)] == [1, 1]
    assert acked.num_pending == 3
    assert abs(acked.stored_at - time.time()) < 60
    await acked.ack()
    await returned.nak()
    await ended.term()
    await delayed.nak(delay=0.5)
    again = await fetch_all(js, 2, 5)
    assert [(message.payload, message.delivered) for message in again] == [(b"1", 2), (b"3", 2)]
    for message in again:
        await message.ack()
    state = await js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
    assert (state.pending, state.ack_pending, state.ack_floor_seq) == (0, 0, 4)


async def test_acknowledgements_of_many_are_all_noted_when_they_return(js: JetStream) -> None:
    await js.publish_batch([out(number) for number in range(100)])
    found = await fetch_all(js, 100)
    await ack_all(found[:99])
    state = await js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
    assert (state.pending, state.ack_pending, state.ack_floor_seq) == (0, 1, 99)
    await ack_all([])
    await ack_all(found[99:])
    assert (await js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)).ack_floor_seq == 100


async def test_what_was_pulled_and_not_fetched_can_be_given_back(js: JetStream) -> None:
    await js.publish_batch([out(number) for number in range(10)])
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    fetching = asyncio.create_task(pull.fetch(10, 1.0))
    await until(lambda: pull._arrived, pause=0)
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    await until(lambda: len(pull._arrived) == 10)
    left = pull.take_back()
    assert len(left) == 10
    assert pull.take_back() == []
    for message in left:
        await message.nak()
    assert len(await fetch_all(js, 10, 5)) == 10


# -- reading -----------------------------------------------------------------------------------------------


async def test_a_stored_message_is_read_as_it_was_written(js: JetStream) -> None:
    body = bytes(range(256))
    await js.publish(SUBJECT, body, message_id="a", headers={"Name": "a value: with a colon"})
    message = await js.last_message(topology.SECKILL, SUBJECT)
    assert message is not None
    assert (message.seq, message.subject, message.payload) == (1, SUBJECT, body)
    assert message.headers == {"Name": "a value: with a colon", "Nats-Msg-Id": "a"}
    assert await js.message_from(topology.SECKILL, 1) == message
    assert await js.message_from(topology.SECKILL, 2) is None
    assert await js.last_message(topology.SECKILL, topology.seckill_subject("other")) is None


async def test_what_is_missing_is_refused_with_its_code(js: JetStream) -> None:
    async def ignore(_: StoredMessage) -> None: ...

    for ask in (js.stream_state("NOTHING"), js.last_message("NOTHING", "a"), js.follow("NOTHING", 1, ignore)):
        with pytest.raises(RefusedError) as refused:
            await ask
        assert refused.value.code == STREAM_NOT_FOUND
    with pytest.raises(RefusedError):
        await js.consumer_state(topology.SECKILL, "nobody")


async def test_a_follower_sees_every_message_once_and_in_order_across_restarts(
    js: JetStream, nats_server: NatsServer
) -> None:
    """One in the middle of the log, and one that had seen nothing and must not begin at the beginning."""
    for number in range(5):
        await js.publish(SUBJECT, str(number).encode())
    from_the_third, from_the_end = [], []

    async def see(message: StoredMessage) -> None:
        from_the_third.append((message.seq, message.payload))

    async def see_new(message: StoredMessage) -> None:
        from_the_end.append(message.payload)

    await js.follow(topology.SECKILL, 3, see, subject=SUBJECT)
    await js.follow(topology.SECKILL, 6, see_new, subject=SUBJECT)
    await until(lambda: len(from_the_third) == 3)
    await nats_server.kill()
    await nats_server.start()
    await until(lambda: js.connected)
    await js.publish(SUBJECT, b"5")
    await until(
        lambda: from_the_end and len(from_the_third) == 4, 10
    )  # the client's own way takes up to 20 s
    assert from_the_third == [(number + 1, str(number).encode()) for number in range(2, 6)]
    assert from_the_end == [b"5"]


async def test_a_follower_goes_on_without_waiting_for_heartbeats_that_do_not_come(
    js: JetStream, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would look for them in two minutes. One that has ended stays so."""
    monkeypatch.setattr(jetstream, "_HEARTBEAT_SECONDS", 60.0)
    seen, seen_by_the_other = [], []

    async def see(message: StoredMessage) -> None:
        seen.append(message.seq)

    async def see_other(message: StoredMessage) -> None:
        seen_by_the_other.append(message.seq)

    for _ in range(2):
        await js.publish(SUBJECT, b"")
    await js.follow(topology.SECKILL, 2, see, subject=SUBJECT)
    ended = await js.follow(topology.SECKILL, 3, see_other, subject=SUBJECT)
    await until(lambda: seen == [2])
    await ended.unsubscribe()
    for number in (3, 4, 5):
        await nats_server.kill()
        await nats_server.start()
        await until(lambda: js.connected)
        await js.publish(SUBJECT, b"")
        await until(lambda number=number: seen[-1] == number)
    assert seen == [2, 3, 4, 5]
    assert not seen_by_the_other


# -- the rest ----------------------------------------------------------------------------------------------


async def test_a_key_changes_only_from_the_revision_that_was_read(js: JetStream) -> None:
    assert await js.kv_get(topology.PACE, "orders") is None
    revision = await js.kv_put(topology.PACE, "orders", b"1", revision=0)
    assert await js.kv_get(topology.PACE, "orders") == (b"1", revision)
    with pytest.raises(RefusedError) as refused:
        await js.kv_put(topology.PACE, "orders", b"2", revision=0)
    assert refused.value.code == WRONG_LAST_SEQUENCE
    newer = await js.kv_put(topology.PACE, "orders", b"2", revision=revision)
    assert await js.kv_get(topology.PACE, "orders") == (b"2", newer)


async def test_streams_are_declared_by_everybody_at_once(js: JetStream, nats_url: str) -> None:
    await js.publish(SUBJECT, b"kept")
    async with await JetStream.connect(nats_url, name="other") as other:
        await asyncio.gather(streams.ensure(js), streams.ensure(other), streams.ensure(js))
    assert (await js.stream_state(topology.SECKILL)).messages == 1


async def test_the_servers_own_word_for_durable(js: JetStream) -> None:
    streams = [topology.INTAKE, topology.SECKILL, topology.STOCK]
    assert await js.is_durable(streams)
    assert not await js.is_durable([*streams, topology.TICKETS])  # in memory


async def test_a_purge_leaves_what_is_from_there_on(js: JetStream) -> None:
    await js.publish_batch([out(number) for number in range(10)])
    await js.purge_below(topology.SECKILL, 8)
    state = await js.stream_state(topology.SECKILL)
    assert (state.messages, state.first_seq, state.last_seq) == (3, 8, 10)


async def test_messages_of_a_subject_are_counted_from_a_place_on(js: JetStream) -> None:
    assert await js.count_messages(topology.EVENTS, "order.*") == 0
    for subject in ("order.created", "review.created", "order.paid", "order.created"):
        await js.publish(subject, b"x")
    assert await js.count_messages(topology.EVENTS, "order.*") == 3
    assert await js.count_messages(topology.EVENTS, "order.created") == 2
    assert await js.count_messages(topology.EVENTS, "order.*", from_seq=2) == 2
    assert await js.count_messages(topology.EVENTS, "order.*", from_seq=5) == 0
    with pytest.raises(UnavailableError):
        await js.count_messages("NOTHING", "order.*")
