"""Pools that share one R, with the real limiter on a real nats-server: who starts how much, and never more than R."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from integration.test_pools import SUBJECTS, operator
from support import until

from peakclip import roles, topology
from peakclip.jetstream import JetStream
from peakclip.limiter.limiter import Limiter
from peakclip.limiter.pace import FENCE_SECONDS, Share, read_pace, set_pace
from peakclip.limiter.sliding import SlidingSecond
from peakclip_operator.lanes import SOON_SECONDS, TICK_SECONDS, Demand, Group, Member, SharedRates
from peakclip_operator.pace import NatsPace
from peakclip_operator.resource_pace import ResourcePace, WantedPace
from peakclip_operator.settings import PoolSettings

pytestmark = pytest.mark.integration

R = 100.0
GROUP = "test.database"
BURST = 5  # of each lane
LIMITS = {"orders": 100.0, "reaper": 80.0}
# From a burst to its share: a look that tells the others, one that tells the lane, the fence. And a slow machine.
SECONDS_TO_SHARE = TICK_SECONDS + SOON_SECONDS + FENCE_SECONDS + 0.05
SLACK = 1.5


@dataclass
class Site:
    """Two pools whose workers always have something to do when told so, and the group that looks after both."""

    js: JetStream
    starts: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: {pool: [] for pool in LIMITS})
    demands: dict[str, Demand] = field(default_factory=lambda: dict.fromkeys(LIMITS, Demand(0.0)))
    busy: dict[str, asyncio.Event] = field(default_factory=lambda: {pool: asyncio.Event() for pool in LIMITS})
    shared: SharedRates = field(default_factory=SharedRates)
    looking: asyncio.Task[None] | None = None

    def burst(self, pool: str) -> None:
        self.demands[pool] = Demand(500.0, backlog=True)
        self.busy[pool].set()

    def done(self, pool: str) -> None:
        self.demands[pool] = Demand(0.0)
        self.busy[pool].clear()

    def look(self) -> None:
        """A controller that knows nothing of the one before."""
        self.shared = SharedRates()
        for pool, priority in (("orders", 10), ("reaper", 0)):
            guarantee = 10.0 if pool == "reaper" else 0.0
            member = Member(pool, GROUP, R, LIMITS[pool], priority, guarantee=guarantee)
            self.shared.join(pool, member, lambda pool=pool: self.demands[pool])  # type: ignore[misc]
        self.looking = asyncio.create_task(self.shared.run(lambda: self.js))

    async def blind(self) -> None:
        assert self.looking is not None
        self.looking.cancel()
        await asyncio.gather(self.looking, return_exceptions=True)

    async def work(self, pool: str, js: JetStream) -> None:
        limiter = Limiter(js, pool)
        looking = asyncio.create_task(limiter.run())
        try:
            while True:
                await self.busy[pool].wait()
                start = await limiter.acquire(limiter.chunk)
                self.starts[pool].append((time.monotonic(), start.count))
        finally:
            looking.cancel()

    @property
    def most(self) -> int:
        second = SlidingSecond()
        for at, count in sorted(one for starts in self.starts.values() for one in starts):
            second.add(at, count)
        return second.most

    async def measured(self, seconds: float) -> dict[str, float]:
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        end = time.monotonic()
        return {
            pool: sum(count for at, count in starts if begin <= at < end) / (end - begin)
            for pool, starts in self.starts.items()
        }

    async def share(self, pool: str) -> float:
        found = await read_pace(self.js, pool)
        return found[0].effective_per_second if found else -1.0


@contextlib.asynccontextmanager
async def site(js: JetStream, nats_url: str) -> AsyncIterator[Site]:
    one = Site(js)
    for pool, limit in LIMITS.items():
        await NatsPace(js, pool).prepare(limit, limit, GROUP)
        assert await one.share(pool) == 0  # nothing starts before the group has said how much
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for pool in LIMITS:
            for number in range(2):
                own = await stack.enter_async_context(
                    await JetStream.connect(nats_url, name=f"{pool}-{number}")
                )
                tasks.append(asyncio.create_task(one.work(pool, own)))
        one.look()
        try:
            yield one
        finally:
            for task in tasks:
                task.cancel()
            await one.blind()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_two_pools_share_r_while_their_shares_move(js: JetStream, nats_url: str) -> None:
    async with site(js, nats_url) as one:
        await until(lambda: one.shared.facts("orders") is not None)
        one.burst("reaper")
        await until_share(one, "reaper", 80)
        alone = await one.measured(2.0)
        assert 60 <= alone["reaper"] <= 85

        one.burst("orders")  # and the reaper goes on
        await asyncio.sleep(SECONDS_TO_SHARE + SLACK)
        assert (await one.share("orders"), await one.share("reaper")) == (90, 10)
        both = await one.measured(3.0)
        assert 80 <= both["orders"] <= 95
        assert 8 <= both["reaper"] <= 12  # its guarantee, no more

        await one.blind()  # the controller dies, and another one begins anew in the middle of it
        await set_pace(js, "orders", paused=True)
        await set_pace(js, "orders", paused=False)  # which alone would make it 100
        one.done("orders")
        one.look()
        await until_share(
            one, "reaper", 80, seconds=20
        )  # a demand counts for ten seconds after it was last there
        one.burst("orders")
        await until_share(one, "orders", 90)
        await one.measured(2.0)
        assert one.most <= R + 2 * BURST, one.most


async def test_the_lane_that_matters_has_its_share_within_the_stated_time(
    js: JetStream, nats_url: str
) -> None:
    async with site(js, nats_url) as one:
        one.burst("reaper")
        await until_share(one, "reaper", 80)
        one.burst("orders")
        burst_at = time.monotonic()
        await until(lambda: seconds_with(one, "orders", burst_at, 75), seconds=10)
        first = seconds_with(one, "orders", burst_at, 75)
        assert first is not None
        assert first - burst_at <= SECONDS_TO_SHARE + SLACK
        assert one.most <= R + 2 * BURST, one.most


def seconds_with(one: Site, pool: str, since: float, at_least: int) -> float | None:
    """The beginning of the first second after `since` with so many starts."""
    times = [at for at, count in one.starts[pool] for _ in range(count) if at >= since]
    pairs = zip(times, times[at_least - 1 :], strict=False)
    return next((begin for begin, end in pairs if end - begin <= 1.0), None)


async def until_share(one: Site, pool: str, share: float, seconds: float = 10.0) -> None:
    """And until it is in force."""
    async with asyncio.timeout(seconds):
        while await one.share(pool) != share:  # noqa: ASYNC110 - it stands on the server
            await asyncio.sleep(0.05)
    await asyncio.sleep(FENCE_SECONDS)


async def test_the_operator_of_a_machine_gives_its_pools_one_rate(
    js: JetStream, nats_url: str, tmp_path: Path
) -> None:
    reaper, first, later = PoolSettings(guaranteed_rate=10), tmp_path / "1", tmp_path / "2"
    first.mkdir()
    later.mkdir()
    async with operator(js, nats_url, first, shared_rate=50, max_workers=2, reaper=reaper) as one:
        # The orders' own rate is 100, and they share 50: what is left is ahead, with the highest priority.
        await until(lambda: rates(one) == {"orders": 49, "effects": 0.5, "reaper": 0.5})
        for number in range(400):
            await js.publish(SUBJECTS["reaper"], str(number).encode())
        await until(lambda: rates(one)["reaper"] > 30)
        assert sum(rates(one).values()) <= 50.001
        for number in range(3_000):
            await js.publish(SUBJECTS["orders"], str(number).encode())
        await until(lambda: rates(one) == {"orders": 39.5, "effects": 0.5, "reaper": 10})
        await set_pace(js, "orders", limit_per_second=400)  # a person: not above the share
        await until(lambda: one.newest["orders"].limit_per_second == 400)
        assert rates(one)["orders"] == 39.5
    # Without a shared rate each has its own again.
    async with operator(js, nats_url, later, max_workers=2) as one:
        await until(lambda: rates(one) == {"orders": 400, "effects": 500, "reaper": 100})


def rates(one: object) -> dict[str, float]:
    newest = one.newest  # type: ignore[attr-defined]
    return {pool: newest[pool].effective_per_second for pool in topology.POOLS if pool in newest}


async def test_a_resource_joins_with_nothing_keeps_its_share_and_leaves_when_it_is_said(
    js: JetStream,
) -> None:
    wanted = WantedPace(80.0, 5, paused=False, enforced=True)
    pace = ResourcePace(js, "orders", lambda: wanted)
    assert (await pace.read()).effective_per_second == 80
    wanted = replace(wanted, group=GROUP)
    reading = await pace.read()
    assert (reading.limit_per_second, reading.effective_per_second, reading.share_per_second) == (80, 0, 0)

    group, there = Group(GROUP), {"orders": (Member("orders", GROUP, 30, 80), Demand(50.0))}
    await group.tick(js, there, 0.0)  # what was in force before it joined still is
    await asyncio.sleep(FENCE_SECONDS - 0.9)
    await group.tick(js, there, 0.5)
    assert (await pace.read()).share_per_second == 30

    for change in ({"limit_per_second": 60.0}, {"burst": 9}, {"paused": True}, {"paused": False}):
        wanted = replace(wanted, **change)  # type: ignore[arg-type]
        assert (await pace.read()).effective_per_second in (30, 0)
    assert (await pace.read()).effective_per_second == 30
    await pace.set_effective(60)
    assert (await pace.read()).effective_per_second == 30

    wanted = replace(wanted, group="test.other")  # from one group to another, with nothing again
    assert (await pace.read()).effective_per_second == 0
    await group.tick(js, there, 1.0)
    assert group.shares == {}
    wanted = replace(wanted, group=None)
    reading = await pace.read()
    assert (reading.effective_per_second, reading.share_per_second) == (60, None)


async def test_the_operators_user_on_nats_may_write_what_a_group_needs(js: JetStream) -> None:
    """The key of a group is one that the role is granted."""
    group = Group("shop-1.data-base")
    await set_pace(js, "orders", limit_per_second=50, share=Share("shop-1.data-base", 0.0))
    await group.tick(js, {"orders": (Member("orders", group.name, 30, 50), Demand(50.0))}, 0.0)
    found = await js.last_message(f"KV_{topology.PACE}", f"$KV.{topology.PACE}.shared.shop-1.data-base")
    assert found is not None
    grants = [
        one for one in roles.roles()[roles.OPERATOR].publish if one.startswith(f"$KV.{topology.PACE}.shared")
    ]
    assert [len(one.split(".")) for one in grants] == [len(found.subject.split("."))]
