"""`peakclip migrate`: brings the database's schema and the streams to this version. Several may run at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg
import click
import pydantic
import structlog

from peakclip import store, streams, telemetry
from peakclip.errors import ForbiddenError, OutcomeUnknownError, PeakclipError, RefusedError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.settings import Settings

log = structlog.get_logger()

_LOCK: Final = 0x7065616B636C6970  # "peakclip": one migration at a time, whoever starts it


# A cluster says these while its nodes have not yet found each other.
_NOT_YET: Final = (10005, 10008, 10009, 10023)


class MigrateSettings(Settings):
    """Read from PEAKCLIP_* variables."""

    nats_replicas: Literal[1, 3, 5] | None = None
    """Copies of each stream: not more than the cluster has nodes. Absent: as many as it has, one for a new stream."""

    @pydantic.field_validator("nats_replicas", mode="before")
    @classmethod
    def _number(cls, given: object) -> object:
        return int(given) if isinstance(given, str) and given.isdecimal() else given


class MigrationError(PeakclipError):
    """The database or the streams were not migrated."""


@click.command()
def command() -> None:
    """Bring tables and streams up to date.

    Waits for the servers of PEAKCLIP_DATABASE_URL and PEAKCLIP_NATS_URL.
    """
    settings = MigrateSettings.load()
    telemetry.configure_logging("migrate", json=settings.log_json)
    try:
        asyncio.run(_migrate_both(settings))
    except MigrationError as exc:
        raise click.ClickException(str(exc)) from exc


async def _migrate_both(settings: MigrateSettings) -> None:
    """At the same time: whoever waits for one of them finds it as early as can be."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(migrate(settings.database_url))
            group.create_task(make_streams(settings.nats_url, settings.nats_replicas))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def make_streams(url: str, replicas: int | None = None) -> None:
    """Waits for a server that is away and for a cluster that is not complete. Raises MigrationError when it refuses."""
    delay = 0.1
    async with await JetStream.connect(url, name="peakclip-migrate") as js:
        while True:
            try:
                await streams.ensure(js, replicas)
                break
            except (UnavailableError, OutcomeUnknownError) as exc:
                log.warning("nats_waiting", error=str(exc))
            except RefusedError as exc:
                if exc.code not in _NOT_YET or isinstance(exc, ForbiddenError):
                    raise MigrationError(f"The streams were not made: {exc}") from exc
                log.warning("nats_waiting", error=str(exc))
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)
    log.info("streams_made", replicas=replicas)


async def migrate(url: str) -> None:
    """Creates the database if it is missing and applies what is not applied yet."""
    connection = await _connect(url)
    try:
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        _dbmate(url, "migrate")
    finally:
        await connection.close()
    log.info("migrated")


async def _connect(url: str) -> Any:
    delay = 0.1
    while True:
        try:
            return await asyncpg.connect(url, timeout=5)
        except asyncpg.InvalidCatalogNameError:
            _dbmate(url, "create", may_fail=True)  # another process may have been faster
        except store.DATABASE_AWAY as exc:
            log.warning("database_waiting", error=repr(exc))
        await asyncio.sleep(delay)
        delay = min(2.0, delay * 2)


def _dbmate(url: str, action: str, *, may_fail: bool = False) -> None:
    """The URL holds the password, so it goes by the environment, which only the owner can see."""
    program = Path(sysconfig.get_path("scripts")) / "dbmate"
    folder = str(resources.files(store).joinpath("migrations"))
    name = str(program) if program.exists() else "dbmate"
    done = subprocess.run(  # noqa: S603
        [name, "--no-dump-schema", "--migrations-dir", folder, action],
        env={**os.environ, "DATABASE_URL": _without_ssl(url)},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        log.info("dbmate", line=line)
    if done.returncode != 0 and not may_fail:
        raise MigrationError(done.stderr.strip() or f"dbmate {action} ended with exit code {done.returncode}")


def _without_ssl(url: str) -> str:
    """dbmate insists on TLS unless told otherwise; asyncpg takes it where the server offers it."""
    if "sslmode=" in url:
        return url
    return url + ("&" if "?" in url else "?") + "sslmode=disable"
