"""What a process sees when PostgreSQL is killed under it: nothing that `DATABASE_AWAY` does not name."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from peakclip.local.postgres import PostgresServer
from peakclip.store import DATABASE_AWAY

pytestmark = pytest.mark.integration

KILLS = 6


async def test_a_killed_server_raises_only_what_is_retried(
    postgres_server: PostgresServer, fresh_database_url: str
) -> None:
    """Four tasks share a pool, as in the relay. An error that is not retried would end its process."""
    retried: Counter[str] = Counter()
    fatal: list[str] = []
    stop = asyncio.Event()

    async def work(pool: Any) -> None:
        while not stop.is_set():
            try:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.fetch("select * from outbox for update skip locked")
                    await connection.execute("select 1")
            except DATABASE_AWAY as exc:
                retried[type(exc).__name__] += 1
                await asyncio.sleep(0.02)
            except Exception as exc:  # noqa: BLE001 - which one it is, is the question
                fatal.append(repr(exc))

    pool = await asyncpg.create_pool(fresh_database_url, min_size=1, max_size=4, command_timeout=10)
    tasks = [asyncio.create_task(work(pool)) for _ in range(4)]
    for kill in range(KILLS):
        await asyncio.sleep(0.1 + 0.013 * kill)  # at another point of the transaction each time
        await postgres_server.kill()
        await postgres_server.start()
    stop.set()
    await asyncio.gather(*tasks)
    pool.terminate()
    assert fatal == []
    assert retried.total() >= KILLS
