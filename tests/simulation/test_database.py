"""The pool over the model of PostgreSQL: what a connection that breaks leaves behind, and who gets the next one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from simulation.database.pool import Pool
from simulation.database.wire import Faults, Wire

from peakclip.store import DATABASE_AWAY, query
from peakclip_operator.simulation.events.kernel import Kernel, Process

LETTER = ("m", "orders", "s", "{}", b"", "cause", 3)


class Place:
    def __init__(self, **faults: float) -> None:
        self.kernel = Kernel()
        self.wire = Wire(self.kernel, random.Random(1), Faults(**faults))
        self.process = Process(self.kernel, "test")
        self.pool = Pool(self.wire, self.process, 2)

    def run(self, work: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> Any:
        """In virtual time. Raises what it raises."""
        ended: list[Any] = []

        async def noted() -> None:
            try:
                ended.append(await work())
            except BaseException as exc:  # noqa: BLE001 - the test's
                ended.append(exc)

        self.kernel.at(self.kernel.now, self.process, self.process.create_task, noted())
        self.kernel.run(self.kernel.now + seconds)
        assert ended, f"this did not end in {seconds} s"
        if isinstance(ended[0], BaseException):
            raise ended[0]
        return ended[0]

    async def write(self) -> Any:
        return await self.pool.fetchval(query("dead_letter"), *LETTER)

    @property
    def letters(self) -> int:
        return len(self.wire.server.store.tables["dead_letters"])


def test_a_statement_that_never_arrives_and_one_whose_answer_is_lost_look_the_same() -> None:
    for faults, letters in (({"cut_before": 1.0}, 0), ({"cut_after": 1.0}, 1)):
        place = Place(**faults)
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            place.run(place.write)
        assert place.letters == letters


def test_the_outcome_of_a_commit_can_be_unknown() -> None:
    place = Place()

    async def work() -> None:
        async with place.pool.acquire() as connection, connection.transaction():
            await connection.fetchval(query("dead_letter"), *LETTER)
            place.wire.faults.cut_after = 1.0

    with pytest.raises(DATABASE_AWAY):
        place.run(work)
    assert place.letters == 1


def test_an_answer_that_never_comes_is_given_up_and_its_connection_too() -> None:
    place = Place(swallowed=1.0)
    with pytest.raises(TimeoutError):
        place.run(place.write)
    assert place.kernel.now >= 10.0
    assert not place.wire.lines
    place.wire.faults.swallowed = 0.0
    assert place.run(place.write) is not None


def test_a_process_that_is_killed_leaves_no_transaction_behind() -> None:
    place = Place()

    async def work() -> None:
        async with place.pool.acquire() as connection, connection.transaction():
            await connection.fetchval(query("dead_letter"), *LETTER)
            place.process.kill()
            place.wire.killed(place.process)
            await asyncio.sleep(1.0)

    with pytest.raises(AssertionError):
        place.run(work)
    assert place.letters == 0
    assert not place.wire.server.sessions
    assert not place.wire.server.store.holders


def test_a_crash_of_the_server_keeps_what_was_committed() -> None:
    place = Place()

    async def work() -> None:
        await place.write()
        async with place.pool.acquire() as connection, connection.transaction():
            await connection.execute(query("begin_alone"), "orders", "m")
            place.wire.crash()
            await connection.execute(query("begin_alone"), "orders", "m")

    with pytest.raises(DATABASE_AWAY):
        place.run(work)
    with pytest.raises(OSError, match="refused"):
        place.run(place.write)
    place.wire.start()
    place.run(place.write)
    assert place.letters == 1
    assert not place.wire.server.store.tables["begun_alone"]


def test_connections_go_to_who_has_waited_longest() -> None:
    place = Place(step_seconds=0.01)
    order: list[int] = []

    async def one(number: int) -> None:
        async with place.pool.acquire():
            order.append(number)
            await asyncio.sleep(0.1)

    async def work() -> None:
        given_up = [asyncio.create_task(one(number)) for number in range(6)]
        await asyncio.sleep(0.05)
        given_up[2].cancel()
        await asyncio.gather(*given_up, return_exceptions=True)

    place.run(work)
    assert order == [0, 1, 3, 4, 5]
    assert place.run(place.write) is not None
