"""Consumers that are not Peakclip's, on a real server: their numbers, their bound, their pause."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from pools import take
from support import until

from peakclip import topology
from peakclip.errors import RefusedError
from peakclip.jetstream import CONSUMER_NOT_FOUND, JetStream
from peakclip.limiter.pace import read_pace
from peakclip.messages import WorkerTelemetry, encode
from peakclip_operator.foreign import ForeignConsumer, ForeignLag, ForeignPace, ForeignTelemetry
from peakclip_operator.ports import Workers
from peakclip_operator.resource_pace import ResourcePace, WantedPace
from peakclip_operator.telemetry_source import NatsTelemetry

pytestmark = pytest.mark.integration

WANTED = WantedPace(limit_per_second=100.0, burst=5, paused=False, enforced=True)


@pytest.fixture
async def js(js: JetStream) -> JetStream:
    """With a stream of others, of which the consumer gets a part."""
    await js.ensure_stream({"name": "MAIL", "subjects": ["mail.>"], "storage": "memory"})
    await js.ensure_consumer(
        "MAIL",
        {
            "durable_name": "letters",
            "ack_policy": "explicit",
            "filter_subject": "mail.letter",
            "max_ack_pending": 500,
            "description": "kept",
        },
    )
    return js


class World:
    def __init__(self, js: JetStream) -> None:
        self.js = js
        self.wanted = WANTED
        self.workers: Workers | None = Workers(running=4, starting=0)
        self.consumer = ForeignConsumer(js, "MAIL", "letters")
        self.lag = ForeignLag(self.consumer)
        self.heard = NatsTelemetry(js, "letters")
        self.telemetry = ForeignTelemetry(self.consumer, self.heard, lambda: self.workers)
        inner = ResourcePace(js, "letters", lambda: self.wanted)
        self.pace = ForeignPace(self.consumer, inner, lambda: self.wanted)

    async def info(self) -> dict[str, Any]:
        reply = await self.js.request("$JS.API.CONSUMER.INFO.MAIL.letters", b"")
        info: dict[str, Any] = msgspec.json.decode(reply.data)
        return info

    async def post(self, number: int, subject: str = "mail.letter") -> None:
        for _ in range(number):
            await self.js.publish(subject, b"x")


async def test_lag_is_that_of_the_consumer_and_not_of_the_stream(js: JetStream) -> None:
    world = World(js)
    await world.post(7, "mail.parcel")
    await world.post(5)
    lag = await world.lag.read()
    assert (lag.ready, lag.in_flight, lag.last_seq, lag.finished_seq) == (5, 0, 5, 0)
    assert lag.oldest_seconds is not None
    assert 0 <= lag.oldest_seconds < 30
    taken = await js.pull("MAIL", "letters").fetch(3, 2)
    await taken[0].ack()
    lag = await world.lag.read()
    assert (lag.ready, lag.in_flight, lag.last_seq, lag.finished_seq) == (2, 2, 5, 1)
    assert (lag.redelivered, lag.floor_seq) == (0, 8)  # seven of the stream are not for this consumer
    await taken[1].nak()
    await take(js.pull("MAIL", "letters"), 3)
    assert (await world.lag.read()).redelivered == 1


async def test_one_that_is_missing_is_refused_by_its_code(js: JetStream) -> None:
    with pytest.raises(RefusedError) as refused:
        await ForeignLag(ForeignConsumer(js, "MAIL", "nobody")).read()
    assert refused.value.code == CONSUMER_NOT_FOUND


async def test_it_is_paused_and_resumed_by_the_server_itself(js: JetStream) -> None:
    world = World(js)
    await world.lag.read()
    assert not (await world.pace.read()).paused
    world.wanted = replace(WANTED, paused=True)
    assert (await world.pace.read()).paused
    assert (await world.info())["paused"]
    await world.lag.read()
    await world.post(1)
    assert await js.pull("MAIL", "letters").fetch(1, 0.5) == []
    world.wanted = WANTED
    await world.pace.read()
    info = await world.info()
    assert not info.get("paused")
    assert info["config"]["description"] == "kept"
    assert len(await js.pull("MAIL", "letters").fetch(1, 2)) == 1


async def test_advice_changes_neither_the_pause_nor_the_bound(js: JetStream) -> None:
    world = World(js)
    world.wanted = replace(WANTED, paused=True, enforced=False)
    before = (await world.info())["config"]
    await world.lag.read()
    await world.pace.read()
    assert (await world.info())["config"] == before
    assert await read_pace(js, "letters") is None


async def test_the_drain_comes_down_to_the_limit(js: JetStream) -> None:
    """Twenty workers that need 50 ms for each message would do 400/s."""
    world = World(js)
    world.workers = Workers(running=20, starting=0)
    world.wanted = replace(WANTED, limit_per_second=60.0)
    await world.post(1500)
    async with working(js, 20, 0.05):

        async def bounded() -> bool:
            await world.lag.read()
            await world.pace.read()
            await asyncio.sleep(0.1)
            return int((await world.info())["config"]["max_ack_pending"]) <= 4

        await until(bounded, 30)
        assert (await world.info())["config"]["filter_subject"] == "mail.letter"


async def test_workers_that_say_nothing_are_told_from_the_numbers(js: JetStream) -> None:
    world = World(js)
    await world.post(400)
    async with working(js, 4, 0.02):

        async def measured() -> bool:
            await world.lag.read()
            totals = (await world.telemetry.read(0.0)).totals
            await asyncio.sleep(0.1)
            return totals.finished > 50 and totals.busy_seconds > 0.5

        await until(measured, 20)


async def test_workers_that_use_the_library_keep_the_rate_themselves(js: JetStream) -> None:
    world = World(js)
    await world.heard.listen()
    word = WorkerTelemetry(
        worker="p-1", pool="letters", pid=1, at=0.0, finished=3, failed=0, busy_seconds=1.0,
        limiter_wait_seconds=0.0, starts_max_sliding_second=0, in_flight=1,
    )  # fmt: skip
    await js.publish_core(f"{topology.WORKER_TELEMETRY}.letters.p-1", encode(word))

    async def heard() -> bool:
        return bool((await world.telemetry.read(time.time())).workers)

    await until(heard)
    assert (await world.telemetry.read(time.time())).finished_ever == 3
    assert world.consumer.speaks
    await world.heard.close()


@contextlib.asynccontextmanager
async def working(js: JetStream, workers: int, seconds: float) -> AsyncIterator[None]:
    """As people write them: one message at a time."""

    async def work() -> None:
        consumer = js.pull("MAIL", "letters")
        while True:
            for message in await consumer.fetch(1, 1):
                await asyncio.sleep(seconds)
                await message.ack()

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_server_without_the_bucket_is_no_trouble_for_them(js: JetStream) -> None:
    await js._api(f"STREAM.DELETE.KV_{topology.PACE}")
    world = World(js)
    await world.lag.read()
    reading = await world.pace.read()
    assert (reading.limit_per_second, reading.effective_per_second) == (100.0, 100.0)
