"""What a whole worker says of itself, heard by a controller that began before it and by one that began late."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg
from support import insert_sale, make_order, unfinished, until

from peakclip import messages, topology
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.messages import DATABASE_BOUNDS, WorkerTelemetry
from peakclip.service import Service
from peakclip_operator.heard import WorkersHeard
from peakclip_operator.telemetry_source import NatsTelemetry
from peakclip_worker.main import work
from peakclip_worker.settings import WorkerSettings

pytestmark = pytest.mark.integration


async def test_a_worker_tells_its_age_its_number_and_how_the_database_answered(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    words: list[WorkerTelemetry] = []
    came: list[float] = []

    async def received(msg: Msg) -> None:
        words.append(msgspec.json.decode(msg.data, type=WorkerTelemetry))
        came.append(time.time())

    await js.subscribe_core(f"{topology.WORKER_TELEMETRY}.orders.*", received)
    began = NatsTelemetry(js, "orders")
    await began.listen()
    await set_pace(js, "orders", limit_per_second=100)
    await insert_sale(database, stock=1_000)
    service, before = Service(), time.time()
    settings = WorkerSettings(nats_url=nats_url, database_url=fresh_database_url, pool="orders")
    working = asyncio.create_task(work(settings, service))
    try:
        await until(lambda: len(words) >= 2)
        late = WorkersHeard(time.time())  # its controller has just begun
        for number in range(40):
            order = make_order()
            await js.publish(topology.line_subject("s1"), messages.encode(order), message_id=f"w{number}")
        await until(lambda: _drained(js))
        seen = len(words)
        await until(lambda: len(words) >= seen + 2)
    finally:
        service.stopping.set()
        await asyncio.wait_for(working, 20)
        await service.cancel_side_tasks()
    last = words[-1]
    assert [word.number for word in words] == list(range(1, len(words) + 1))
    assert {word.since for word in words} == {last.since}
    assert last.since is not None
    assert before - 1 <= last.since <= time.time()
    assert last.database is not None
    assert 0 < last.database.calls == sum(last.database.took)
    assert (last.database.errors, len(last.database.took)) == (0, len(DATABASE_BOUNDS) + 1)
    for word, at in zip(words[2:], came[2:], strict=True):
        late.hear(word, at)
    assert late.report(time.time()).totals.finished == last.finished - words[2].finished
    totals = (await began.read(time.time())).totals
    assert (totals.finished, totals.failed) == (40, 0)
    assert totals.database is not None
    assert totals.database.calls == last.database.calls
    await began.close()


async def _drained(js: JetStream) -> bool:
    return await unfinished(js, topology.SECKILL, "orders") == 0
