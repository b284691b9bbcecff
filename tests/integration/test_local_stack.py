"""The embedded servers and the stack, with real processes that are really killed."""

from __future__ import annotations

from typing import Any

import pytest

from peakclip import topology
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer

pytestmark = pytest.mark.integration


async def test_the_server_says_that_it_syncs_every_write(js: JetStream) -> None:
    assert await js.is_durable([topology.INTAKE, topology.SECKILL, topology.STOCK])


async def test_a_message_survives_kill_minus_nine(nats_server: NatsServer, js: JetStream) -> None:
    await js.publish(topology.stock_subject("s"), b"", headers={"Nats-Incr": "+5"})
    pid = nats_server.pid
    await nats_server.kill()
    await nats_server.start()
    assert nats_server.pid != pid
    async with await JetStream.connect(nats_server.url, name="after") as again:
        assert (await again.increment(topology.stock_subject("s"), 1)).value == 6


async def test_the_database_survives_kill_minus_nine(
    postgres_server: PostgresServer, fresh_database_url: str, database: Any
) -> None:
    await database.execute("create table kept (n int)")
    await database.execute("insert into kept values (7)")
    await postgres_server.kill()
    await postgres_server.start()
    assert await database.fetchval("select n from kept") == 7
    assert await database.fetchval("show synchronous_commit") == "on"
    assert await database.fetchval("show fsync") == "on"
    assert await database.fetchval("show unix_socket_directories") == ""
