"""The operator's adapters against a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime

import msgspec
import pytest
from nats.aio.msg import Msg
from pools import take

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus, WorkerTelemetry, encode
from peakclip_operator.lag import JetStreamDelayed, JetStreamLag
from peakclip_operator.loop import ControlLoop
from peakclip_operator.pace import NatsPace
from peakclip_operator.plan import Lag, PoolSpec
from peakclip_operator.ports import Ports, Workers
from peakclip_operator.status import NatsStatus
from peakclip_operator.telemetry_source import NatsTelemetry

pytestmark = pytest.mark.integration


@pytest.fixture
async def js(js: JetStream) -> JetStream:
    """With a stream of these tests' own beside the declared ones."""
    await js.ensure_stream({"name": "CONTROL", "subjects": ["control.>"], "storage": "memory"})
    await js.ensure_consumer("CONTROL", {"durable_name": "c", "ack_policy": "explicit"})
    return js


async def test_lag_tells_ready_from_in_flight_and_counts_what_is_finished(js: JetStream) -> None:
    source = JetStreamLag(js, "CONTROL", "c")
    assert await source.read() == Lag(0, 0, 0, 0, None, redelivered=0, floor_seq=0)
    for _ in range(5):
        await js.publish("control.a", b"x")
    messages = await js.pull("CONTROL", "c").fetch(3, 1.0)
    await messages[1].ack()  # not the first: the acknowledgement floor stays
    lag = await source.read()
    assert (lag.ready, lag.in_flight, lag.last_seq, lag.finished_seq) == (2, 2, 5, 1)
    assert lag.oldest_seconds is not None
    assert 0 <= lag.oldest_seconds < 5
    assert (lag.redelivered, lag.floor_seq) == (0, 0)
    await messages[2].nak()
    again = await take(js.pull("CONTROL", "c"), 3)
    assert sorted(message.delivered for message in again) == [1, 1, 2]
    await messages[0].ack()
    await js.round_trip()
    lag = await source.read()
    assert (lag.ready, lag.in_flight, lag.redelivered, lag.floor_seq) == (0, 3, 1, 2)


async def test_lag_of_a_consumer_that_does_not_exist_is_an_error(js: JetStream) -> None:
    with pytest.raises(PeakclipError):
        await JetStreamLag(js, "CONTROL", "nobody").read()


def _delay(js: JetStream, pool: str, name: str, seconds: float) -> Awaitable[object]:
    """A message's next attempt, `seconds` from now."""
    at = datetime.fromtimestamp(time.time() + seconds, UTC).isoformat(timespec="milliseconds")
    headers = {
        "Nats-Schedule": f"@at {at.replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": topology.due_subject(pool),
    }
    return js.publish(topology.delayed_subject(pool, name), b"x", headers=headers)


async def test_delayed_are_the_schedules_and_what_is_due_and_not_yet_moved(js: JetStream) -> None:
    now = 100.0
    source = JetStreamDelayed(js, "orders", clock=lambda: now)
    assert await source.read() == 0
    for number in range(5):
        await _delay(js, "orders", f"later-{number}", 3600)
    for number in range(3):
        await _delay(js, "orders", f"soon-{number}", 0.3)
    await _delay(js, "effects", "later", 3600)
    await _delay(js, "effects", "soon", 0.6)  # the last to come
    await js.publish(f"{topology.TIMER_DUE}.expiry", b"")
    assert await source.read() == 0  # not looked again in the same second
    now += 1
    assert await source.read() == 8
    relay = js.pull(topology.TIMERS, "relay")
    moved = []
    while len(moved) < 5:  # they are due now, and nobody has moved them
        moved += await relay.fetch(5 - len(moved), 1.0)
    now += 1
    assert await source.read() == 8
    *others, last = sorted(moved, key=lambda message: message.seq)
    for message in others:
        await message.ack()
    now += 1
    assert await source.read() == 5  # what is left is another pool's
    await last.ack()
    now += 1
    assert await source.read() == 5
    assert await JetStreamDelayed(js, "effects").read() == 1


async def test_what_is_delayed_is_unknown_without_its_stream(js: JetStream) -> None:
    now = 100.0
    source = JetStreamDelayed(js, "orders", clock=lambda: now)
    assert await source.read() == 0
    await js._api(f"STREAM.DELETE.{topology.TIMERS}")
    now += 1
    for _ in range(2):  # the second time in the same second, too: the old number is not shown for a new one
        with pytest.raises(PeakclipError):
            await source.read()


async def test_the_pace_is_set_at_the_start_and_kept_afterwards(js: JetStream) -> None:
    pace = NatsPace(js, "pool-of-this-test")
    with pytest.raises(PeakclipError):
        await pace.read()
    await pace.prepare(None, 250)
    assert (await pace.read()).limit_per_second == 250
    await pace.prepare(400, 250)
    await pace.prepare(None, 250)
    seen = await pace.read()
    assert (seen.limit_per_second, seen.effective_per_second, seen.batch) == (400, 400, 4)


async def test_the_loop_hears_workers_and_tells_its_status(js: JetStream) -> None:
    statuses: list[PoolStatus] = []

    async def received(msg: Msg) -> None:
        statuses.append(msgspec.json.decode(msg.data, type=PoolStatus))

    await js.subscribe_core(f"{topology.POOL_STATUS}.control", received)
    heard = NatsTelemetry(js, "control")
    await heard.listen()
    pace = NatsPace(js, "control")
    await pace.prepare(50, 100)
    scaler = InMemoryScaler()
    lag, delayed = JetStreamLag(js, "CONTROL", "c"), JetStreamDelayed(js, "control")
    ports = Ports(lag, delayed, heard, scaler, pace, pace, NatsStatus(js))
    loop = ControlLoop("control", PoolSpec(), ports)
    for _ in range(60):
        await js.publish("control.a", b"x")
    word = WorkerTelemetry(
        worker="w1",
        pool="control",
        pid=1,
        at=time.time(),
        finished=44,
        failed=1,
        busy_seconds=2.0,
        limiter_wait_seconds=9.0,
        starts_max_sliding_second=40,
        in_flight=1,
    )
    await js.publish_core(f"{topology.WORKER_TELEMETRY}.control.w1", encode(word))
    await js.publish_core(f"{topology.WORKER_TELEMETRY}.control.w2", b"nonsense")
    for _ in range(20):
        await loop.tick()
        if statuses and statuses[-1].processed_total:
            break
        await asyncio.sleep(0.05)
    status = statuses[-1]
    assert (status.limit_per_second, status.lag_ready, status.processed_total, status.failed_total) == (
        50,
        60,
        44,
        1,
    )
    assert status.workers_desired == scaler.wanted
    assert status.burst is not None


class InMemoryScaler:
    def __init__(self) -> None:
        self.wanted = 1

    async def current(self) -> Workers:
        return Workers(running=self.wanted, starting=0)

    async def scale_to(self, replicas: int, idle_first: object) -> None:
        self.wanted = replicas
