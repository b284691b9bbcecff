"""A controller that ends and another that begins, on a real server: what was learned is not learned again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
import structlog
from support import until

from peakclip import topology
from peakclip.errors import ForbiddenError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.messages import PoolStatus, WorkerTelemetry, encode
from peakclip_operator.lag import JetStreamDelayed, JetStreamLag
from peakclip_operator.loop import ControlLoop
from peakclip_operator.memory import LONGEST_SECONDS, NatsMemory
from peakclip_operator.pace import NatsPace
from peakclip_operator.plan import Memory, PoolSpec
from peakclip_operator.ports import Ports, Workers, WorkerSample
from peakclip_operator.telemetry_source import NatsTelemetry

pytestmark = pytest.mark.integration

OF = "SECKILL/orders on one machine"
PER_WORKER = 10.0
TICK = 0.1


async def test_what_is_saved_is_loaded_by_the_next_and_by_nobody_elses(js: JetStream) -> None:
    store = NatsMemory(js, "orders", OF)
    assert await store.load(0.0) is None
    memory = Memory(replicas=7, needs=((99.0, 7),))
    await store.save(Memory(), 99.0)
    await store.save(memory, 100.0)
    assert await NatsMemory(js, "orders", OF).load(101.0) == memory
    assert (await js.stream_state(f"KV_{topology.MEMORY}")).messages == 1  # the newest only
    cases = [
        (NatsMemory(js, "orders", "SECKILL/orders by Deployment shop/other"), 101.0, "not of"),
        (store, 101.0 + LONGEST_SECONDS, "of no use after"),
    ]
    for other, now, why in cases:
        with structlog.testing.capture_logs() as lines:
            assert await other.load(now) is None
        (line,) = lines
        assert (line["event"], why in line["error"]) == ("memory_begins_anew", True)
    await js.kv_put(topology.MEMORY, "orders", b"{nonsense")
    with structlog.testing.capture_logs() as lines:
        assert await store.load(101.0) is None
    assert [line["event"] for line in lines] == ["memory_begins_anew"]


async def test_one_that_may_not_write_does_not_overwrite_what_its_successor_knows(js: JetStream) -> None:
    await NatsMemory(js, "orders", OF).save(Memory(replicas=3), 100.0)
    await NatsMemory(js, "orders", OF, may_write=lambda: False).save(Memory(replicas=9), 100.0)
    assert await NatsMemory(js, "orders", OF).load(100.0) == Memory(replicas=3)


async def test_without_the_bucket_it_begins_anew_and_says_who_makes_it(js: JetStream) -> None:
    await js._api(f"STREAM.DELETE.KV_{topology.MEMORY}")
    store = NatsMemory(js, "orders", OF)
    with structlog.testing.capture_logs() as lines:
        assert await store.load(0.0) is None
    assert (lines[0]["event"], lines[0]["made_by"]) == ("memory_not_kept", "peakclip migrate")
    with pytest.raises(UnavailableError):
        await store.save(Memory(), 0.0)


async def test_the_operators_role_may_keep_its_pools_memories_and_no_other_role_may(
    nats_server: NatsServer, js: JetStream
) -> None:
    async with await JetStream.connect(nats_server.url_of("operator"), name="test") as operator:
        await NatsMemory(operator, "orders", OF).save(Memory(replicas=4), 100.0)
        assert await NatsMemory(operator, "orders", OF).load(100.0) == Memory(replicas=4)
        with pytest.raises(ForbiddenError):
            await NatsMemory(operator, "of-others", OF).save(Memory(), 100.0)
    async with await JetStream.connect(nats_server.url_of("worker"), name="test") as worker:
        with structlog.testing.capture_logs() as lines:
            assert await NatsMemory(worker, "orders", OF).load(100.0) is None
        assert [line["event"] for line in lines if line["event"] == "memory_not_kept"] == ["memory_not_kept"]


@dataclass
class World:
    """Workers that are acknowledgements at a steady pace, and the controllers around them."""

    js: JetStream
    running: int = 1
    told: list[PoolStatus] = field(default_factory=list)
    done: int = 0
    busy_seconds: float = 0.0

    async def current(self) -> Workers:
        return Workers(running=self.running, starting=0)

    async def scale_to(self, replicas: int, idle_first: list[WorkerSample]) -> None:
        self.running = replicas

    async def publish(self, status: PoolStatus) -> None:
        self.told.append(status)

    async def work(self) -> None:
        """All workers as one: so much in a tenth of a second, and a word of it."""
        pull, since, number = self.js.pull(topology.SECKILL, "orders"), time.time(), 0
        while True:
            began, workers = time.monotonic(), self.running
            for message in await pull.fetch(min(200, round(workers * PER_WORKER * TICK)), 1.0):
                await message.ack()
                self.done += 1
                self.busy_seconds += 1 / PER_WORKER
            number += 1
            word = WorkerTelemetry(
                *("w-1", "orders", 1, since + number * TICK),
                *(self.done, 0, self.busy_seconds, 0.0, 0, 0),
                since=since,
                number=number,
            )
            await self.js.publish_core(f"{topology.WORKER_TELEMETRY}.orders.w-1", encode(word))
            await asyncio.sleep(max(0.0, TICK - (time.monotonic() - began)))

    @contextlib.asynccontextmanager
    async def controller(self, memory: bool = True) -> AsyncIterator[ControlLoop]:
        heard, pace = NatsTelemetry(self.js, "orders"), NatsPace(self.js, "orders")
        await heard.listen()
        loop = ControlLoop(
            "orders",
            PoolSpec(stabilization_seconds=20),
            Ports(
                *(JetStreamLag(self.js, topology.SECKILL, "orders"), JetStreamDelayed(self.js, "orders")),
                *(heard, self, pace, pace, self),
                memory=NatsMemory(self.js, "orders", OF) if memory else None,
            ),
            tick_seconds=0.2,
        )
        stopping = asyncio.Event()
        running = asyncio.create_task(loop.run(stopping))
        try:
            yield loop
        finally:
            stopping.set()
            await running
            await heard.close()


async def test_a_new_controller_in_the_middle_of_a_drain_makes_no_step_and_knows_what_was_learned(
    js: JetStream,
) -> None:
    await NatsPace(js, "orders").prepare(100.0, 100.0)
    for number in range(6_000):
        await js.publish_core("order.seckill.created.s1", str(number).encode())
    await until(lambda: _stored(js, 6_000))
    world = World(js)
    working = asyncio.create_task(world.work())
    try:
        async with world.controller() as first:
            # A worker does 10/s, and the guess with which a controller begins is 20/s.
            await until(lambda: world.running >= 12 and _speed(first) is not None)
            await asyncio.sleep(3.0)
            wanted, learned = world.running, _speed(first)
        told = len(world.told)
        async with world.controller() as second:
            await until(lambda: len(world.told) >= told + 20)
            after = world.told[told:]
            assert {status.workers_desired for status in after} == {wanted}
            assert after[0].per_worker_per_second == pytest.approx(learned, rel=0.2)
            assert after[0].reason == "CatchingUp"
            assert after[0].processed_total == 0  # nobody was heard yet
            assert max(status.processed_total for status in after) >= world.done * 0.9
            # Of what the worker did before, the plan sees nothing.
            seen = second.memory.counters.work.seen
            assert seen is not None
            assert seen.finished < world.done / 2
        told = len(world.told)
        async with world.controller(memory=False):
            await until(lambda: len(world.told) >= told + 1)
            assert world.told[told].per_worker_per_second is None  # so it was the memory
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _stored(js: JetStream, number: int) -> bool:
    return (await js.stream_state(topology.SECKILL)).messages >= number


def _speed(loop: ControlLoop) -> float | None:
    return loop.status.per_worker_per_second if loop.status is not None else None


def test_a_status_of_the_version_before_is_still_read() -> None:
    old = {
        **dict.fromkeys(PoolStatus.__struct_fields__),
        "pool": "orders",
        "at": 1.0,
        "limit_per_second": 1.0,
        "effective_per_second": 1.0,
        "paused": False,
        "workers_current": 0,
        "workers_desired": 0,
        "reason": "Idle",
        "binding_constraint": "minimum",
        "processed_total": 0,
        "failed_total": 0,
    }
    for name in ("formula", "bounds", "unknown", "inputs", "rate_reason", "lag_scheduled", "lag_redelivered"):
        del old[name]
    status = msgspec.json.decode(msgspec.json.encode(old), type=PoolStatus)
    assert (status.formula, status.bounds, status.unknown, status.inputs) == ("", (), {}, {})
