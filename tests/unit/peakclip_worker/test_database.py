"""What a worker tells of its database: what counts as an error, and what as time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from peakclip.messages import DATABASE_BOUNDS, DatabaseWord
from peakclip_worker.database import Database


@dataclass
class Connections:
    """A pool of one connection. The clock moves by what waiting and the statement take."""

    wait: float = 0.0
    takes: float = 0.0
    nobody: Exception | None = None
    """Instead of a connection."""
    failure: BaseException | None = None
    asked: list[tuple[str, str, tuple[Any, ...]]] = field(default_factory=list)
    now: float = 100.0

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        self.now += self.wait
        if self.nobody is not None:
            raise self.nobody
        yield self
        self.now += 50.0  # to give it back is nobody's wait

    def __getattr__(self, method: str) -> Any:
        async def statement(text: str, *args: Any) -> str:
            self.asked.append((method, text, args))
            self.now += self.takes
            if self.failure is not None:
                raise self.failure
            return "answer"

        return statement


def database(pool: Connections) -> Database:
    return Database(pool, "orders", clock=lambda: pool.now)


def buckets(word: DatabaseWord) -> dict[float, int]:
    """What is not zero, by upper bound."""
    bounds = (*DATABASE_BOUNDS, float("inf"))
    return {bound: calls for bound, calls in zip(bounds, word.took, strict=True) if calls}


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval", "execute"])
async def test_a_statement_is_passed_on_and_its_wait_told_apart_from_its_time(method: str) -> None:
    pool = Connections(wait=0.25, takes=0.15)
    measured = database(pool)
    assert measured.word() == DatabaseWord(0, 0, 0.0, (0,) * (len(DATABASE_BOUNDS) + 1))
    assert await getattr(measured, method)("select $1", 1) == "answer"
    assert pool.asked == [(method, "select $1", (1,))]
    word = measured.word()
    assert (word.calls, word.errors, word.wait_seconds) == (1, 0, pytest.approx(0.25))
    assert buckets(word) == {0.2: 1}


@pytest.mark.parametrize(
    ("failure", "errors", "timed"),
    [
        (asyncpg.CrashShutdownError("a backend has crashed"), 1, 0),
        (asyncpg.DeadlockDetectedError("deadlock"), 1, 0),
        (asyncpg.DiskFullError("full"), 1, 0),
        (TimeoutError(), 1, 1),
        (asyncpg.QueryCanceledError("statement timeout"), 1, 1),
        (asyncpg.CheckViolationError("no such pet"), 0, 1),
        (KeyError("a defect of ours"), 0, 1),
    ],
)  # fmt: skip
async def test_what_the_database_did_not_do_is_an_error_and_what_it_refused_is_none(
    failure: Exception, errors: int, timed: int
) -> None:
    measured = database(Connections(takes=4.0, failure=failure))
    with pytest.raises(type(failure)):
        await measured.fetchval("select 1")
    word = measured.word()
    assert (word.calls, word.errors, sum(word.took)) == (1, errors, timed)
    assert buckets(word) == ({4.0: 1} if timed else {})


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError(),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("closed"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.AdminShutdownError("terminated"),
        asyncpg.TooManyConnectionsError("others have them all"),
    ],
)
async def test_nobody_there_says_nothing_of_how_much_the_database_bears(failure: Exception) -> None:
    for pool in (Connections(wait=1.0, nobody=failure), Connections(takes=1.0, failure=failure)):
        measured = database(pool)
        with pytest.raises(type(failure)):
            await measured.fetchval("select 1")
        assert measured.word() == DatabaseWord(0, 0, 0.0, (0,) * (len(DATABASE_BOUNDS) + 1))


async def test_a_value_that_no_column_takes_is_refused_by_the_driver_and_no_error() -> None:
    refusal = asyncpg.exceptions._base.__dict__["DataError"]("an int is expected")  # an InterfaceError
    measured = database(Connections(failure=refusal))
    with pytest.raises(asyncpg.InterfaceError):
        await measured.fetchval("select 1")
    assert measured.word().errors == 0


async def test_no_connection_is_an_error_that_was_waited_for() -> None:
    measured = database(Connections(wait=5.0, nobody=TimeoutError()))
    with pytest.raises(TimeoutError):
        await measured.execute("select 1")
    assert measured.word() == DatabaseWord(1, 1, 5.0, (0,) * (len(DATABASE_BOUNDS) + 1))


async def test_what_the_worker_gives_up_itself_says_nothing_of_the_database() -> None:
    measured = database(Connections(failure=asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await measured.execute("select 1")
    assert measured.word().calls == 0


async def test_slower_than_the_last_bound_has_a_bucket_of_its_own() -> None:
    pool = Connections(takes=11.0)
    measured = database(pool)
    await measured.execute("select 1")
    assert buckets(measured.word()) == {float("inf"): 1}
    assert list(DATABASE_BOUNDS) == sorted(DATABASE_BOUNDS)
