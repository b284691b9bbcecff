"""What a process sees when PostgreSQL is killed under it: nothing that `DATABASE_AWAY` does not name."""

from __future__ import annotations

import asyncio
import bisect
from collections import Counter
from typing import Any

import asyncpg
import pytest

from peakclip.local.postgres import PostgresServer
from peakclip.messages import DATABASE_BOUNDS
from peakclip.store import DATABASE_AWAY
from peakclip_worker.database import Database

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


async def test_a_worker_tells_who_stood_in_line_and_what_the_database_did_not_do(
    postgres_server: PostgresServer, fresh_database_url: str
) -> None:
    """Three statements of 0.2 s through one connection: 0, 0.2 and 0.4 s of waiting. Then it is killed."""
    pool = await asyncpg.create_pool(
        fresh_database_url, min_size=1, max_size=1, command_timeout=1.0, timeout=2
    )
    measured = Database(pool, "orders")
    await measured.fetchval("select 1")
    quick = measured.word()
    assert (quick.calls, quick.errors, sum(quick.took)) == (1, 0, 1)
    await asyncio.gather(*(measured.execute("select pg_sleep(0.2)") for _ in range(3)))
    word = measured.word()
    assert (word.calls, word.errors) == (4, 0)
    assert 0.55 <= word.wait_seconds < 5.0
    slow = sum(word.took[bisect.bisect_left(DATABASE_BOUNDS, 0.2) :])
    assert slow == 3
    with pytest.raises(asyncpg.UniqueViolationError):
        await measured.execute("create temp table t (a int primary key); insert into t values (1), (1)")
    with pytest.raises(asyncpg.DataError):
        await measured.fetchval("select $1::int", "not a number")
    assert measured.word().errors == 0
    with pytest.raises(TimeoutError):
        await measured.execute("select pg_sleep(60)")
    timed_out = measured.word()
    assert (timed_out.errors, sum(timed_out.took)) == (1, timed_out.calls)
    await postgres_server.kill()
    for _ in range(2):
        with pytest.raises(DATABASE_AWAY):
            await measured.fetchval("select 1")
    away = measured.word()
    assert (away.calls - timed_out.calls, away.errors - timed_out.errors) == (0, 0), "nobody was asked"
    await postgres_server.start()
    assert await measured.fetchval("select 1") == 1
    assert measured.word().errors == away.errors
    pool.terminate()
