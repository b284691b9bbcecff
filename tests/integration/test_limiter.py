"""The limiter against a real nats-server: several workers in one process, counts and bounds only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from peakclip import streams, topology
from peakclip.jetstream import JetStream
from peakclip.limiter.limiter import Limiter, Start
from peakclip.limiter.pace import FENCE_SECONDS, set_pace
from peakclip.limiter.sliding import SlidingSecond

pytestmark = pytest.mark.integration

POOL = "orders"


@dataclass
class Crew:
    """Workers with a connection and a limiter each. `starts` is by the machine's own clock."""

    url: str
    workers: int
    apart_seconds: float = 0.0  # from the beginning of one worker to that of the next
    starts: list[tuple[float, int]] = field(default_factory=list)
    limiters: list[Limiter] = field(default_factory=list)
    connections: list[JetStream] = field(default_factory=list)
    working: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def _work(self, number: int) -> None:
        await asyncio.sleep(number * self.apart_seconds)
        async with await JetStream.connect(self.url, name=f"worker-{number}") as js:
            limiter = Limiter(js, POOL)
            self.connections.append(js)
            self.limiters.append(limiter)
            looking = asyncio.create_task(limiter.run())
            try:
                while True:
                    await self.working.wait()
                    start = await limiter.acquire(limiter.chunk)
                    self.starts.append((time.monotonic(), start.count))
                    self.started.set()
            finally:
                looking.cancel()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Crew]:
        self.working.set()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work(number)) for number in range(self.workers)]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    @property
    def most(self) -> int:
        second = SlidingSecond()
        for at, count in sorted(self.starts):
            second.add(at, count)
        return second.most

    async def measured(self, seconds: float) -> float:
        """Starts per second over the next seconds."""
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        end = time.monotonic()
        return sum(count for at, count in self.starts if begin <= at < end) / (end - begin)

    async def until_first_start(self, seconds: float = 20.0) -> None:
        """The first from now on."""
        self.started.clear()
        async with asyncio.timeout(seconds):
            await self.started.wait()

    async def until_rate(self, wanted: float, seconds: float = 20.0) -> None:
        """Until the workers together start so many in a second: whoever lost the connection comes back in time."""
        deadline = time.monotonic() + seconds
        while not near(found := await self.measured(1.0), wanted):
            assert time.monotonic() < deadline, f"{found:.0f}/s instead of {wanted:.0f}/s after {seconds} s"


def near(rate: float, wanted: float) -> bool:
    """Well in order. Without a margin below, a starved machine would fail: it lowers the rate, never raises it."""
    return 0.5 * wanted < rate <= 1.06 * wanted + 1


@pytest.fixture
async def crew(nats_url: str, js: JetStream) -> Callable[[int], Crew]:
    return lambda workers: Crew(nats_url, workers)


async def test_five_workers_start_r_together(js: JetStream, crew: Callable[[int], Crew]) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    async with crew(5).running() as c:
        await c.until_first_start()
        await asyncio.sleep(0.5)
        rate = await c.measured(3.0)
    assert c.most <= 105
    assert near(rate, 100)
    assert all(limiter.starts_max_sliding_second <= 105 for limiter in c.limiters)
    assert all(limiter.wait_seconds_total > 2 for limiter in c.limiters)


async def test_chunks_at_a_high_rate(js: JetStream, crew: Callable[[int], Crew]) -> None:
    await set_pace(js, POOL, limit_per_second=2_000)
    async with crew(3).running() as c:
        await c.until_first_start()
        await asyncio.sleep(0.5)
        assert c.limiters[0].chunk == 20
        rate = await c.measured(2.0)
    assert c.most <= 2_100
    assert near(rate, 2_000)


async def test_half_a_start_per_second(js: JetStream, crew: Callable[[int], Crew]) -> None:
    await set_pace(js, POOL, limit_per_second=0.5)
    async with crew(3).running() as c:
        await c.until_first_start()
        await asyncio.sleep(4.5)
    assert 1 <= sum(count for _, count in c.starts) <= 3
    assert c.most == 1


async def test_an_idle_crew_banks_nothing(js: JetStream, crew: Callable[[int], Crew]) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    async with crew(5).running() as c:
        await c.until_first_start()
        c.working.clear()
        await asyncio.sleep(2.5)
        c.starts.clear()
        c.working.set()
        await asyncio.sleep(1.5)
    assert c.most <= 105
    assert sum(count for _, count in c.starts) >= 60


async def test_a_changing_rate_never_exceeds_the_larger(js: JetStream, crew: Callable[[int], Crew]) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    async with crew(5).running() as c:
        await c.until_first_start()
        await asyncio.sleep(1.0)
        await set_pace(js, POOL, limit_per_second=400)
        await asyncio.sleep(FENCE_SECONDS + 0.3)
        assert near(await c.measured(1.0), 400)
        before = list(c.starts)
        await set_pace(js, POOL, limit_per_second=50)
        await asyncio.sleep(FENCE_SECONDS + 0.4)
        c.starts.clear()
        assert near(await c.measured(1.5), 50)
    assert c.most <= 55
    c.starts = before
    assert c.most <= 420


