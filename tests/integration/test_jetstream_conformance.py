"""What the simulation's model of JetStream does is what a real nats-server does: each scenario runs on both."""

from __future__ import annotations

import asyncio

from simulation.servers import refusals
from simulation.servers.places import Place, on_both
from simulation.servers.scenes import (
    SECOND,
    code_of,
    consumer,
    message,
    new_stream,
)
from simulation.servers.words import written

from peakclip.jetstream import (
    DUPLICATE_IN_BATCH,
    WRONG_LAST_SEQUENCE,
    JetStream,
    OutMessage,
)

# -- writing -----------------------------------------------------------------------------------------------


@on_both
async def test_a_message_id_is_stored_once_within_the_window(place: Place) -> None:
    js = place.js
    _, prefix = await new_stream(js, duplicate_window=SECOND // 2)
    first = await js.publish(f"{prefix}.a", b"1", message_id="a")
    again = await js.publish(f"{prefix}.b", b"2", message_id="a")
    assert (first.seq, first.duplicate, again.seq, again.duplicate) == (1, False, 1, True)
    await asyncio.sleep(1.0)
    later = await js.publish(f"{prefix}.a", b"1", message_id="a")
    assert (later.seq, later.duplicate) == (2, False)


@on_both
async def test_an_expectation_is_looked_at_before_the_message_id(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)
    assert (await js.publish(f"{prefix}.a", b"1", message_id="a", create_only=True)).seq == 1
    assert (
        await code_of(js.publish(f"{prefix}.a", b"1", message_id="a", create_only=True))
        == WRONG_LAST_SEQUENCE
    )
    assert (await js.publish(f"{prefix}.b", b"1", message_id="a", create_only=True)).duplicate
    assert (await js.publish(f"{prefix}.b", b"1", create_only=True)).seq == 2
    assert (await js.stream_state(stream)).last_seq == 2


@on_both
async def test_a_counter(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, allow_msg_counter=True)
    subject = f"{prefix}.n"
    assert (await js.increment(subject, 10, message_id="a")).value == 10
    assert (await js.increment(subject, -13)).value == -3
    repeat = await js.increment(subject, 10, message_id="a")
    assert (repeat.seq, repeat.duplicate, repeat.value) == (1, True, None)
    assert (await js.increment(f"{prefix}.m", 1)).value == 1
    stored = await js.last_message(stream, subject)
    assert stored is not None
    assert (stored.seq, stored.payload, stored.headers) == (2, b'{"val":"-3"}', {"Nats-Incr": "-13"})
    assert await code_of(js.publish(subject, b"x")) == refusals.NO_INCREMENT
    one = {"Nats-Incr": "1"}
    assert await code_of(js.publish(subject, b"x", headers=one)) == refusals.INCREMENT_WITH_PAYLOAD
    assert await code_of(js.publish(subject, b"", create_only=True, headers=one)) == refusals.WRONG_INCREMENT
    _, plain = await new_stream(js)
    assert await code_of(js.increment(f"{plain}.a", 1)) == refusals.NO_COUNTERS


def batch(prefix: str, *names: str) -> list[OutMessage]:
    return [
        OutMessage(f"{prefix}.{name}", name.encode(), {"Nats-Msg-Id": name, "Kind": "test"}) for name in names
    ]


@on_both
async def test_a_batch_is_stored_as_a_whole_or_not_at_all(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, allow_atomic=True)
    pull = await consumer(js, stream)
    assert (await js.publish_batch(batch(prefix, "a", "b", "c"))).seq == 3
    assert await code_of(js.publish_batch(batch(prefix, "d", "b"))) == DUPLICATE_IN_BATCH
    assert await code_of(js.publish_batch(batch(prefix, "e", "e"))) == DUPLICATE_IN_BATCH
    assert (await js.stream_state(stream)).last_seq == 3
    assert (await js.publish_batch(batch(prefix, "d", "e"))).seq == 5  # refused ones are not remembered
    assert (await js.publish(f"{prefix}.a", b"", message_id="e")).duplicate
    found = await pull.fetch(10, 1.0)
    assert [message.payload for message in found] == [b"a", b"b", b"c", b"d", b"e"]
    own = {key: value for key, value in found[1].headers.items() if not key.startswith("Nats-Batch-")}
    assert own == {"Nats-Msg-Id": "b", "Kind": "test"}
    assert set(found[1].headers) - set(own) == {"Nats-Batch-Id", "Nats-Batch-Sequence"}
    assert "Nats-Batch-Commit" in found[2].headers


@on_both
async def test_batches_that_are_refused(place: Place) -> None:
    js = place.js
    _, prefix = await new_stream(js)
    assert await code_of(js.publish_batch(batch(prefix, "a", "b"))) == refusals.NO_BATCHES
    stream, prefix = await new_stream(js, allow_atomic=True, discard="new", max_bytes=2_000)
    assert await code_of(js.publish_batch([OutMessage(f"{prefix}.a", b"x" * 500)] * 4)) == refusals.FULL
    headers = {"Nats-Batch-Id": "unknown", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
    assert await code_of(js.publish(f"{prefix}.a", b"", headers=headers)) == refusals.INCOMPLETE_BATCH
    assert (await js.stream_state(stream)).messages == 0


@on_both
async def test_a_full_stream_refuses_or_drops_the_oldest(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, discard="new", max_bytes=1_000)
    for _ in range(3):
        await js.publish(f"{prefix}.a", b"x" * 200, headers={"Name": "value"})
    assert await code_of(js.publish(f"{prefix}.a", b"x" * 200)) == refusals.FULL
    assert (await js.stream_state(stream)).messages == 3
    stream, prefix = await new_stream(js, max_bytes=1_000)
    for _ in range(6):
        await js.publish(f"{prefix}.a", b"x" * 200)
    found = await js.stream_state(stream)
    assert (found.messages, found.first_seq, found.last_seq) == (4, 3, 6)
    _, prefix = await new_stream(js, max_msg_size=100)
    assert await code_of(js.publish(f"{prefix}.a", b"x" * 101)) == refusals.TOO_LARGE


@on_both
async def test_sizes(place: Place) -> None:
    js = place.js
    for storage, expected in (("file", 2 * 30 + 4), ("memory", 2 * 16)):
        stream, prefix = await new_stream(js, storage=storage)
        await js.publish(f"{prefix}.a", b"12345", headers={"Name": "value"})
        await js.publish(f"{prefix}.b", b"")
        texts = 2 * (len(prefix) + 2) + 5 + len(b"NATS/1.0\r\nName: value\r\n\r\n")
        assert (await js.stream_state(stream)).size_bytes == expected + texts


@on_both
async def test_only_so_many_of_a_subject_are_kept(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, max_msgs_per_subject=2, discard="new")
    for name in "aabaca":
        await js.publish(f"{prefix}.{name}", b"")
    assert await js.count_messages(stream, f"{prefix}.a") == 2
    found = await js.stream_state(stream)
    assert (found.messages, found.first_seq, found.last_seq) == (4, 3, 6)
    assert [(await message(js, stream, seq)).seq for seq in (1, 4, 5)] == [3, 4, 5]


@on_both
async def test_keys_and_their_revisions(place: Place) -> None:
    js = place.js
    await js.create_stream(
        {
            "name": "KV_B",
            "subjects": ["$KV.B.>"],
            "max_msgs_per_subject": 2,
            "storage": "file",
            "discard": "new",
        }
    )
    assert await js.kv_get("B", "k") is None
    assert await js.kv_put("B", "k", b"1", revision=0) == 1
    assert await code_of(js.kv_put("B", "k", b"2", revision=0)) == WRONG_LAST_SEQUENCE
    assert await js.kv_put("B", "other", b"x") == 2
    assert await js.kv_put("B", "k", b"2", revision=1) == 3
    assert await code_of(js.kv_put("B", "k", b"3", revision=1)) == WRONG_LAST_SEQUENCE
    assert await js.kv_put("B", "k", b"3") == 4
    assert await js.kv_get("B", "k") == (b"3", 4)
    assert (await js.stream_state("KV_B")).first_seq == 2
    await js.purge_below("KV_B", 5, subject="$KV.B.k")
    assert await code_of(js.kv_put("B", "k", b"4", revision=4)) == WRONG_LAST_SEQUENCE
    assert await js.kv_put("B", "k", b"4", revision=0) == 5


@on_both
async def test_messages_grow_too_old(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, max_age=SECOND, duplicate_window=SECOND)
    await js.publish(f"{prefix}.a", b"")
    await asyncio.sleep(0.6)
    await js.publish(f"{prefix}.b", b"")
    assert (await js.stream_state(stream)).messages == 2
    await asyncio.sleep(0.7)
    found = await js.stream_state(stream)
    assert (found.messages, found.first_seq, found.last_seq) == (1, 2, 2)


# -- schedules ---------------------------------------------------------------------------------------------


async def schedule(js: JetStream, prefix: str, name: str, at: float, payload: bytes = b"x") -> None:
    headers = {"Nats-Schedule": f"@at {written(at)}", "Nats-Schedule-Target": f"{prefix}.due", "Own": name}
    await js.publish(f"{prefix}.timer.{name}", payload, message_id=name, headers=headers)


@on_both
async def test_a_schedule_delivers_once_when_it_is_due(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, allow_msg_schedules=True)
    pull = await consumer(js, stream, filter_subjects=[f"{prefix}.due"])
    began = (await js.stream_state(stream)).server_time
    await schedule(js, prefix, "late", began + 1.5)
    await schedule(js, prefix, "past", began - 10)
    await schedule(js, prefix, "moved", began + 0.1)
    again = {**(await message(js, stream, 1)).headers, "Own": "again", "Nats-Msg-Id": "other"}
    await js.publish(f"{prefix}.timer.moved", b"", headers=again)
    await asyncio.sleep(0.9)
    (first,) = await pull.fetch(10, 0.2)
    assert (first.payload, first.headers["Own"]) == (b"x", "past")
    assert "Nats-Msg-Id" not in first.headers
    assert (first.headers["Nats-Scheduler"], first.headers["Nats-Schedule-Next"]) == (
        f"{prefix}.timer.past",
        "purge",
    )
    assert await js.count_messages(stream, f"{prefix}.timer.*") == 2
    await asyncio.sleep(1.9)
    found = await pull.fetch(10, 0.5)
    assert {one.headers["Own"] for one in found if one.delivered == 1} == {"late", "again"}
    assert all(one.stored_at >= began + 1.5 for one in found if one.delivered == 1)
    assert await js.count_messages(stream, f"{prefix}.timer.*") == 0


@on_both
async def test_schedules_that_are_refused(place: Place) -> None:
    js = place.js
    _, prefix = await new_stream(js)
    headers = {"Nats-Schedule": "@at 2100-01-01T00:00:00Z", "Nats-Schedule-Target": f"{prefix}.b"}
    assert await code_of(js.publish(f"{prefix}.a", b"", headers=headers)) == refusals.NO_SCHEDULES
    _, prefix = await new_stream(js, allow_msg_schedules=True)
    for schedule_, target, code in (
        ("@at soon", f"{prefix}.b", refusals.WRONG_SCHEDULE),
        ("@at 2100-01-01T00:00:00Z", "elsewhere", refusals.WRONG_TARGET),
        ("@at 2100-01-01T00:00:00Z", f"{prefix}.a", refusals.WRONG_TARGET),
    ):
        headers = {"Nats-Schedule": schedule_, "Nats-Schedule-Target": target}
        assert await code_of(js.publish(f"{prefix}.a", b"", headers=headers)) == code
