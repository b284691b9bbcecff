"""What of the simulation's model outlives a restart, and what is missing, is as with a real nats-server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from simulation.servers.places import Place, on_both
from simulation.servers.scenes import (
    ACK_WAIT,
    code_of,
    consumer,
    new_stream,
    seqs,
    state,
    until,
)

from peakclip import streams, topology
from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.jetstream import (
    CONSUMER_NOT_FOUND,
    NAME_IN_USE,
    STREAM_NOT_FOUND,
    StoredMessage,
)

# -- restarts ----------------------------------------------------------------------------------------------


@on_both
async def test_a_restart_keeps_files_and_forgets_memory(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)
    memory, lost = await new_stream(js, storage="memory")
    pull = await consumer(js, stream)
    for name in "abc":
        await js.publish(f"{prefix}.{name}", b"", message_id=name)
    await js.publish(f"{lost}.a", b"")
    found = await pull.fetch(2, 1.0)
    await found[0].ack()
    await js.purge_below(stream, 2)
    generation = js.generation
    await place.restart()
    assert js.generation == generation + 1
    assert await code_of(js.stream_state(memory)) == STREAM_NOT_FOUND
    with pytest.raises(UnavailableError):
        await js.publish(f"{lost}.a", b"")
    assert (await js.publish(f"{prefix}.b", b"", message_id="b")).duplicate
    assert (await js.publish(f"{prefix}.a", b"", message_id="a")).seq == 4  # forgotten with its message
    await asyncio.sleep(ACK_WAIT + 0.3)
    assert seqs(await pull.fetch(10, 2.0)) == [(2, 2), (3, 1), (4, 1)]
    assert (await state(js, stream))[:4] == (0, 3, 1, 1)


@on_both
async def test_a_crash_loses_nothing_that_was_acknowledged_by_the_server(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js, allow_msg_counter=True)
    waiting = asyncio.get_running_loop().create_task((await consumer(js, stream)).fetch(1, 20.0))
    await asyncio.sleep(0.1)
    await place.crash()
    assert await asyncio.wait_for(waiting, 2) == []
    assert (await js.increment(f"{prefix}.n", 5)).value == 5
    await place.crash()
    assert (await js.increment(f"{prefix}.n", 5)).value == 10
    assert [one.seq for one in await js.pull(stream, "c").fetch(5, 1.0)] == [1, 2]


@on_both
async def test_a_request_ends_with_its_connection(place: Place) -> None:
    """Whoever waits hears of it before their time is up."""
    js = place.js
    heard = asyncio.Event()

    async def never_answer(_: Any) -> None:
        heard.set()

    await js.subscribe_core("nobody.answers", never_answer)
    asked = asyncio.get_running_loop().create_task(js.request("nobody.answers", b"", timeout_seconds=600))
    await heard.wait()
    await place.crash()
    with pytest.raises(OutcomeUnknownError):
        await asyncio.wait_for(asked, 5)


@on_both
async def test_a_follower_goes_on_after_a_restart(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)
    seen: list[tuple[int, str]] = []

    async def see(found: StoredMessage) -> None:
        seen.append((found.seq, found.subject))

    for name in "abab":
        await js.publish(f"{prefix}.{name}", b"")
    await js.follow(stream, 2, see, subject=f"{prefix}.b")
    await asyncio.sleep(0.2)
    assert seen == [(2, f"{prefix}.b"), (4, f"{prefix}.b")]
    await place.restart()
    await js.publish(f"{prefix}.b", b"")
    await until(lambda: len(seen) >= 3)
    assert seen[2:] == [(5, f"{prefix}.b")]


# -- the rest ----------------------------------------------------------------------------------------------


@on_both
async def test_what_is_missing_is_refused_by_its_code_or_heard_by_nobody(place: Place) -> None:
    js = place.js
    stream, prefix = await new_stream(js)

    async def ignore(_: StoredMessage) -> None: ...

    for ask in (
        js.stream_state("NONE"),
        js.consumer_state("NONE", "c"),
        js.last_message("NONE", "a"),
        js.purge_below("NONE", 1),
        js.follow("NONE", 1, ignore),
    ):
        assert await code_of(ask) == STREAM_NOT_FOUND
    assert await code_of(js.consumer_state(stream, "none")) == CONSUMER_NOT_FOUND
    assert (
        await code_of(js.create_stream({"name": stream, "subjects": ["other"], "storage": "file"}))
        == NAME_IN_USE
    )
    assert await js.last_message(stream, f"{prefix}.a") is None
    assert await js.message_from(stream, 1) is None
    for absent in (
        js.publish("nobody.listens", b""),
        js.count_messages("NONE", ">"),
        js.request("nobody.listens", b""),
    ):
        with pytest.raises(UnavailableError):
            await absent
    assert await js.pull(stream, "none").fetch(1, 0.1) == []
    pull = await consumer(js, stream)
    await js.publish(f"{prefix}.a", b"")
    (found,) = await pull.fetch(1, 1.0)
    await js._api(f"STREAM.DELETE.{stream}")
    with pytest.raises(UnavailableError):
        await found.ack()


@on_both
async def test_core_messages_reach_those_who_listen(place: Place) -> None:
    js = place.js
    heard: list[tuple[str, bytes]] = []

    async def hear(msg: Any) -> None:
        heard.append((msg.subject, msg.data))

    listening = await js.subscribe_core("peak.*", hear)
    await js.round_trip()
    await js.publish_core("peak.a", b"1")
    await js.publish_core("peak.a.b", b"2")
    await js.round_trip()
    await listening.unsubscribe()
    await js.publish_core("peak.a", b"3")
    await js.round_trip()
    assert heard == [("peak.a", b"1")]
    await js.subscribe_core("deaf", hear)
    with pytest.raises(OutcomeUnknownError):
        await js.request("deaf", b"", timeout_seconds=0.1)


@on_both
async def test_the_declared_streams_and_consumers_are_taken(place: Place) -> None:
    await streams.ensure(place.js)
    await streams.ensure(place.js)
    assert await streams.missing(place.js, list(topology.STREAMS), list(topology.CONSUMERS)) == []