async def test_pause_and_resume(js: JetStream, crew: Callable[[int], Crew]) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    async with crew(3).running() as c:
        await c.until_first_start()
        await set_pace(js, POOL, paused=True)
        await asyncio.sleep(FENCE_SECONDS + 0.4)
        assert await c.measured(1.0) == 0
        assert all(limiter.paused for limiter in c.limiters)
        await set_pace(js, POOL, paused=False)
        await c.until_first_start()
        assert not any(limiter.paused for limiter in c.limiters)


async def test_without_a_rate_nothing_starts(js: JetStream, crew: Callable[[int], Crew]) -> None:
    async with crew(2).running() as c:
        assert await c.measured(1.5) == 0
        await set_pace(js, POOL, limit_per_second=100)
        await c.until_first_start()


async def test_a_stale_pace_closes_the_limiter(js: JetStream, crew: Callable[[int], Crew]) -> None:
    """The bucket cannot be read any more, while the counters go on answering."""
    await set_pace(js, POOL, limit_per_second=100)
    async with crew(2).running() as c:
        await c.until_first_start()
        for limiter in c.limiters:
            limiter._look_once = _never  # type: ignore[method-assign]
        await asyncio.sleep(1.5)
        assert await c.measured(1.0) == 0


async def _never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("harm", ["delete", "kill"])
async def test_lost_counters_heal_and_never_add(
    js: JetStream, crew: Callable[[int], Crew], nats_server: Any, harm: str
) -> None:
    """Deleting the stream and killing the server both make the counters begin anew, at 0, in the middle of windows."""
    await set_pace(js, POOL, limit_per_second=100)
    async with crew(5).running() as c:
        await c.until_first_start()
        await asyncio.sleep(1.0)
        for _ in range(2):
            await _harm(js, nats_server, harm)
            await c.until_first_start()
            await asyncio.sleep(0.7)
        await c.until_rate(100)
    assert c.most <= 105


async def test_counters_that_are_replaced_at_once_never_hand_out_a_slot_twice(
    js: JetStream, crew: Callable[[int], Crew]
) -> None:
    """The nastiest moment: many workers hold tickets ahead, nobody sees an error, and each looks at another time."""
    await set_pace(js, POOL, limit_per_second=100)
    c = crew(25)
    c.apart_seconds = 0.5 / 25
    async with c.running():
        await c.until_first_start()
        await asyncio.sleep(1.0)
        for _ in range(3):
            await js._api(f"STREAM.DELETE.{topology.TICKETS}")
            await streams.ensure(js)
            await asyncio.sleep(1.7)
        await c.until_rate(100)
    assert c.most <= 105


async def _harm(js: JetStream, nats_server: Any, harm: str) -> None:
    if harm == "delete":
        await js._api(f"STREAM.DELETE.{topology.TICKETS}")
    else:
        await nats_server.kill()
        await nats_server.start()


async def test_a_cancelled_acquire_keeps_its_ticket_for_the_next(js: JetStream) -> None:
    await set_pace(js, POOL, limit_per_second=1)
    limiter = Limiter(js, POOL)
    looking = asyncio.create_task(limiter.run())
    counts = 0
    deadline = time.monotonic() + 3.5
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):  # asks five times for each slot
                async with asyncio.timeout(0.2):
                    counts += (await limiter.acquire(1)).count
    finally:
        looking.cancel()
    assert 1 <= counts <= 4  # none, if every cancellation took a ticket with it


async def test_no_cancellation_is_lost(js: JetStream) -> None:
    """A worker that is told to stop must stop, also when the answer of a counter arrives in the same moment."""
    await set_pace(js, POOL, limit_per_second=2_000)
    limiter = Limiter(js, POOL)
    looking = asyncio.create_task(limiter.run())
    await limiter.acquire(1)

    async def work() -> None:
        while True:
            await limiter.acquire(limiter.chunk)

    for number in range(400):
        worker = asyncio.create_task(work())
        await asyncio.sleep(number % 12 / 1000)
        worker.cancel()
        done, _ = await asyncio.wait([worker], timeout=1.0)
        assert done, f"cancellation {number} was lost"
    looking.cancel()


async def test_acquires_of_one_worker_wait_in_turn(js: JetStream) -> None:
    await set_pace(js, POOL, limit_per_second=50)
    limiter = Limiter(js, POOL)
    looking = asyncio.create_task(limiter.run())
    starts: list[Start] = await asyncio.gather(*(limiter.acquire(1) for _ in range(20)))
    looking.cancel()
    assert [start.count for start in starts] == [1] * 20
    assert starts[-1].at - starts[0].at >= 0.38 - 0.05  # 19 slots of 20 ms, the first may have been late
