"""Real servers for a benchmark: PostgreSQL, a nats-server that syncs every write, one that does not; one open sale.

Everything lives in a temporary folder and is gone afterwards. TMPDIR chooses the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import BenchmarkError
from peakclip import store, streams, topology
from peakclip.cli.migrate import migrate
from peakclip.credentials import new_key, store_key
from peakclip.jetstream import JetStream
from peakclip.local import ports
from peakclip.local.files import write_private
from peakclip.local.folder import STACK_VARIABLE, DataFolder
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.process import ProcessSpec
from peakclip.local.supervisor import Supervisor

ROOT: Final = Path(__file__).resolve().parents[1]
TENANT: Final = "default"
STOCK: Final = 1_000_000_000
BENCH_STREAM: Final = "BENCH"
BENCH_SUBJECT: Final = "bench"
_SYNC_ALWAYS: Final = "sync_interval: always, "
_READY_POLL_SECONDS: Final = 0.05

# What (b) and (c) publish to: a plain stream that knows repeats by their message id.
_STREAM: Final[dict[str, Any]] = {
    "name": BENCH_STREAM,
    "subjects": [f"{BENCH_SUBJECT}.>"],
    "storage": "file",
    "retention": "limits",
    "discard": "new",
    "duplicate_window": 120 * 1_000_000_000,
    "num_replicas": 1,
}


@dataclass(frozen=True, slots=True)
class Environment:
    """Servers that run, and connections to them for looking and cleaning up, never for what is measured."""

    folder: DataFolder
    supervisor: Supervisor
    nats: NatsServer  # syncs every write
    lazy_nats: NatsServer | None  # the server's default: syncs every two minutes
    postgres: PostgresServer
    js: JetStream
    lazy_js: JetStream | None
    database: Any
    service_key: str

    def process(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        nice: int = 0,
    ) -> ProcessSpec:
        """A Python process of ours. It gets the addresses by the environment: they hold passwords."""
        management = ports.free_port()
        return ProcessSpec(
            name=name,
            argv=[sys.executable, "-P", "-m", module, *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "PROMETHEUS_MULTIPROC_DIR": str(self.folder.metrics),
                STACK_VARIABLE: str(self.folder.path),
                "PEAKCLIP_NATS_URL": self.nats.url,
                "PEAKCLIP_DATABASE_URL": self.postgres.url,
                "PEAKCLIP_MANAGEMENT_HOST": ports.LOOPBACK,
                "PEAKCLIP_MANAGEMENT_PORT": str(management),
                **(env or {}),
            },
            log=self.folder.logs / f"{name}.log",
            management_url=f"http://{ports.LOOPBACK}:{management}",
            nice=nice,
        )

    @contextlib.asynccontextmanager
    async def running(self, *specs: ProcessSpec) -> AsyncIterator[dict[str, int]]:
        """Processes for as long as this lasts; yields their pids by name, all ready. None may end meanwhile."""
        supervisor = Supervisor()
        try:
            for spec in specs:
                supervisor.start(spec)
            await supervisor.wait_ready()
            yield {one.name: one.pid for one in supervisor.running()}
            if supervisor.restarts:
                raise BenchmarkError(f"A process ended in the middle: see {self.folder.logs}.")
        finally:
            await supervisor.stop()

    def pid(self, name: str) -> int:
        return next(one.pid for one in self.supervisor.running() if one.name == name)


@contextlib.asynccontextmanager
async def environment(*, lazy: bool) -> AsyncIterator[Environment]:
    """Starts the servers; with `lazy` also the nats-server that answers before a message is on the disk."""
    async with contextlib.AsyncExitStack() as undo:
        folder = await asyncio.to_thread(DataFolder, None)
        undo.callback(folder.close)
        nats = NatsServer(folder.path / "nats", folder.logs / "nats.log", owner=True)
        lazy_log = folder.logs / "nats-lazy.log"
        lazy_nats = NatsServer(folder.path / "nats-lazy", lazy_log, owner=True) if lazy else None
        postgres = PostgresServer(folder.path / "postgres", folder.logs / "postgres.log")
        undo.callback(postgres.discard)
        supervisor = Supervisor()
        undo.push_async_callback(supervisor.stop)
        await asyncio.to_thread(_prepare, nats, lazy_nats, postgres)
        for name, server in (("nats", nats), ("nats-lazy", lazy_nats), ("postgres", postgres)):
            if server is not None:
                supervisor.start(_named(server.spec, name, folder))
        await supervisor.wait_ready()
        await migrate(postgres.url)
        js = await undo.enter_async_context(await JetStream.connect(nats.url, name="bench"))
        await streams.ensure(js)
        await js.ensure_stream(_STREAM)
        lazy_js = None
        if lazy_nats is not None:
            lazy_js = await undo.enter_async_context(await JetStream.connect(lazy_nats.url, name="bench"))
            await lazy_js.ensure_stream(_STREAM)
        await _check_durability(js, lazy_js)
        database = await store.connect(postgres.url, max_size=2)
        undo.push_async_callback(database.close)
        key = new_key()
        await store_key(database, key, TENANT, "storefront", "service")
        yield Environment(folder, supervisor, nats, lazy_nats, postgres, js, lazy_js, database, key)


def _prepare(nats: NatsServer, lazy: NatsServer | None, postgres: PostgresServer) -> None:
    nats.prepare()
    postgres.prepare()
    if lazy is None:
        return
    lazy.prepare()
    path = Path(lazy.spec.argv[-1])
    text = path.read_text()
    if _SYNC_ALWAYS not in text:
        raise BenchmarkError("The configuration of the embedded nats-server has changed its form.")
    write_private(path, text.replace(_SYNC_ALWAYS, ""))


def _named(spec: ProcessSpec, name: str, folder: DataFolder) -> ProcessSpec:
    """Both nats-servers call themselves `nats`."""
    return dataclasses.replace(spec, name=name, env={**spec.env, STACK_VARIABLE: str(folder.path)})


async def _check_durability(js: JetStream, lazy_js: JetStream | None) -> None:
    """From the servers' own reports: a comparison of two servers that both sync, or both do not, says nothing."""
    if not await js.is_durable([BENCH_STREAM, topology.INTAKE, topology.STOCK]):
        raise BenchmarkError("The nats-server for (c) and (d) does not sync every write.")
    if lazy_js is not None and await lazy_js.is_durable([BENCH_STREAM]):
        raise BenchmarkError("The nats-server for (b) syncs every write.")


async def make_sale(env: Environment, sale_id: str) -> None:
    """A sale that stays open, with more stock than any benchmark sells; on offer for Peakclip, too."""
    await env.database.execute(
        "insert into sales (sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at,"
        " per_customer_limit, pay_within_seconds, fingerprint)"
        " values ($1, $2, 'benchmark', 100, $3, $3, now() - interval '1 hour', now() + interval '1 day', 1, 900, '')",
        sale_id, TENANT, STOCK,
    )  # fmt: skip
    await env.js.increment(topology.stock_subject(sale_id), STOCK, message_id=f"init-{sale_id}")


async def settled(env: Environment) -> None:
    """Waits until the relay has taken every frame apart, then until the disk has everything that was written.

    Outside of every measurement: what one design leaves for later must not slow the next one down.
    """
    while True:
        relay = await env.js.consumer_state(topology.INTAKE, "relay")
        if relay.pending + relay.ack_pending == 0:
            break
        await asyncio.sleep(_READY_POLL_SECONDS)
    await asyncio.to_thread(os.sync)
