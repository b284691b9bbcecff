"""Scenarios about transactions that meet, for the model and for a real PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
import pytest
from simulation.database.places import Place, Session, contents, settled
from simulation.database.wandering import TENANT, make_sales

from peakclip.store import DATABASE_AWAY

ORDERS: Final = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"scene {number}")) for number in range(4)]
PAYMENT: Final = str(uuid.uuid5(uuid.NAMESPACE_OID, "payment"))
Scene = Callable[[Place], Awaitable[None]]
SCENES: Final[list[Scene]] = []


def scene(written: Scene) -> Scene:
    SCENES.append(written)
    return written


async def drain(session: Session, *order_ids: str, sale: str = "sa", frame: str = "f") -> Any:
    count = len(order_ids)
    ids = list(order_ids)
    columns = [ids, [TENANT] * count, ["ada"] * count, [sale] * count, [1] * count, [frame] * count]
    return await session.run("drain_seckill", *columns, ["p"] * count, [1.7e9] * count, [""] * count, 1.7e9)


def later(session: Session, name: str, *args: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(session.run(name, *args))


async def outcome(running: asyncio.Task[Any], name: str = "outcome") -> Any:
    return (await running)[0][name]


@scene
async def who_waits_is_judged_by_what_the_other_has_done(place: Place) -> None:
    a, b = await place.session(), await place.session()
    await make_sales(a)
    await drain(a, ORDERS[0])
    await a.begin()
    await a.run("pay_order", TENANT, ORDERS[0], None, PAYMENT, "")
    cancelling = later(b, "transition_order", TENANT, ORDERS[0], "cancel", None, None, "why", None, "")
    assert await settled(b, cancelling) == "waits"
    await a.commit()
    assert await outcome(cancelling) == "done"  # of a paid order: with its refund
    assert {row["kind"] for row in await place.rows("payments")} == {"payment", "refund"}


@scene
async def what_was_not_committed_has_never_been(place: Place) -> None:
    a, b = await place.session(), await place.session()
    await make_sales(a)
    await drain(a, ORDERS[0])
    before = await contents(place)
    await a.begin()
    await a.run("transition_order", TENANT, ORDERS[0], "cancel", None, None, "why", None, "")
    paying = later(b, "pay_order", TENANT, ORDERS[0], None, PAYMENT, "")
    assert await settled(b, paying) == "waits"
    assert await contents(place) == before
    await a.rollback()
    assert await outcome(paying) == "done"


@scene
async def rows_of_the_outbox_that_another_one_has_are_passed_over(place: Place) -> None:
    a, b = await place.session(), await place.session()
    await make_sales(a)
    await a.begin()
    claimed = await a.run("claim_outbox", 1)
    await b.begin()
    others = await b.run("claim_outbox", 10)
    assert [row["message_id"] for row in (*claimed, *others)] == ["init-sa", "init-sb"]
    await a.run("delete_outbox", [claimed[0]["id"]])
    await a.commit()
    await b.rollback()
    assert [row["message_id"] for row in await b.run("claim_outbox", 10)] == ["init-sb"]


@scene
async def a_key_that_another_one_has_inserted_is_waited_for(place: Place) -> None:
    a, b = await place.session(), await place.session()
    await a.begin()
    await drain(a, ORDERS[0], sale="gone", frame="f1")
    draining = later(
        b, "drain_seckill", [ORDERS[0]], [TENANT], ["ada"], ["else"], [1], ["f2"], ["p"], [1.0], [""], 1.0
    )
    assert await settled(b, draining) == "waits"
    await a.commit()
    assert await outcome(draining, "repeated") == 1
    assert len(await place.rows("superseded_reservations")) == 1


@scene
async def who_closes_a_circle_is_ended(place: Place) -> None:
    a, b = await place.session(), await place.session()
    await make_sales(a)
    for one, sale in ((a, "sa"), (b, "sb")):
        await one.begin()
        await one.run("change_sale", sale, TENANT, "{}", 4 if sale == "sa" else 3, 1, "p")
    waiting = later(a, "change_sale", "sb", TENANT, "{}", 3, 1, "q")
    assert await settled(a, waiting) == "waits"
    with pytest.raises(asyncpg.DeadlockDetectedError):
        await b.run("change_sale", "sa", TENANT, "{}", 4, 1, "q")
    assert len(await waiting) == 1  # what the other one held is free at once
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await b.run("count_outbox")
    await b.commit()  # says that it was rolled back
    await a.commit()
    assert sorted(row["initial"] for row in await place.rows("sales")) == [4, 5]


@scene
async def a_backend_that_is_terminated_takes_its_transaction_with_it(place: Place) -> None:
    a, b = await place.session(), await place.session()
    await make_sales(b)
    await a.begin()
    await drain(a, ORDERS[0])
    before = await contents(place)
    waiting = later(
        b, "drain_seckill", [ORDERS[1]], [TENANT], ["ben"], ["sa"], [1], ["f"], ["p"], [1.0], [""], 1.0
    )
    assert await settled(b, waiting) == "waits"
    await place.terminate(b)
    with pytest.raises(DATABASE_AWAY):
        await waiting
    await place.terminate(a)
    with pytest.raises(DATABASE_AWAY):
        await a.run("count_outbox")
    assert await contents(place) == before


@scene
async def an_order_is_due_from_its_time_on(place: Place) -> None:
    a = await place.session()
    await make_sales(a)
    await drain(a, *ORDERS[:2])
    assert await a.run("find_due_orders", 0.0, str(uuid.UUID(int=0)), 10) == []
    await place.expire(ORDERS[1])
    due = await a.run("find_due_orders", 0.0, str(uuid.UUID(int=0)), 10)
    assert [row["order_id"] for row in due] == [ORDERS[1]]
    assert await a.run("find_due_orders", due[0]["expires_at"], ORDERS[1], 10) == []
    (row,) = await a.run("expire_orders", [ORDERS[0], ORDERS[1], ORDERS[1]])
    assert dict(row.items()) == {"expired": 1, "kept": 1}
    (paid,) = await a.run("pay_order", TENANT, ORDERS[1], None, PAYMENT, "")
    assert (paid["outcome"], paid["status"]) == ("lost", "cancelled")


@scene
async def rows_of_a_sale_never_contradict_each_other(place: Place) -> None:
    a = await place.session()
    await make_sales(a)
    (order,) = await a.run("find_sales", ["sa"])
    assert order["closes_at"] > order["opens_at"]
    before = await contents(place)
    with pytest.raises(asyncpg.CheckViolationError):
        await a.run("change_sale", "sa", TENANT, '{"closes_at": "2025-01-01T00:00:00+00:00"}', 4, 0, "p")
    assert await a.run("change_sale", "sa", TENANT, "{}", 4, -5, "p") == []
    assert await contents(place) == before
