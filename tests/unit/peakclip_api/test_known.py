from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from peakclip.messages import Booking, Order
from peakclip.store import query
from peakclip_api.bookings import Bookable
from peakclip_api.known import FRESH_SECONDS, MISSING_SECONDS, MOST_AT_ONCE, REFRESH_AFTER_SECONDS, Known
from peakclip_api.problems import Problem


class Table:
    """A database that answers when the test says so."""

    def __init__(self, **rows: str) -> None:
        self.rows = dict(rows)
        self.asked: list[list[str]] = []
        self.now = 100.0
        self.fails: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.known = Known(self.load, lambda: self.now, patience=0.0)

    async def load(self, keys: Sequence[str]) -> dict[str, str]:
        self.asked.append(list(keys))
        rows = {key: self.rows[key] for key in keys if key in self.rows}
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return rows


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_row_is_asked_for_once_and_refreshed_behind_the_back_of_who_asks() -> None:
    table = Table(a="1")
    assert table.known.remembered("a") is None
    assert await table.known.get("a") == "1"
    for _ in range(5):
        assert await table.known.get("a") == table.known.remembered("a") == "1"
    assert table.asked == [["a"]]
    table.rows["a"] = "2"
    table.now += REFRESH_AFTER_SECONDS
    assert table.known.remembered("a") == await table.known.get("a") == "1"
    await turns()
    assert table.known.remembered("a") == "2"
    assert table.asked == [["a"], ["a"]]


async def test_nothing_older_than_fresh_is_handed_out_while_the_database_answers() -> None:
    table = Table(a="1")
    await table.known.get("a")
    table.rows["a"] = "2"
    table.now += FRESH_SECONDS
    assert table.known.remembered("a") is None
    assert await table.known.get("a") == "2"


async def test_that_there_is_none_is_believed_for_a_moment() -> None:
    table = Table()
    assert await table.known.get("a") is None
    table.rows["a"] = "1"
    table.now += MISSING_SECONDS - 0.01
    assert await table.known.get("a") is None
    assert len(table.asked) == 1
    table.now += 0.01
    assert await table.known.get("a") == "1"


async def test_what_goes_is_gone_when_it_is_refreshed() -> None:
    table = Table(a="1")
    await table.known.get("a")
    del table.rows["a"]
    table.now += FRESH_SECONDS
    assert await table.known.get("a") is None


async def test_who_asks_while_a_query_runs_is_in_the_next_one() -> None:
    table = Table(**{str(number): "x" for number in range(100)})
    table.gate.clear()
    first = asyncio.create_task(table.known.get("0"))
    await turns()
    others = [asyncio.create_task(table.known.get(str(number % 100))) for number in range(500)]
    await turns()
    table.gate.set()
    assert set(await asyncio.gather(first, *others)) == {"x"}
    assert [len(keys) for keys in table.asked] == [1, 99]


async def test_a_query_has_a_bound() -> None:
    table = Table()
    await asyncio.gather(*(table.known.get(str(number)) for number in range(2 * MOST_AT_ONCE + 1)))
    assert max(len(keys) for keys in table.asked) == MOST_AT_ONCE
    assert sum(len(keys) for keys in table.asked) == 2 * MOST_AT_ONCE + 1


async def test_who_asks_anew_gets_no_answer_of_a_query_that_runs() -> None:
    """It may have read the row before it changed."""
    table = Table(a="1")
    table.gate.clear()
    early = asyncio.create_task(table.known.get("a"))
    await turns()
    table.rows["a"] = "2"
    late = asyncio.create_task(table.known.fresh("a"))
    await turns()
    table.gate.set()
    assert (await early, await late) == ("1", "2")
    assert table.known.remembered("a") == "2"


async def test_while_the_database_is_away_what_was_known_stays_in_use() -> None:
    table = Table(a="1")
    await table.known.get("a")
    table.fails = ConnectionRefusedError()
    for _ in range(5):
        table.now += FRESH_SECONDS + 1
        assert await table.known.get("a") == "1"
        assert table.known.remembered("a") == "1"  # believed again for a while: nobody else has to wait
    with pytest.raises(ConnectionRefusedError):
        await table.known.get("b")
    table.fails = None
    assert await table.known.get("b") is None
    table.rows["a"] = "2"
    table.now += FRESH_SECONDS
    assert await table.known.get("a") == "2"


