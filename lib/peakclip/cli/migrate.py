"""`peakclip migrate`: brings the database to the schema of this version. Several may run at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Any, Final

import asyncpg
import click
import structlog

from peakclip import store, telemetry
from peakclip.errors import PeakclipError
from peakclip.settings import Settings

log = structlog.get_logger()

_LOCK: Final = 0x7065616B636C6970  # "peakclip": one migration at a time, whoever starts it


class MigrationError(PeakclipError):
    """The database was not migrated."""


@click.command()
def command() -> None:
    """Bring the database's tables up to date.

    Waits for the server of PEAKCLIP_DATABASE_URL.
    """
    settings = Settings.load()
    telemetry.configure_logging("migrate", json=settings.log_json)
    try:
        asyncio.run(migrate(settings.database_url))
    except MigrationError as exc:
        raise click.ClickException(str(exc)) from exc


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
