"""What NATS and PostgreSQL themselves keep when the plug is pulled: which settings, on which kind of disk."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from faults.disk.disk import Disk
from faults.disk.names import Semantics
from faults.lazy import CarelessPostgres, LazyNats
from faults.machine import family, kill

from peakclip import streams, topology
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.process import ProcessError

ORDERED, STRICT = Semantics.ORDERED, Semantics.STRICT
BLOCK_BYTES = 8 << 20  # of a stream's file, after which NATS begins the next one
LARGE = 60_000  # bytes

pytestmark = [
    pytest.mark.faults,
    pytest.mark.power,
]


@pytest.mark.parametrize(
    ("server", "semantics", "settled", "size", "kept"),
    [
        pytest.param(NatsServer, ORDERED, True, 200, "all", id="always"),
        pytest.param(NatsServer, ORDERED, False, 200, "all", id="always, right after the streams were made"),
        pytest.param(NatsServer, ORDERED, True, LARGE, "all", id="always, over several files"),
        pytest.param(LazyNats, ORDERED, True, 200, "not all", id="the default"),
        pytest.param(NatsServer, STRICT, True, 200, "all", id="always, strict, within one file"),
        pytest.param(NatsServer, STRICT, True, LARGE, "not all", id="always, strict, over several files"),
        pytest.param(
            NatsServer, STRICT, False, 200, "not all", id="always, strict, right after the streams were made"
        ),
    ],
)
async def test_messages_that_nats_has_acknowledged(
    scratch: Path, chance: random.Random, server: type[NatsServer], semantics: Semantics, settled: bool,
    size: int, kept: str,
) -> None:  # fmt: skip
    on_disk = [name for name, config in topology.STREAMS.items() if config["storage"] == "file"]
    count = 300 if size < LARGE else 2 * BLOCK_BYTES // size
    with Disk(scratch / "machine", semantics) as disk:
        nats = server(disk.path / "nats", scratch / "nats.log", owner=True).prepare()
        disk.sync()
        try:
            await nats.start()
            async with connected(nats) as js:
                await streams.ensure(js)
                if settled:
                    disk.sync()
                for begin in range(0, count, 10):
                    numbers = range(begin, min(begin + 10, count))
                    await asyncio.gather(
                        *(
                            js.publish(f"order.seckill.created.{one}", chance.randbytes(size))
                            for one in numbers
                        )
                    )
            await cut(disk, nats, chance, torn=kept == "all")
            await nats.start()
            async with connected(nats) as js:
                gone = await streams.missing(js, on_disk, tuple(topology.CONSUMERS))
                names = (await js._api("STREAM.NAMES")).get("streams") or []
                found = (await js.stream_state(topology.SECKILL)).messages if topology.SECKILL in names else 0
        finally:
            await nats.stop()
    print(f"{found} of {count} messages are there; missing: {gone}")
    assert not gone or kept == "not all"
    assert ("all" if found == count else "not all") == kept


async def test_transactions_that_postgresql_has_committed(scratch: Path, chance: random.Random) -> None:
    """On any kind of disk: it syncs folders too, wherever it makes a file."""
    assert await rows_kept(scratch, chance, PostgresServer, STRICT, torn=True) == 300


async def test_postgresql_without_fsync_loses_what_it_committed_or_does_not_start(
    scratch: Path, chance: random.Random
) -> None:
    kept = await rows_kept(scratch, chance, CarelessPostgres, ORDERED, torn=False)
    assert kept is None or kept < 300


async def rows_kept(
    scratch: Path, chance: random.Random, server: type[PostgresServer], semantics: Semantics, *, torn: bool
) -> int | None:
    """Of 300 transactions; None: it does not start any more, or does not find its table."""
    with Disk(scratch / "machine", semantics) as disk:
        postgres = server(disk.path / "postgres", scratch / "postgres.log").prepare()
        disk.sync()
        try:
            await postgres.start()
            connection = await asyncpg.connect(postgres.url_of("postgres"))
            await connection.execute("create table kept (number int primary key, filler text)")
            for number in range(300):
                await connection.execute("insert into kept values ($1, repeat('x', 2000))", number)
            await cut(disk, postgres, chance, torn=torn)
            connection.terminate()
            await postgres.start()
            connection = await asyncpg.connect(postgres.url_of("postgres"))
            rows = await connection.fetch("select number from kept")
            await connection.close()
        except (ProcessError, asyncpg.PostgresError) as broken:
            print(broken)
            return None
        finally:
            await postgres.stop()
    print(f"{len(rows)} of 300 rows are there")
    return len({row["number"] for row in rows})


async def cut(disk: Disk, server: NatsServer | PostgresServer, chance: random.Random, *, torn: bool) -> None:
    """Where something is to be lost nothing is torn: by chance, all that was not synced may be kept."""
    kill(family(server.pid))
    print(disk.cut(chance.randrange(2**32), torn=torn))
    await server.kill()
    disk.mount()


@contextlib.asynccontextmanager
async def connected(nats: NatsServer) -> AsyncIterator[JetStream]:
    async with await JetStream.connect(nats.url, name="power cut") as js:
        yield js
