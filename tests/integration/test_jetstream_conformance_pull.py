"""What a consumer of the simulation's model of JetStream does is what one of a real nats-server does."""

from __future__ import annotations

import asyncio

import msgspec
from simulation.servers.places import Place, on_both
from simulation.servers.scenes import (
    ACK_WAIT,
    SECOND,
    consumer,
    filled,
    message,
    new_stream,
    seqs,
    settled,
    state,
)

from peakclip.jetstream import InMessage, JetStream
from peakclip.pull import ack_all

# -- pulling -----------------------------------------------------------------------------------------------


@on_both
async def test_what_is_given_out_is_counted(place: Place) -> None:
    js = place.js
    stream, pull = await filled(js, 5)
    assert await state(js, stream) == (5, 0, 0, 0, 0)
    found = await pull.fetch(3, 1.0)
    assert [(one.seq, one.delivered, one.num_pending) for one in found] == [(1, 1, 4), (2, 1, 3), (3, 1, 2)]
    assert await state(js, stream) == (2, 3, 0, 0, 3)
    await found[1].ack()
    assert await state(js, stream) == (2, 2, 0, 0, 3)
    await found[0].ack()
    assert await state(js, stream) == (2, 1, 0, 2, 3)
    await found[2].ack()
    assert await state(js, stream) == (2, 0, 0, 3, 3)
    await ack_all(await pull.fetch(10, 1.0))
    assert await state(js, stream) == (0, 0, 0, 5, 5)
    assert await pull.fetch(1, 0.1) == []


@on_both
async def test_a_consumer_of_some_subjects(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)
    for name in ("a.1", "b.1", "c", "b.2", "a.2", "c"):
        await js.publish(f"{prefix}.{name}", b"")
    pull = await consumer(js, stream, filter_subjects=[f"{prefix}.a.*", f"{prefix}.b.>"])
    assert await state(js, stream) == (4, 0, 0, 0, 0)
    found = await pull.fetch(10, 1.0)
    assert [(one.seq, one.num_pending) for one in found] == [(1, 3), (2, 2), (4, 1), (5, 0)]
    await found[0].ack()
    await found[1].ack()
    assert (await state(js, stream))[3] == 3  # the third message is not its own
    await ack_all(found[2:])
    assert await state(js, stream) == (0, 0, 0, 5, 5)
    assert await js.count_messages(stream, f"{prefix}.a.*", from_seq=2) == 1
    assert await js.count_messages(stream, f"{prefix}.>") == 6


@on_both
async def test_what_is_given_back_comes_again(place: Place) -> None:
    js = place.js
    stream, pull = await filled(js, 4, ack_wait=5 * SECOND)
    found = await pull.fetch(3, 1.0)
    await found[1].nak()
    await found[0].nak(delay=0.5)
    await settled(js, stream, (1, 3, 0, 0, 3))
    assert seqs(await pull.fetch(10, 1.0)) == [(2, 2), (4, 1)]
    assert await state(js, stream) == (0, 4, 1, 0, 4)
    assert await pull.fetch(10, 0.2) == []
    again = await pull.fetch(10, 1.0)
    assert seqs(again) == [(1, 2)]
    await again[0].ack()
    assert await state(js, stream) == (0, 3, 1, 1, 4)


@on_both
async def test_what_is_not_acknowledged_in_time_comes_again_before_what_is_new(place: Place) -> None:
    js = place.js
    stream, pull = await filled(js, 4)
    first, kept = await pull.fetch(2, 1.0)
    for _ in range(3):
        await asyncio.sleep(ACK_WAIT / 2)
        await kept.in_progress()
    await asyncio.sleep(0.1)
    again = await pull.fetch(2, 1.0)
    assert seqs(again) == [(1, 2), (3, 1)]
    assert await state(js, stream) == (1, 3, 1, 0, 3)
    await first.ack()  # late, and of the delivery before: it counts
    assert await state(js, stream) == (1, 2, 0, 1, 3)
    await again[0].ack()  # nothing is left to acknowledge
    await kept.ack()
    assert await state(js, stream) == (1, 1, 0, 2, 3)


@on_both
async def test_a_word_of_an_older_delivery_counts_too(place: Place) -> None:
    js = place.js
    stream, pull = await filled(js, 1)
    (first,) = await pull.fetch(1, 1.0)
    await first.nak()
    (second,) = await pull.fetch(1, 1.0)
    await first.nak()
    (third,) = await pull.fetch(1, 0.2)
    assert (second.delivered, third.delivered) == (2, 3)
    await third.ack()
    await second.nak()
    assert await pull.fetch(1, 0.2) == []
    assert await state(js, stream) == (0, 0, 0, 1, 1)


async def advisories(js: JetStream) -> None:
    subjects = [f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.>" for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")]
    await js.create_stream({"name": "A", "storage": "file", "subjects": subjects})


@on_both
async def test_what_is_ended_is_told(place: Place) -> None:
    js = place.js
    await advisories(js)
    stream, pull = await filled(js, 2)
    first, second = await pull.fetch(2, 1.0)
    await second.term()
    await first.ack()
    assert await state(js, stream) == (0, 0, 0, 2, 2)
    told = await message(js, "A", 1)
    assert told.subject == f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{stream}.c"
    word = msgspec.json.decode(told.payload)
    assert (word["stream"], word["consumer"], word["stream_seq"], word["deliveries"]) == (stream, "c", 2, 1)