async def test_a_database_that_hangs_holds_nobody_up_who_can_do_with_what_was_known() -> None:
    table = Table(a="1")
    await table.known.get("a")
    table.gate.clear()
    table.rows["a"] = "2"
    for _ in range(3):
        table.now += FRESH_SECONDS
        assert table.known.remembered("a") is None
        assert await table.known.get("a") == "1"
        assert table.known.remembered("a") == "1"
    table.rows["a"] = "3"
    table.gate.set()
    await turns()
    table.now += FRESH_SECONDS
    assert await table.known.get("a") in ("2", "3")  # after its patience, whatever the query says
    await turns()
    assert table.known.remembered("a") == "3"


async def test_a_failure_is_told_to_all_who_wait_and_to_nobody_afterwards() -> None:
    table = Table(a="1")
    table.fails = asyncpg.PostgresError("defect")
    waiting = await asyncio.gather(*(table.known.get(key) for key in "aab"), return_exceptions=True)
    assert {type(one) for one in waiting} == {asyncpg.PostgresError}
    table.fails = None
    assert await table.known.get("a") == "1"


async def test_who_leaves_takes_nobody_along() -> None:
    table = Table(a="1")
    table.gate.clear()
    one, other = (asyncio.create_task(table.known.get("a")) for _ in range(2))
    await turns()
    one.cancel()
    await turns()
    table.gate.set()
    assert await other == "1"


class Shelf:
    """Pets and packages as the database has them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch(self, statement: str, keys: list[str]) -> list[dict[str, str]]:
        self.asked.append(statement)
        await asyncio.sleep(0)
        if statement == query("find_pets"):
            return [
                {"pet_id": key, "tenant": "t1", "customer_id": f"owner-of-{key}"}
                for key in keys
                if key != "none"
            ]
        return [{"service_package_id": key, "tenant": "t1"} for key in keys if key != "none"]


def booked(tenant: str, customer: str, pet: str, package: str) -> Order:
    return Order(
        "id", tenant, customer, "", 1, "print", 1.8e9, booking=Booking(pet, package, "2026-12-24T10:00:00Z")
    )


async def test_a_burst_of_orders_reads_pets_and_packages_together_and_once() -> None:
    shelf = Shelf()
    bookable = Bookable(shelf, lambda: 1.0)

    async def burst() -> None:
        orders = [booked("t1", f"owner-of-p{n % 300}", f"p{n % 300}", "k") for n in range(1_000)]
        await asyncio.gather(*(bookable.check(order) for order in orders))

    await burst()
    assert shelf.asked.count(query("find_pets")) == 1
    assert shelf.asked.count(query("find_service_packages")) == 1
    await burst()
    assert len(shelf.asked) == 2


@pytest.mark.parametrize(
    ("tenant", "customer", "pet", "package", "wrong"),
    [
        ("t1", "owner-of-p", "p", "k", None),
        ("t1", "another", "p", "k", "pet_id"),
        ("t2", "owner-of-p", "p", "k", "pet_id"),
        ("t1", "owner-of-none", "none", "k", "pet_id"),
        ("t1", "owner-of-p", "p", "none", "service_package_id"),
    ],
)
async def test_whose_pet_and_package(
    tenant: str, customer: str, pet: str, package: str, wrong: str | None
) -> None:
    bookable = Bookable(Shelf(), lambda: 1.0)
    order = booked(tenant, customer, pet, package)
    if wrong is None:
        await bookable.check(order)
        return
    with pytest.raises(Problem) as caught:
        await bookable.check(order)
    assert caught.value.errors is not None
    assert caught.value.errors[0]["field"] == wrong


async def test_what_was_known_is_answered_even_if_there_was_no_room_left_to_remember_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Table(a="1", b="2")
    monkeypatch.setattr("peakclip_api.known.MOST_REMEMBERED", 2)
    for key in ("a", "b"):
        await table.known.get(key)
    table.now += FRESH_SECONDS
    table.gate.clear()  # the database hangs: what is remembered again first drives everything else out
    assert await asyncio.gather(table.known.get("a"), table.known.get("b")) == ["1", "2"]
    table.gate.set()
    await turns()
