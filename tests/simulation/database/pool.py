"""Stands where asyncpg's pool stands: as much of it as the product asks for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
from simulation.database.server import Session
from simulation.database.statements import named
from simulation.database.wire import Asked, Line, Wire

from peakclip_operator.simulation.events.kernel import Process

_CONNECT_SECONDS: Final = 0.005


class Transaction:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def __aenter__(self) -> Self:
        await self._connection.control("begin")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (
            kind is not None
            and issubclass(kind, asyncio.CancelledError)
            and not self._connection.line.is_open
        ):
            return  # it was closed because of that
        await self._connection.control("commit" if kind is None else "rollback")


def _check_numbers(args: Sequence[Any]) -> None:
    """As the driver: what is no int4 never leaves the process. Only columns of `drain_seckill` are looked at."""
    for column in args:
        if isinstance(column, list) and column and isinstance(column[0], int) and max(column) >= 1 << 31:
            raise asyncpg.DataError("invalid input for query argument: value out of int32 range")


class Connection:
    def __init__(self, line: Line, command_timeout: float) -> None:
        self.line = line
        self.in_transaction = False
        self._command_timeout = command_timeout

    def transaction(self) -> Transaction:
        return Transaction(self)

    async def control(self, word: str) -> None:
        server = self.line._wire.server
        work: Asked = {"begin": server.begin, "commit": server.commit, "rollback": server.rollback}[word]
        await self._ask(word, work)
        self.in_transaction = word == "begin"

    async def fetch(self, text: str, *args: Any) -> Any:
        statement, server = named(text), self.line._wire.server
        _check_numbers(args)

        def work(session: Session, answer: Any) -> None:
            server.run(session, statement, args, answer)

        return await self._ask(statement.__name__, work)

    execute = fetch

    async def fetchrow(self, text: str, *args: Any) -> Any:
        rows = await self.fetch(text, *args)
        return rows[0] if rows else None

    async def fetchval(self, text: str, *args: Any) -> Any:
        row = await self.fetchrow(text, *args)
        return None if row is None else next(iter(row))

    async def _ask(self, what: str, work: Asked) -> Any:
        if not self.line.is_open:
            raise asyncpg.InterfaceError("connection is closed")
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(value: Any) -> None:
            if not told.done():
                told.set_result(value)

        self.line.ask(what, work, answer)
        try:
            async with asyncio.timeout(self._command_timeout):
                value = await told
        except BaseException:  # too late, or given up: what is under way is cancelled
            self.line.close()
            raise
        if isinstance(value, Exception):
            if isinstance(value, asyncpg.AdminShutdownError):
                self.line.close()
            raise value
        return value


class _Acquired:
    """`async with pool.acquire() as connection`"""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._pool.give_back(self._connection)


class Pool:
    """`most` connections, made when they are first needed."""

    def __init__(self, wire: Wire, process: Process, most: int, command_timeout: float = 10.0) -> None:
        self._wire = wire
        self._process = process
        self._most = most
        self._command_timeout = command_timeout
        self._idle: list[Connection] = []
        self._out = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def acquire(self) -> _Acquired:
        return _Acquired(self)

    async def take(self) -> Connection:
        if self._out >= self._most:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn  # its place is kept for it
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._free()
                elif turn in self._queue:
                    self._queue.remove(turn)
                raise
        else:
            self._out += 1
        try:
            return await self._connected()
        except BaseException:
            self._free()
            raise

    async def _connected(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.line.is_open:
                return connection
        await asyncio.sleep(_CONNECT_SECONDS)
        return Connection(self._wire.connect(self._process), self._command_timeout)

    async def give_back(self, connection: Connection) -> None:
        try:
            if connection.line.is_open and connection.in_transaction:
                await connection.control("rollback")
        finally:
            if connection.line.is_open:
                self._idle.append(connection)
            self._free()

    def _free(self) -> None:
        """The place goes to whoever has waited longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._out -= 1

    async def _with_one(self, method: str, text: str, args: tuple[Any, ...]) -> Any:
        async with self.acquire() as connection:
            return await getattr(connection, method)(text, *args)

    async def fetch(self, text: str, *args: Any) -> Any:
        return await self._with_one("fetch", text, args)

    async def fetchrow(self, text: str, *args: Any) -> Any:
        return await self._with_one("fetchrow", text, args)

    async def fetchval(self, text: str, *args: Any) -> Any:
        return await self._with_one("fetchval", text, args)

    async def execute(self, text: str, *args: Any) -> Any:
        return await self._with_one("execute", text, args)

    async def close(self) -> None:
        for connection in self._idle:
            connection.line.close()
        self._idle = []
