"""The worker's pool of connections, and how it answered: what the controller judges the database's health by.

The wait for a connection is measured apart from the statement: a database can answer each statement quickly and still
be so busy that everybody stands in line for it.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from peakclip import telemetry
from peakclip.messages import DATABASE_BOUNDS, DatabaseWord
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT

_TOO_LATE: Final = (TimeoutError, asyncpg.QueryCanceledError)

# Nobody was there, or nobody any more. It says nothing of how much the database bears, and slower work brings nobody
# back. A server that restarts because a backend crashed is none of these: it may be memory that all of us use up.
_NOBODY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.TooManyConnectionsError,
)


class Database:
    """Does what the pool of asyncpg does, one statement at a time, and keeps count."""

    def __init__(self, pool: Any, name: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._pool = pool
        self._name = name  # of the worker's pool
        self._clock = clock
        self._calls = 0
        self._errors = 0
        self._wait_seconds = 0.0
        self._took = [0] * (len(DATABASE_BOUNDS) + 1)
        for outcome in ("done", "refused", "failed"):
            telemetry.DATABASE_CALLS.labels(
                name, outcome
            )  # 0 from the start: from nothing to 1 would be no increase

    async def fetch(self, statement: str, *args: Any) -> Any:
        return await self._call("fetch", statement, args)

    async def fetchrow(self, statement: str, *args: Any) -> Any:
        return await self._call("fetchrow", statement, args)

    async def fetchval(self, statement: str, *args: Any) -> Any:
        return await self._call("fetchval", statement, args)

    async def execute(self, statement: str, *args: Any) -> Any:
        return await self._call("execute", statement, args)

    def word(self) -> DatabaseWord:
        """All of it until now."""
        return DatabaseWord(self._calls, self._errors, self._wait_seconds, tuple(self._took))

    async def _call(self, method: str, statement: str, args: tuple[Any, ...]) -> Any:
        """Counted when it has ended; one that is given up by the worker itself says nothing of the database."""
        asked, given = self._clock(), None
        try:
            async with self._pool.acquire() as connection:
                given = self._clock()
                answer = await getattr(connection, method)(statement, *args)
                ended = self._clock()  # before the connection is given back
        except Exception as exc:
            # The driver's DataError is an InterfaceError too: that is no lost connection, but a value of no use.
            failed = isinstance(exc, (*DATABASE_AWAY, *DATABASE_UNFIT)) and not isinstance(exc, ValueError)
            timed = not failed or isinstance(exc, _TOO_LATE)
            if failed and not timed and isinstance(exc, _NOBODY):
                telemetry.DATABASE_CALLS.labels(self._name, "failed").inc()
                raise
            self._count("failed" if failed else "refused", asked, given, self._clock(), timed=timed)
            raise
        self._count("done", asked, given, ended)
        return answer

    def _count(
        self, outcome: str, asked: float, given: float | None, ended: float, *, timed: bool = True
    ) -> None:
        """A failure that comes at once is not `timed`, or it would make the database look quick; but a statement that
        was waited for in vain was at least that slow."""
        wait = (ended if given is None else given) - asked
        self._calls += 1
        self._errors += outcome == "failed"
        self._wait_seconds += wait
        telemetry.DATABASE_CALLS.labels(self._name, outcome).inc()
        telemetry.DATABASE_WAIT.labels(self._name).observe(wait)
        if given is not None and timed:
            self._took[bisect.bisect_left(DATABASE_BOUNDS, ended - given)] += 1
            telemetry.DATABASE_SECONDS.labels(self._name).observe(ended - given)