async def given_up(place: Place, most: int) -> tuple[str, InMessage]:
    js = place.js
    await advisories(js)
    stream, pull = await filled(js, 2, max_deliver=most, ack_wait=SECOND // 10)
    for delivery in range(1, most + 1):
        found = await pull.fetch(1, 1.0)
        assert seqs(found) == [(1, delivery)]
        await asyncio.sleep(0.2)
    told = (await js.stream_state("A")).last_seq
    assert told == (1 if most == 1 else 0)  # with more than one, only when somebody asks for the next
    (other,) = await pull.fetch(1, 1.0)
    assert other.seq == 2
    await asyncio.sleep(0.02)
    word = msgspec.json.decode((await message(js, "A", 1)).payload)
    assert (word["stream"], word["consumer"], word["stream_seq"], word["deliveries"]) == (
        stream,
        "c",
        1,
        most,
    )
    assert (await js.stream_state(stream)).messages == 2
    return stream, other


@on_both
async def test_a_message_is_given_up_after_its_only_delivery(place: Place) -> None:
    stream, other = await given_up(place, 1)
    await other.ack()
    assert (await place.js.consumer_state(stream, "c")).ack_floor_seq == 2


@on_both
async def test_a_message_is_given_up_after_three(place: Place) -> None:
    stream, other = await given_up(place, 3)
    assert await state(place.js, stream) == (0, 1, 1, 0, 2)
    await other.ack()
    assert await state(place.js, stream) == (0, 0, 1, 2, 2)


@on_both
async def test_only_so_many_are_in_flight(place: Place) -> None:
    js = place.js
    stream, pull = await filled(js, 5, max_ack_pending=2, ack_wait=5 * SECOND)
    found = await pull.fetch(5, 0.3)
    assert seqs(found) == [(1, 1), (2, 1)]
    assert await pull.fetch(5, 0.2) == []
    waiting = asyncio.get_running_loop().create_task(pull.fetch(5, 0.5))
    await asyncio.sleep(0.1)
    await found[1].ack()
    assert seqs(await waiting) == [(3, 1)]  # at the end of its time only: there may be more
    await found[0].nak()
    assert seqs(await pull.fetch(5, 0.3)) == [(1, 2)]
    assert await state(js, stream) == (2, 2, 1, 0, 3)


@on_both
async def test_those_who_wait_are_served_in_turn(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)
    first = await consumer(js, stream)
    second = js.pull(stream, "c")
    create = asyncio.get_running_loop().create_task
    waiting = [create(first.fetch(1, 5.0)), create(second.fetch(1, 5.0))]
    await asyncio.sleep(0.1)
    assert (await js.consumer_state(stream, "c")).waiting == 2
    await js.publish(f"{prefix}.a", b"1")
    await js.publish(f"{prefix}.a", b"2")
    assert [[one.payload for one in await fetched] for fetched in waiting] == [[b"1"], [b"2"]]
    assert (await js.consumer_state(stream, "c")).waiting == 0
    assert await first.fetch(1, 0.1) == []
    assert (await js.consumer_state(stream, "c")).waiting == 0


# -- purging -----------------------------------------------------------------------------------------------


@on_both
async def test_a_purge_and_a_consumer(place: Place) -> None:
    js = place.js
    stream, pull = await filled(js, 10, ack_wait=5 * SECOND)
    found = await pull.fetch(6, 1.0)
    await ack_all(found[:3])
    await js.purge_below(stream, 3)
    kept = await js.stream_state(stream)
    assert (kept.messages, kept.first_seq, kept.last_seq) == (8, 3, 10)
    assert await state(js, stream) == (4, 3, 0, 3, 6)
    await js.purge_below(stream, 6)  # two of those in flight, too
    assert (await state(js, stream))[:2] == (4, 1)
    await found[5].ack()
    assert await state(js, stream) == (4, 0, 0, 6, 6)
    await js.purge_below(stream, 9)  # more than was given out
    assert seqs(await pull.fetch(10, 1.0)) == [(9, 1), (10, 1)]
    await js.purge_below(stream, 11)
    gone = await js.stream_state(stream)
    assert (gone.messages, gone.first_seq, gone.last_seq) == (0, 11, 10)
    assert (await state(js, stream))[:2] == (0, 0)


@on_both
async def test_a_purge_of_one_subject(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)
    pull = await consumer(js, stream, filter_subjects=[f"{prefix}.due.>"])
    for name in ("timer.1", "due.a", "timer.2", "due.b", "timer.3"):
        await js.publish(f"{prefix}.{name}", b"")
    await ack_all(await pull.fetch(10, 1.0))
    await js.purge_below(stream, 5, subject=f"{prefix}.due.>")
    left = await js.stream_state(stream)
    assert (left.messages, left.first_seq, left.last_seq) == (3, 1, 5)
    await js.publish(f"{prefix}.due.c", b"")
    (found,) = await pull.fetch(10, 1.0)
    await found.ack()
    assert (found.seq, (await state(js, stream))[3]) == (6, 6)
