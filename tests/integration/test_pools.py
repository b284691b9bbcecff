"""The operator with the control loops of all pools in one process, on real servers, with stand-ins for the workers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest
from integration import standin_worker
from nats.aio.msg import Msg
from support import until

from peakclip import streams, topology
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import read_pace
from peakclip.messages import PoolStatus
from peakclip.service import Service
from peakclip_operator.main import operate
from peakclip_operator.settings import OperatorSettings, PoolSettings

pytestmark = pytest.mark.integration

POOLS = list(topology.POOLS)
SUBJECTS = {
    topology.ORDERS_POOL: topology.ASYNC_ORDER_SUBJECT,
    topology.EFFECTS_POOL: "order.created",
    topology.REAPER_POOL: topology.EXPIRY_SUBJECT,
}


class Operator:
    """Runs in this process; its workers say in files of `folder/<pool>` that they are ready or have drained."""

    def __init__(self, folder: Path, service: Service, running: asyncio.Task[None]) -> None:
        self.folder = folder
        self.service = service
        self.running = running
        self.newest: dict[str, PoolStatus] = {}

    async def heard(self, msg: Msg) -> None:
        status = msgspec.json.decode(msg.data, type=PoolStatus)
        self.newest[status.pool] = status

    def pids(self, pool: str, kind: str = "ready") -> set[int]:
        return {int(path.name.removeprefix(f"{kind}-")) for path in (self.folder / pool).glob(f"{kind}-*")}

    def living(self, pool: str) -> set[int]:
        return {pid for pid in self.pids(pool) if psutil.pid_exists(pid)}

    async def stop(self) -> None:
        self.service.stopping.set()
        await self.running


@contextlib.asynccontextmanager
async def operator(
    js: JetStream, nats_url: str, folder: Path, *, seconds_to_drain: float = 0.0, **settings: object
) -> AsyncIterator[Operator]:
    for pool in POOLS:
        (folder / pool).mkdir()
    service = Service()
    worker = functools.partial(standin_worker.of_pool, str(folder), seconds_to_drain)
    chosen = OperatorSettings.load(nats_url=nats_url, stabilization_seconds=0.5, **settings)
    running = asyncio.create_task(operate(chosen, service, POOLS, worker=worker))
    one = Operator(folder, service, running)
    await js.subscribe_core(f"{topology.POOL_STATUS}.*", one.heard)
    try:
        yield one
    finally:
        await one.stop()


async def test_pools_work_side_by_side_each_with_its_own_lag_rate_and_workers(
    js: JetStream, nats_url: str, tmp_path: Path
) -> None:
    wishes = {"rate": 50, "max_workers": 3, "work_ms": 100, "reaper": PoolSettings(rate=7, min_workers=2)}
    async with operator(js, nats_url, tmp_path, **wishes) as one:
        await until(lambda: one.newest.keys() == set(POOLS) and not one.service.missing())
        limits = {pool: status.limit_per_second for pool, status in one.newest.items()}
        assert limits == {"orders": 50, "effects": 500, "reaper": 7}
        for number in range(300):
            await js.publish(SUBJECTS["orders"], str(number).encode())
        for number in range(4):
            await js.publish(SUBJECTS["effects"], str(number).encode())
        lags = {"orders": 300, "effects": 4, "reaper": 0}
        await until(lambda: {pool: status.lag_ready for pool, status in one.newest.items()} == lags)
        wanted = {"orders": 3, "effects": 1, "reaper": 2}
        await until(lambda: {pool: len(one.living(pool)) for pool in POOLS} == wanted)
        assert {status.lag_delayed for status in one.newest.values()} == {0}


async def test_a_pool_without_its_stream_keeps_no_other_from_its_work(
    js: JetStream, nats_url: str, tmp_path: Path
) -> None:
    await js._api(f"STREAM.DELETE.{topology.EXPIRY}")
    async with operator(js, nats_url, tmp_path) as one:
        others = {"orders", "effects"}
        await until(lambda: one.newest.keys() == others and all(one.living(pool) for pool in others))
        await until(lambda: one.service.missing() == ["lag-reaper"])
        assert one.pids("reaper") == set()
        await streams.ensure(js)
        await until(lambda: "reaper" in one.newest and one.living("reaper"))
        await until(lambda: one.service.missing() == [])


async def test_a_stream_that_goes_later_is_unknown_for_its_pool_alone(
    js: JetStream, nats_url: str, tmp_path: Path
) -> None:
    async with operator(js, nats_url, tmp_path) as one:
        await until(lambda: one.newest.keys() == set(POOLS) and not one.service.missing())
        await js._api(f"STREAM.DELETE.{topology.EVENTS}")
        await until(lambda: one.newest["effects"].lag_ready is None)
        assert one.service.missing() == ["lag-effects"]
        assert (one.newest["effects"].reason, one.newest["effects"].workers_desired) == ("LagUnknown", 1)
        assert one.newest["orders"].lag_ready == 0
        assert one.newest["reaper"].lag_ready == 0


async def test_a_killed_worker_is_replaced_in_its_pool(js: JetStream, nats_url: str, tmp_path: Path) -> None:
    async with operator(js, nats_url, tmp_path) as one:
        await until(lambda: all(one.living(pool) for pool in POOLS))
        before = {pool: one.living(pool) for pool in POOLS}
        (victim,) = before["effects"]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: one.living("effects") - before["effects"])
        assert not psutil.pid_exists(victim)
        for other in ("orders", "reaper"):
            assert one.living(other) == one.pids(other) == before[other]


async def test_all_pools_drain_at_the_same_time(js: JetStream, nats_url: str, tmp_path: Path) -> None:
    two = PoolSettings(min_workers=2)
    async with operator(
        js, nats_url, tmp_path, seconds_to_drain=2.0, min_workers=2, effects=two, reaper=two
    ) as one:
        await until(lambda: all(len(one.living(pool)) == 2 for pool in POOLS))
        began = time.monotonic()
        await one.stop()
        assert 2.0 <= time.monotonic() - began < 5.0  # one after another it would be six
        for pool in POOLS:
            assert one.pids(pool, "drained") == one.pids(pool)
            assert one.living(pool) == set()


async def test_the_command_line_shows_the_rates_of_all_pools(js: JetStream, nats_url: str) -> None:
    async def pace(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "peakclip", "pace", *arguments, "--nats-url", nats_url,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0
        return output

    await pace("set", "effects", "250")
    assert (await pace("pause", "effects")).startswith("effects: 250/s -> paused (limit 250/s)")
    found = await read_pace(js, "effects")
    assert found is not None
    assert found[0].paused
    lines = (await pace("get")).splitlines()
    assert [line.split(":")[0] for line in lines] == POOLS
    assert lines[0] == "orders: no rate is set, so nothing starts. `peakclip pace set orders R` sets one."
    assert lines[1].startswith("effects: paused (limit 250/s)")
    objects = [msgspec.json.decode(line) for line in (await pace("get", "--json")).splitlines()]
    assert [(one["pool"], one["limit_per_second"]) for one in objects] == [
        ("orders", None),
        ("effects", 250.0),
        ("reaper", None),
    ]
