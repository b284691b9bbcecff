"""Real servers for the tests: one nats-server and one PostgreSQL per run, clean data per test.

Nothing starts unless a test asks for it. Session fixtures are synchronous, since every test has its own loop.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest

from peakclip import streams
from peakclip.cli.migrate import migrate
from peakclip.errors import RefusedError
from peakclip.jetstream import JetStream
from peakclip.local.folder import temporary
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer

# The same examples each time, so that a change is what makes a test fail. `--hypothesis-profile=explore` looks for new
# ones. How long one takes says something of the machine only: no test fails for it.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile("tests")
# For `make mutation`, which runs the tests some thousand times: fewer examples, and the same ones each time.
hypothesis.settings.register_profile(
    "mutation", max_examples=10, derandomize=True, deadline=None, database=None
)

_STORE_NOT_CREATED = 10049
_TEMPLATE = "peakclip_template"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One failure is enough to notice a planted fault: what takes no time goes first."""
    if config.getoption("--hypothesis-profile", None) == "mutation":
        items.sort(key=_takes_time)


def _takes_time(item: pytest.Item) -> tuple[bool, bool, bool]:
    folder = item.path.parts
    example = getattr(item, "obj", None)
    return "integration" in folder, "simulation" in folder, getattr(example, "is_hypothesis_test", False)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Not pytest's own folder: that is closed to the account of PostgreSQL when root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="peakclip-tests-", dir=temporary()) as name:
        if os.geteuid() == 0:
            Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="session")
def nats_server(server_directory: Path) -> Iterator[NatsServer]:
    """`.url`, and async `kill()`, `start()`, `restart()`, `stop()`."""
    server = NatsServer(server_directory / "nats", owner=True).prepare()
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    return nats_server.url


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(server_directory / "postgres").prepare()
    asyncio.run(server.start())
    asyncio.run(migrate(server.url_of(_TEMPLATE)))
    yield server
    asyncio.run(server.stop())
    server.discard()


@pytest.fixture(scope="session")
def database_url(postgres_server: PostgresServer) -> str:
    """One migrated database for the whole run."""
    asyncio.run(_create(postgres_server, "peakclip"))
    return postgres_server.url_of("peakclip")


@pytest.fixture
async def fresh_database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A migrated database of this test alone, for tests that start processes."""
    await postgres_server.start()
    name = f"test_{secrets.token_hex(6)}"
    await _create(postgres_server, name)
    yield postgres_server.url_of(name)
    await postgres_server.start()
    connection = await asyncpg.connect(postgres_server.url_of("postgres"))
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


@pytest.fixture
async def database(fresh_database_url: str) -> AsyncIterator[Any]:
    """An asyncpg pool on the test's own database."""
    async with asyncpg.create_pool(fresh_database_url, min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
async def js(nats_server: NatsServer) -> AsyncIterator[JetStream]:
    """Connected, with nothing but the declared streams and consumers, all empty."""
    await nats_server.start()  # a test may have killed it
    async with await JetStream.connect(nats_server.url, name="test") as connection:
        await wipe(connection)
        await _ensure(connection)
        yield connection


async def _ensure(connection: JetStream) -> None:
    """The server may still be removing the files of a stream that was deleted under the same name."""
    for _ in range(50):
        try:
            return await streams.ensure(connection)
        except RefusedError as exc:
            if exc.code != _STORE_NOT_CREATED:
                raise
            await asyncio.sleep(0.1)
    raise TimeoutError("the streams could not be created again")


async def wipe(connection: JetStream) -> None:
    """Deletes every stream."""
    for name in (await connection._api("STREAM.NAMES")).get("streams") or []:
        await connection._api(f"STREAM.DELETE.{name}")


async def _create(server: PostgresServer, name: str) -> None:
    connection = await asyncpg.connect(server.url_of("postgres"))
    await connection.execute(f"create database {name} template {_TEMPLATE}")
    await connection.close()
