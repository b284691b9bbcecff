"""The same statements on the model and on a real PostgreSQL: what they answer, who waits, and what is in the tables."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg
import msgspec
from simulation.database.server import Server
from simulation.database.server import Session as ModelSession
from simulation.database.statements import NAMED
from simulation.database.store import Transaction

from peakclip.store import query

_A_MOMENT_SECONDS: Final = 0.002
_MOST_LOOKS: Final = 5_000
TABLES: Final = (
    "sales", "orders", "payments", "outbox", "superseded_reservations", "dead_letters", "begun_alone", "effects",
    "order_history", "inboxes", "notifications", "daily_figures",
)  # fmt: skip
_LEFT_OUT: Final = {"id", "notification_id", "at", "created_at", "committed_at", "day", "dropped_at"}
_NULL_OR_NOT: Final = {
    "expires_at", "paid_at", "cancelled_at", "started_at", "assigned_at", "service_started_at", "completed_at",
    "accepted_at", "opens_at", "closes_at", "deleted_at", "service_date",
}  # fmt: skip
_WAITING: Final = "waits"


class Session(Protocol):
    async def begin(self) -> None: ...

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...

    async def run(self, name: str, *args: Any) -> Any: ...

    async def waits(self) -> bool: ...


class Place(Protocol):
    async def session(self) -> Session: ...

    async def rows(self, table: str) -> list[dict[str, Any]]: ...

    async def expire(self, order_id: str) -> None:
        """Its time is up, without a transaction's doing."""

    async def terminate(self, session: Session) -> None: ...

    async def cancel(self, session: Session) -> None:
        """What it is doing."""


def plain(value: Any) -> Any:
    """Without what is another at every run: times, and numbers that are given out."""
    if isinstance(value, Mapping):
        return {
            key: (one is not None if key in _NULL_OR_NOT else plain(one))
            for key, one in value.items()
            if key not in _LEFT_OUT
        }
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, str) and value.startswith(("{", "[")):
        return plain(msgspec.json.decode(value))
    if isinstance(value, str):
        value = re.sub(r"timer\.expiry\.\d+", "timer.expiry", value)
        return re.sub(r"@?(at )?\d{4}-\d\d-\d\d[T ][0-9:.]+(Z|\+00:00)?", "<time>", value)
    return value if value is None or isinstance(value, (int, float, bool)) else str(value)


def told(answer: Any) -> Any:
    """An answer of asyncpg or of the model."""
    if isinstance(answer, list):
        return [plain(dict(row.items())) for row in answer]
    if isinstance(answer, Exception):
        return type(answer).__name__
    return plain(answer)


async def contents(place: Place) -> dict[str, list[str]]:
    """Of all tables, as far as it is the same everywhere; wake-ups of the sweep once only."""
    found = {}
    for table in TABLES:
        rows = [msgspec.json.encode(plain(row), order="sorted").decode() for row in await place.rows(table)]
        if table == "outbox":
            timers = {row for row in rows if "timer.expiry" in row}
            rows = [row for row in rows if row not in timers] + sorted(timers)
        found[table] = sorted(rows)
    return found


# -- the model -----------------------------------------------------------------------------------------------


class _OnModel:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.session: ModelSession = server.open()

    async def begin(self) -> None:
        self._server.begin(self.session, lambda _: None)

    async def commit(self) -> None:
        self._server.commit(self.session, lambda _: None)

    async def rollback(self) -> None:
        self._server.rollback(self.session, lambda _: None)

    async def run(self, name: str, *args: Any) -> Any:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.session.alive:
            raise asyncpg.InterfaceError("connection is closed")
        self._server.run(self.session, NAMED[name], args, answered.set_result)
        answer = await answered
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def waits(self) -> bool:
        return self._server.is_waiting(self.session)


class ModelPlace:
    def __init__(self) -> None:
        self._clock = itertools.count(1_700_000_000_000)
        self.server = Server(lambda: next(self._clock) / 1_000)

    async def session(self) -> Session:
        return _OnModel(self.server)

    async def rows(self, table: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self.server.store.tables[table].values()]

    async def expire(self, order_id: str) -> None:
        tx = Transaction(self.server.store, self.server.now)
        row = tx.get("orders", order_id)
        if row is not None:
            tx.put("orders", order_id, {**row, "expires_at": tx.clock() - 1.0})
        tx.commit()

    async def terminate(self, session: Session) -> None:
        assert isinstance(session, _OnModel)
        self.server.terminate(session.session)

    async def cancel(self, session: Session) -> None:
        assert isinstance(session, _OnModel)
        self.server.cancel(session.session)


# -- PostgreSQL ----------------------------------------------------------------------------------------------


class _OnServer:
    def __init__(self, connection: Any, watcher: Any) -> None:
        self._connection = connection
        self._watcher = watcher
        self.pid: int = connection.get_server_pid()

    async def begin(self) -> None:
        await self._connection.execute("begin")

    async def commit(self) -> None:
        await self._connection.execute("commit")

    async def rollback(self) -> None:
        await self._connection.execute("rollback")

    async def run(self, name: str, *args: Any) -> Any:
        method = self._connection.execute if name in _EXECUTED else self._connection.fetch
        return await method(query(name), *args)

    async def waits(self) -> bool:
        return bool(await self._watcher.fetchval("select cardinality(pg_blocking_pids($1)) > 0", self.pid))


_EXECUTED: Final = {"create_sale", "delete_outbox", "end_alone"}


class ServerPlace:
    """`database`: a pool of asyncpg, of the test's own database."""

    def __init__(self, database: Any, connections: Sequence[Any]) -> None:
        self._database = database
        self._connections = list(connections)

    async def session(self) -> Session:
        connection = self._connections.pop()
        await connection.execute("set deadlock_timeout = '20ms'")
        return _OnServer(connection, self._database)

    async def rows(self, table: str) -> list[dict[str, Any]]:
        found = await self._database.fetch(f"select to_jsonb(t) as row from {table} t")
        return [msgspec.json.decode(row["row"]) for row in found]

    async def expire(self, order_id: str) -> None:
        await self._database.execute(
            "update orders set expires_at = clock_timestamp() - interval '1 second' where order_id = $1",
            order_id,
        )

    async def terminate(self, session: Session) -> None:
        assert isinstance(session, _OnServer)
        await self._database.fetchval("select pg_terminate_backend($1, 1000)", session.pid)

    async def cancel(self, session: Session) -> None:
        assert isinstance(session, _OnServer)
        await self._database.fetchval("select pg_cancel_backend($1)", session.pid)


async def settled(session: Session, running: asyncio.Task[Any]) -> Any:
    """What a statement answered, or that it waits for another transaction."""
    for _ in range(_MOST_LOOKS):
        await asyncio.sleep(0)
        if running.done():
            return told(running.exception() or running.result())
        if await session.waits():
            # PostgreSQL may find a circle a moment later.
            await asyncio.sleep(0.04 if isinstance(session, _OnServer) else 0)
            if not running.done():
                return _WAITING
        await asyncio.sleep(_A_MOMENT_SECONDS if isinstance(session, _OnServer) else 0)
    raise AssertionError("a statement neither ends nor waits")
