"""PostgreSQL: the pool, the named queries in `queries/`, the migrations in `migrations/` (applied by dbmate).

The database decides: once-only, stock and per-customer limits are conditional statements here and nowhere else.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import resources
from typing import Any

import asyncpg
import structlog

from peakclip import tracing

log = structlog.get_logger()

# What asyncpg raises when the server is away, restarting or has closed the connection. Retry; nothing is wrong.
DATABASE_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut in the middle of an answer, used once more by its pool
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)

# The server answers but would refuse anybody: no space, read-only, no such table, a deadlock. Wait and retry.
DATABASE_UNFIT = (
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.TransactionRollbackError,
)


_names: dict[str, str] = {}


@cache
def query(name: str) -> str:
    """The text of `queries/<name>.sql`."""
    text = resources.files(__package__).joinpath("queries", f"{name}.sql").read_text()
    _names[text] = name
    return text


def name_of(text: str) -> str:
    """The name by which `query` gave out this text; empty for any other statement."""
    return _names.get(text, "")


_IS_MIGRATED = "select exists (select from schema_migrations where version = $1)"  # the table is dbmate's


@cache
def newest_migration() -> str:
    """Its version: the digits in front of its name."""
    names = (one.name for one in resources.files(__package__).joinpath("migrations").iterdir())
    return max(name.partition("_")[0] for name in names if name.endswith(".sql"))


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is not typed
    """A connection whose session nobody changes, so that giving it back to the pool needs no `RESET ALL`.

    An open transaction is still rolled back. The reset cost a round trip and a statement for every order.
    """

    def get_reset_query(self) -> str:
        return ""


async def connect(url: str, *, min_size: int = 1, max_size: int = 4, command_timeout: float = 10.0) -> Any:
    """A pool; waits with back-off until the server answers and the schema is there, with the newest migration that this
    version knows: a process that starts before the migration has ended would ask for what is not there yet."""
    delay = 0.1
    while True:
        pool = None
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=min_size,
                max_size=max_size,
                command_timeout=command_timeout,
                timeout=5,
                connection_class=_Connection,
                init=tracing.watch_statements if tracing.is_on() else None,
            )
            if await pool.fetchval(_IS_MIGRATED, newest_migration()):
                return pool
            log.warning("schema_waiting", wanted=newest_migration(), made_by="peakclip migrate")
        except asyncpg.UndefinedTableError:
            log.warning("schema_waiting", wanted=newest_migration(), made_by="peakclip migrate")
        except (*DATABASE_AWAY, asyncpg.InvalidCatalogNameError) as exc:
            log.warning("database_waiting", error=repr(exc))
        if pool is not None:
            pool.terminate()
        await asyncio.sleep(delay)
        delay = min(2.0, delay * 2)
