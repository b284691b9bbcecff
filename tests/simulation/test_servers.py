"""What befalls a connection to the model of JetStream, and what the project's own code makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from simulation.servers.network import Faults
from simulation.servers.places import Model, on_model
from simulation.servers.scenes import SECOND, consumer, filled, new_stream, seqs, state, until

from peakclip import streams, topology
from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.jetstream import OutMessage, StoredMessage
from peakclip_worker.relay import store_all


def simulated(scenario: Callable[[Model], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        on_model(scenario)

    test.__name__ = scenario.__name__
    return test


@simulated
async def test_a_lost_request_changes_nothing_and_nobody_says_so(place: Model) -> None:
    stream, prefix = await new_stream(place.js)
    place.network.faults = Faults(request_lost=1.0)
    began = place.network.now()
    with pytest.raises(OutcomeUnknownError):
        await place.js.publish(f"{prefix}.a", b"")
    assert place.network.now() - began == pytest.approx(2.0)  # the port's own time-out
    place.network.faults = Faults()
    assert (await place.js.stream_state(stream)).messages == 0


@simulated
async def test_a_lost_answer_hides_what_was_done(place: Model) -> None:
    stream, prefix = await new_stream(place.js)
    place.network.faults = Faults(answer_lost=1.0)
    with pytest.raises(OutcomeUnknownError):
        await place.js.publish(f"{prefix}.a", b"", message_id="a")
    place.network.faults = Faults()
    assert (await place.js.publish(f"{prefix}.a", b"", message_id="a")).duplicate
    assert (await place.js.stream_state(stream)).messages == 1


@simulated
async def test_a_broken_connection_comes_back(place: Model) -> None:
    stream, prefix = await new_stream(place.js)
    pull = await consumer(place.js, stream)
    waiting = asyncio.get_running_loop().create_task(pull.fetch(1, 30.0))
    await asyncio.sleep(0.1)
    place.network.cut_all()
    with pytest.raises(UnavailableError):
        await place.js.publish(f"{prefix}.a", b"")
    assert await waiting == []
    await until(lambda: place.js.connected)
    assert place.js.generation == 1
    await place.js.publish(f"{prefix}.a", b"")
    assert seqs(await pull.fetch(1, 1.0)) == [(1, 1)]


@simulated
async def test_a_crash_forgets_the_acknowledgements_of_the_last_moment(place: Model) -> None:
    stream, pull = await filled(place.js, 2)
    first, second = await pull.fetch(2, 1.0)
    await first.ack()
    await asyncio.sleep(0.2)
    await second.ack()
    assert await state(place.js, stream) == (0, 0, 0, 2, 2)
    await place.crash()
    assert await state(place.js, stream) == (0, 1, 0, 1, 2)
    await asyncio.sleep(0.5)
    assert seqs(await pull.fetch(2, 1.0)) == [(2, 2)]


def rough(seed: int) -> list[object]:
    """The relay's own way to store, while answers, requests and connections are lost and the server is killed."""
    told: list[object] = []

    async def scenario(place: Any) -> None:
        await streams.ensure(place.js)
        subject = topology.seckill_subject("s1")
        batch = [OutMessage(subject, b"%d" % number, {"Nats-Msg-Id": str(number)}) for number in range(40)]

        async def see(message: StoredMessage) -> None:
            told.append((message.seq, message.payload, message.at))

        await place.js.follow(topology.SECKILL, 1, see)
        place.network.faults = Faults(0.001, request_lost=0.05, answer_lost=0.05, cut=0.05, spike_chance=0.1)
        for begin, count in ((0, 20), (20, 3), (23, 17)):
            await store_all(place.js, batch[begin : begin + count], patience_seconds=120.0)
        await place.crash()
        place.network.faults = Faults()
        await until(lambda: len(told) == 40)

    on_model(scenario, seed)
    return told


@pytest.mark.parametrize("seed", range(20))
def test_the_relay_stores_everything_once_and_in_order(seed: int) -> None:
    told = rough(seed)
    assert [(seq, payload) for seq, payload, _ in told] == [(at + 1, b"%d" % at) for at in range(40)]  # type: ignore[misc]


def test_the_same_seed_gives_the_same_run() -> None:
    assert rough(7) == rough(7)
    assert rough(7) != rough(8)


@simulated
async def test_time_jumps_to_what_happens_next(place: Model) -> None:
    _, pull = await filled(place.js, 1, ack_wait=50 * SECOND)
    await pull.fetch(1, 1.0)
    events = place.network.kernel.count
    assert seqs(await pull.fetch(1, 60.0)) == [(1, 2)]
    assert place.network.kernel.count - events < 1000
