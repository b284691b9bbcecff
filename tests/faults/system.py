"""A running stack as a fault test sees it: its processes, its workers, what the operator says, its data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil
from support import until

from peakclip import store, topology
from peakclip.audit import AuditResult, RateLimit, audit_system
from peakclip.jetstream import ConsumerState, JetStream
from peakclip.limiter.grid import default_burst
from peakclip.local.process import Adapt
from peakclip.local.stack import Stack, StackOptions
from peakclip.messages import PoolStatus, WorkerTelemetry

KINDS = ("worker", "api", "relay", "operator", "nats", "postgres")
OURS = "fault-test"  # the test's own connections, which are nobody's target
_HEARD_SECONDS = 3.0


def environ(**more: str) -> dict[str, str]:
    """Ours without any setting of Peakclip's, and these."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PEAKCLIP_")} | more


class Data:
    """PostgreSQL and NATS of a stack, over connections of the test's own."""

    def __init__(self, credentials: Mapping[str, Any], database: Any, js: JetStream) -> None:
        self.credentials = credentials
        self.database = database
        self.js = js

    async def started(self) -> list[float]:
        """When the limiter let each order start, ascending epoch seconds, by the rows in the database."""
        rows = await self.database.fetch(
            "select extract(epoch from started_at)::float8 as at from orders order by started_at"
        )
        return [row["at"] for row in rows]

    async def done(self) -> int:
        return int(await self.database.fetchval("select count(*) from orders"))

    async def available(self, sale: str) -> int:
        return int(await self.database.fetchval("select available from audit_sales where sale_id = $1", sale))

    async def audit(
        self, accepted: Mapping[str, int], rate: float, wait_seconds: float = 120.0
    ) -> AuditResult:
        """At rest, or the test fails."""
        limit = RateLimit(rate, default_burst(rate))
        result, reasons = await audit_system(
            self.database, self.js, accepted=accepted, wait_seconds=wait_seconds, rate=limit
        )
        assert result.at_rest, (reasons, await self.consumers())
        for check in result.checks:
            print(f"  {check.invariant} {check.name}: {check.outcome} ({check.detail})")
        return result

    async def consumers(self) -> dict[str, ConsumerState]:
        """Who waits at each, and how far it is: tells a process that does not ask from a server that does not give."""
        return {
            f"{stream}/{name}": await self.js.consumer_state(stream, name)
            for stream, name in topology.CONSUMERS
        }


class System(Data):
    """A stack in this process, and what its workers and its operator say on NATS."""

    def __init__(self, stack: Stack, database: Any, js: JetStream) -> None:
        super().__init__(stack.credentials, database, js)
        self.stack = stack
        self.statuses: list[PoolStatus] = []
        self._heard: dict[
            int, tuple[str, float]
        ] = {}  # pid of a worker -> pool and monotonic time of its last word

    async def listen(self) -> None:
        async def word(message: Any) -> None:
            told = msgspec.json.decode(message.data, type=WorkerTelemetry)
            self._heard[told.pid] = told.pool, time.monotonic()

        async def status(message: Any) -> None:
            self.statuses.append(msgspec.json.decode(message.data, type=PoolStatus))

        await self.js.subscribe_core(f"{topology.WORKER_TELEMETRY}.*.*", word)
        await self.js.subscribe_core(f"{topology.POOL_STATUS}.{topology.ORDERS_POOL}", status)

    def pids(self, kind: str) -> list[int]:
        """Living processes of this stack of that kind, and never anybody else's. Workers by the name of their pool;
        "worker" are those of the pool `orders`."""
        named = {one.name: one.pid for one in self.stack.processes()}
        pool = topology.ORDERS_POOL if kind == "worker" else kind
        if pool not in topology.POOLS:
            return [pid for name, pid in named.items() if name == kind or name.startswith(f"{kind}-")]
        since = time.monotonic() - _HEARD_SECONDS
        return [
            pid
            for pid, (of, at) in self._heard.items()
            if of == pool and at >= since and _in_group(pid, named.get("operator"))
        ]

    def send(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def until_ready(self, seconds: float = 60.0) -> None:
        await until(lambda: self._ready(), seconds, pause=0.1)

    async def _ready(self) -> bool:
        return not await self.stack.missing()


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _in_group(pid: int, leader: int | None) -> bool:
    """The operator leads a group of its own, with its workers in it."""
    try:
        return leader is not None and os.getpgid(pid) == leader and alive(pid)
    except ProcessLookupError:
        return False


@contextlib.asynccontextmanager
async def connected(credentials: Mapping[str, Any], command_timeout: float = 10.0) -> AsyncIterator[Data]:
    database = await store.connect(
        f"{credentials['database_url']}&application_name={OURS}", min_size=1, max_size=4,
        command_timeout=command_timeout,
    )  # fmt: skip
    try:
        async with await JetStream.connect(credentials["nats_url"], name=OURS, timeout_seconds=15) as js:
            yield Data(credentials, database, js)
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def running(
    data: Path,
    settings: Mapping[str, str] | None = None,
    *,
    adapt: Adapt = lambda spec: spec,
    **options: Any,
) -> AsyncIterator[System]:
    """A stack with these StackOptions; `settings` go to every process of it. `adapt`: see `Stack`."""
    began = time.monotonic()
    async with (
        Stack(StackOptions(data=data, **options), environ(**(settings or {})), adapt) as stack,
        connected(stack.credentials) as found,
    ):
        system = System(stack, found.database, found.js)
        await system.listen()
        print(f"stack ready after {time.monotonic() - began:.1f} s")
        yield system
        print(f"held what it promised after {time.monotonic() - began:.1f} s")


async def up(data: Path, seconds: float = 60.0) -> asyncio.subprocess.Process:
    """`peakclip up` in a process of its own."""
    command = [sys.executable, "-P", "-m", "peakclip", "up", "--data", str(data), "--rate", "1000"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environ(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said = b""
    try:
        async with asyncio.timeout(seconds):
            while b"Peakclip is up." not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
    except BaseException:
        process.kill()
        raise
    return process


async def down(process: Any) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
