"""Processes that start before the schema and the streams are there wait for them, whatever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from processes import COMMANDS, Processes
from support import CUSTOMER_KEY, new_name, store_keys, until

from peakclip import store
from peakclip.local import ports
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer


@pytest.fixture
async def empty(tmp_path: Path, postgres_server: PostgresServer) -> AsyncIterator[Processes]:
    """A nats-server without a stream and an address of a database that does not exist."""
    nats = NatsServer(tmp_path / "nats").prepare()
    await nats.start()
    url = postgres_server.url_of(new_name("empty_").replace("-", "_"))
    processes = Processes(tmp_path, nats.url_of, url)
    try:
        yield processes
    finally:
        await asyncio.gather(*(child.stop() for child in processes.running.values()))
        await nats.stop()


async def test_everything_starts_on_nothing_and_waits_for_the_migration(empty: Processes) -> None:
    for name in ("worker", "operator", "api", "relay"):
        empty.start(name)
    for name in ("worker", "api", "relay"):
        await until(lambda name=name: empty.said(name, "database_waiting"), 60)
    await until(lambda: empty.said("operator", "waiting"), 60)
    assert not await empty.all_ready()
    assert await empty.start("migrate", ["migrate"]).exited() == 0
    del empty.running["migrate"]
    await until(empty.all_ready, 60)
    async with asyncpg.create_pool(empty.database_url, min_size=1, max_size=1) as database:
        await store_keys(database)
        order_id = await _order(empty)
        await until(lambda: database.fetchval("select status from orders where order_id = $1", order_id), 30)
        assert await database.fetchval("select count(*) from dead_letters") == 0
    for name in COMMANDS:
        assert [word for word in empty.words(name) if word["level"] in ("error", "critical")] == []


async def _order(empty: Processes) -> str:
    sale = await empty.open_sale(10)
    headers = {"Idempotency-Key": new_name("key-"), "Authorization": f"Bearer {CUSTOMER_KEY}"}
    async with (
        aiohttp.ClientSession(f"http://{ports.LOOPBACK}:{empty.port}", headers=headers) as client,
        client.post(f"/v1/sales/{sale}/orders", json={"quantity": 1}) as answer,
    ):
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["order_id"])


@pytest.mark.parametrize("name", COMMANDS)
async def test_who_waits_can_be_stopped(empty: Processes, name: str) -> None:
    child = empty.start(name)
    event = "waiting" if name == "operator" else "database_waiting"
    await until(lambda: empty.said(name, event), 60)
    child.signal(signal.SIGTERM)
    assert await asyncio.wait_for(child.exited(), 8) == 0  # not by the kill that follows an unheard request
    assert empty.said(name, "stopped")


async def test_a_schema_that_lacks_the_newest_migration_is_waited_for(
    database: Any, fresh_database_url: str
) -> None:
    """A new version may start while its migration still runs; what it asks for is not there yet."""
    await database.execute("delete from schema_migrations where version = $1", store.newest_migration())
    connecting = asyncio.create_task(store.connect(fresh_database_url, max_size=1))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(connecting), 1.0)
    assert not connecting.done()
    await database.execute("insert into schema_migrations values ($1)", store.newest_migration())
    pool = await asyncio.wait_for(connecting, 10)
    await pool.close()
    left = (
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    await until(lambda: database.fetchval(f"select ({left}) < 9"))
