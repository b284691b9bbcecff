"""The relay tells whether what is acknowledged is on disk, and says so when nobody knows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from peakclip import store, telemetry
from peakclip.jetstream import JetStream
from peakclip.local.postgres import PostgresServer
from peakclip_worker.durability import DurabilityWatch

pytestmark = pytest.mark.integration


def told(server: str) -> float:
    return telemetry.DURABLE.labels(server)._value.get()


async def test_a_server_that_syncs_says_so(js: JetStream, database: Any) -> None:
    await DurabilityWatch(js, database).look()
    assert (told("nats"), told("postgresql")) == (1, 1)


async def test_a_database_that_does_not_wait_for_its_disk_is_seen(
    js: JetStream, fresh_database_url: str, postgres_server: PostgresServer
) -> None:
    pool = await store.connect(fresh_database_url, max_size=1)
    try:
        connection = _Kept(await pool.acquire())
        watch = DurabilityWatch(js, connection)
        for commit, durable in (("off", 0), ("remote_write", 1)):
            await connection.execute(f"set synchronous_commit = {commit}")
            await watch.look()
            assert (told("nats"), told("postgresql")) == (1, durable)
    finally:
        pool.terminate()


class _Kept:
    """A pool of one connection that is never reset."""

    def __init__(self, connection: Any) -> None:
        self.fetchval, self.execute = connection.fetchval, connection.execute


async def test_streams_that_are_not_there_and_a_database_that_is_away_are_unknown(
    js: JetStream, fresh_database_url: str, postgres_server: PostgresServer
) -> None:
    pool = await store.connect(fresh_database_url, max_size=1)
    try:
        await js._api("STREAM.DELETE.SECKILL")
        await postgres_server.kill()
        await DurabilityWatch(js, pool).look()
        assert math.isnan(told("nats"))
        assert math.isnan(told("postgresql"))
    finally:
        await postgres_server.start()
        pool.terminate()
