"""From placed to completed over HTTP: who may do what when, and each of it once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    PROVIDER_KEY,
    SERVICE_KEY,
    drain_batch,
    insert_sale,
    make_order,
)
from trade import Shop, insert_orders

from peakclip.credentials import store_key

pytestmark = pytest.mark.integration

STATUSES = ("created", "pending_payment", "paid", "accepted", "started", "completed", "cancelled", "rejected")
ACTIONS = ("accept", "start", "complete", "cancel", "pay")
LEGAL = {
    ("created", "accept"): "accepted",
    ("paid", "accept"): "accepted",
    ("accepted", "start"): "started",
    ("started", "complete"): "completed",
    ("created", "cancel"): "cancelled",
    ("pending_payment", "cancel"): "cancelled",
    ("paid", "cancel"): "cancelled",
    ("accepted", "cancel"): "cancelled",
    ("created", "pay"): "paid",
    ("pending_payment", "pay"): "paid",
    ("accepted", "pay"): "accepted",
    ("started", "pay"): "started",
    ("completed", "pay"): "completed",
}
KEYED = {"headers": {"Idempotency-Key": "k1"}}


async def events(shop: Shop) -> list[tuple[str, dict[str, Any]]]:
    rows = await shop.database.fetch(
        "select subject, payload from outbox where increment is null order by id"
    )
    return [(row["subject"], msgspec.json.decode(row["payload"])) for row in rows]


async def payments(shop: Shop) -> Counter[str]:
    return Counter(row["kind"] for row in await shop.database.fetch("select kind from payments"))


async def pending_order(shop: Shop, customer: str = "ann", *, due: bool = False) -> str:
    """Of a flash sale of ten units, as the drain makes it."""
    await insert_sale(shop.database, stock=10)
    order = make_order(customer_id=customer)
    await drain_batch(shop.database, [order])
    if due:
        await shop.database.execute("update orders set expires_at = clock_timestamp()")
    await shop.database.execute("truncate outbox")
    return order.order_id


async def stock(shop: Shop) -> tuple[int, int, int]:
    return tuple(await shop.database.fetchrow("select available, reserved, sold from sales"))


async def test_an_order_from_creation_to_completion(shop: Shop) -> None:
    provider_id, key = await shop.provider()
    order_id = await shop.order("ann")
    seen = []
    for action, who in (("accept", key), ("start", key), ("complete", key), ("pay", SERVICE_KEY)):
        answer = await shop.act(order_id, action, key=who)
        assert answer.status == 200, answer
        assert answer.body == (await shop.api.call("GET", f"/v1/orders/{order_id}")).body
        seen.append((answer.body["status"], answer.body["version"]))
    assert seen == [("accepted", 2), ("started", 3), ("completed", 4), ("completed", 5)]
    assert answer.body["provider_id"] == provider_id
    assert answer.body["amount_cents"] == 4_900
    rows = await shop.database.fetch("select subject, message_id from outbox order by id")
    assert [row["subject"] for row in rows] == [
        "order.created", "order.accepted", "order.started", "order.completed", "order.paid",
    ]  # fmt: skip
    assert [row["message_id"] for row in rows] == [f"{order_id}:{version}" for version in range(1, 6)]


# -- what follows what -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
async def test_every_action_in_every_status(shop: Shop, status: str) -> None:
    """What is not in the table is refused, and changes nothing."""
    provider_id, _ = await shop.provider()
    for action in ACTIONS:
        columns: dict[str, Any] = {"expires_at": datetime.now(UTC) + timedelta(hours=1)}
        if status in ("accepted", "started", "completed"):
            columns["provider_id"] = provider_id
        if status == "paid":
            columns["paid_at"] = datetime.now(UTC)
        (order_id,) = await insert_orders(shop.database, 1, status=status, **columns)
        before = await shop.database.fetchrow("select * from orders where order_id = $1", order_id)
        body = {"json": {"provider_id": provider_id}} if action == "accept" else {}
        answer = await shop.act(order_id, action, **body)
        after = await shop.database.fetchrow("select * from orders where order_id = $1", order_id)
        told = await shop.database.fetch("delete from outbox returning subject, message_id, payload")
        if (status, action) in LEGAL:
            assert (answer.status, answer.body["status"]) == (200, LEGAL[status, action]), (status, action)
            assert after["version"] == before["version"] + 1
            assert [row["message_id"] for row in told] == [f"{order_id}:2"]
            assert msgspec.json.decode(told[0]["payload"])["status"] == after["status"]
        else:
            assert (answer.status, answer.kind) == (409, "illegal-transition"), (status, action)
            assert after == before
            assert told == []
            assert answer.body.get("refunded") == (True if action == "pay" else None)
            if action != "pay":
                assert status in answer.body["detail"]
    made = await payments(shop)
    lost = (status, "pay") not in LEGAL
    assert made == ({"payment": 1, "refund": 1} if lost else {"payment": 1})


async def test_what_each_transition_notes(shop: Shop) -> None:
    provider_id, key = await shop.provider()
    order_id = await shop.order()
    noted = {"accept": "assigned_at", "start": "service_started_at", "complete": "completed_at"}
    before: dict[str, Any] = (await shop.api.call("GET", f"/v1/orders/{order_id}")).body
    for action, column in noted.items():
        now = datetime.now(UTC)
        body = (await shop.act(order_id, action, key=key)).body
        assert body.keys() - before.keys() == {column} | ({"provider_id"} if action == "accept" else set())
        assert abs((datetime.fromisoformat(body[column]) - now).total_seconds()) < 30
        before = body
    assert before["provider_id"] == provider_id


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ADMIN_KEY, "cancelled-by-admin"),
        (SERVICE_KEY, "cancelled-by-customer"),
        (CUSTOMER_KEY, "cancelled-by-customer"),
    ],
)
async def test_a_cancelled_order_says_by_whom(shop: Shop, key: str, reason: str) -> None:
    order_id = await shop.order("own-1")
    body = (await shop.act(order_id, "cancel", key=key)).body
    assert (body["status"], body["reason"]) == ("cancelled", reason)
    assert "cancelled_at" in body
    subject, event = (await events(shop))[-1]
    assert (subject, event["reason"], event["refunded_cents"]) == ("order.cancelled", reason, 0)


# -- who ---------------------------------------------------------------------------------------------------


async def test_who_may_do_what(shop: Shop) -> None:
    """The order is ann's; nothing of this changes it."""
    _, key = await shop.provider()
    provider_id, _ = await shop.provider()
    order_id = await shop.order("ann")
    assigned = await shop.order("ann")
    await shop.act(assigned, "accept", json={"provider_id": provider_id})
    as_bob, as_ann = {"headers": {"Peakclip-Customer": "bob"}}, {"headers": {"Peakclip-Customer": "ann"}}
    for action in ACTIONS:
        body = {"json": {"provider_id": provider_id}} if action == "accept" else {}
        assert (await shop.act(order_id, action, key=None, **body)).status == 401  # type: ignore[arg-type]
        theirs = await shop.act(order_id, action, key=FOREIGN_KEY, **body)
        assert theirs.kind == "order-not-found"
        assert (await shop.act(order_id, action, key=SERVICE_KEY, **as_bob, **body)).kind == "order-not-found"
        empty = await shop.act(order_id, action, key=SERVICE_KEY, headers={"Peakclip-Customer": ""}, **body)
        assert empty.kind == "customer-required"
        if action in ("cancel", "pay"):
            assert (await shop.act(order_id, action, key=key)).kind == "forbidden"
            assert (await shop.act(order_id, action, key=CUSTOMER_KEY)).kind == "order-not-found"
            assert (await shop.act(order_id, action, key=CUSTOMER_KEY, **as_ann)).kind == "order-not-found"
        else:
            assert (await shop.act(order_id, action, key=CUSTOMER_KEY)).kind == "forbidden"
        if action in ("start", "complete"):  # by another than the one who has it; and of one that nobody has
            assert (await shop.act(assigned, action, key=key)).kind == "order-not-found"
            assert (await shop.act(order_id, action, key=key)).kind == "illegal-transition"
        for nothing in ("nothing", "00000000-0000-8000-8000-000000000000"):
            assert (await shop.act(nothing, action, **body)).kind == "order-not-found"
    assert await shop.status(order_id) == "created"
    assert await shop.status(assigned) == "accepted"
    assert await payments(shop) == {}


async def test_a_service_acts_for_the_customer_it_names_or_for_the_tenant(shop: Shop) -> None:
    provider_id, _ = await shop.provider()
    as_ann = {"headers": {"Peakclip-Customer": "ann"}}
    for options in (as_ann, {}):
        order_id = await shop.order("ann")
        for action in ACTIONS:
            body = {"json": {"provider_id": provider_id}} if action == "accept" else {}
            expected = 409 if action == "cancel" else 200  # it is completed by then
            answer = await shop.act(order_id, action, key=SERVICE_KEY, **options, **body)
            assert answer.status == expected, (action, answer)


async def test_who_accepts(shop: Shop) -> None:
    me, key = await shop.provider()
    other, _ = await shop.provider()
    inactive, inactive_key = await shop.provider(active=False)
    gone, gone_key = await shop.provider()
    await shop.api.call("DELETE", f"/v1/providers/{gone}", key=ADMIN_KEY)
    await store_key(shop.database, "pk_admin_2", "t2", "admin", "admin")
    body = {"name": "theirs", "latitude": 0, "longitude": 0}
    theirs = (await shop.create("/v1/providers", body, key="pk_admin_2"))["provider_id"]
    order_id = await shop.order()
    for who in (ADMIN_KEY, SERVICE_KEY):
        missing = await shop.act(order_id, "accept", key=who)
        assert (missing.status, missing.body["errors"][0]["field"]) == (422, "provider_id")
        for nobody in (inactive, gone, theirs, "nobody", "a" * 64):
            refused = await shop.act(order_id, "accept", key=who, json={"provider_id": nobody})
            assert (refused.status, refused.kind) == (404, "provider-not-found")
        for wrong in ({"provider_id": "a b"}, {"provider_id": None}, {"provider": me}, []):
            assert (await shop.act(order_id, "accept", key=who, json=wrong)).kind == "invalid-request"
        assert (await shop.act(order_id, "accept", key=who, data=b"{")).kind == "malformed-json"
    for who in (inactive_key, gone_key, PROVIDER_KEY):
        assert (await shop.act(order_id, "accept", key=who)).kind == "provider-not-found"
    assert (await shop.act(order_id, "accept", key=key, json={"provider_id": other})).kind == "forbidden"
    assert (await shop.act(order_id, "accept", key=key, json={"provider_id": me})).status == 200
    taken = await shop.act(order_id, "accept", json={"provider_id": other})
    assert (taken.status, taken.kind) == (409, "illegal-transition")


# -- once --------------------------------------------------------------------------------------------------


async def test_two_providers_at_once(shop: Shop) -> None:
    """One gets the order, the other is told that it is taken."""
    (_, one), (_, other) = await shop.provider(), await shop.provider()
    orders = await insert_orders(shop.database, 15)
    for order_id in orders:
        answers = await asyncio.gather(
            *(shop.act(order_id, "accept", key=key) for key in (one, other, one, other))
        )
        assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
        assert {answer.kind for answer in answers} == {None, "illegal-transition"}
    assert Counter(subject for subject, _ in await events(shop)) == {"order.accepted": 15}


async def test_a_transition_with_a_key_is_done_once_and_answered_the_same(shop: Shop) -> None:
    _, key = await shop.provider()
    _, rival = await shop.provider()
    order_id = await shop.order()
    for number, action in enumerate(("accept", "start", "complete"), start=2):
        answers = await asyncio.gather(*(shop.act(order_id, action, key=key, **KEYED) for _ in range(20)))
        assert {answer.status for answer in answers} == {200}, action
        assert {answer.text for answer in answers} == {answers[0].text}
        assert answers[0].body["version"] == number
    # Whatever has happened since: the same request again is answered, not refused.
    again = await shop.act(order_id, "accept", key=key, **KEYED)
    assert (again.status, again.body["status"]) == (200, "completed")
    for options in ({}, {"headers": {"Idempotency-Key": "k2"}}):
        assert (await shop.act(order_id, "accept", key=key, **options)).kind == "illegal-transition"
    # Another provider may choose the same key, and has not accepted it.
    assert (await shop.act(order_id, "accept", key=rival, **KEYED)).kind == "illegal-transition"
    for odd in ("a b", "", "x" * 256, "ä"):
        refused = await shop.act(order_id, "complete", key=key, headers={"Idempotency-Key": odd})
        assert (refused.status, refused.kind) == (400, "idempotency-key-invalid")
    assert len(await events(shop)) == 4


async def test_an_admins_key_is_for_one_provider(shop: Shop) -> None:
    (one, _), (other, _) = await shop.provider(), await shop.provider()
    order_id = await shop.order()
    for provider_id, status in ((one, 200), (one, 200), (other, 409)):
        answer = await shop.act(order_id, "accept", json={"provider_id": provider_id}, **KEYED)
        assert answer.status == status


async def test_a_cancellation_with_a_key_is_done_once(shop: Shop) -> None:
    order_id = await pending_order(shop)
    answers = await asyncio.gather(*(shop.act(order_id, "cancel", **KEYED) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert await stock(shop) == (10, 0, 0)
    returned = await shop.database.fetch("select increment from outbox where increment is not null")
    assert [row["increment"] for row in returned] == [1]


# -- payment -----------------------------------------------------------------------------------------------


async def test_a_payment_of_a_sales_order(shop: Shop) -> None:
    order_id = await pending_order(shop)
    answers = await asyncio.gather(*(shop.act(order_id, "pay") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.body["status"] for answer in answers} == {"paid"}
    assert len({answer.body["paid_at"] for answer in answers}) == 1
    assert await payments(shop) == {"payment": 1}
    assert await stock(shop) == (9, 0, 1)
    assert [subject for subject, _ in await events(shop)] == ["order.paid"]


async def test_a_payment_is_its_key(shop: Shop) -> None:
    """The same one again is the same; another one loses, as often as it comes, and is refunded once."""
    order_id = await pending_order(shop)
    assert (await shop.act(order_id, "pay", **KEYED)).status == 200
    assert (await shop.act(order_id, "pay", **KEYED)).status == 200
    for _ in range(3):
        for options in ({}, {"headers": {"Idempotency-Key": "k2"}}):
            lost = await shop.act(order_id, "pay", **options)
            assert (lost.status, lost.kind, lost.body["refunded"]) == (409, "illegal-transition", True)
            assert "another payment" in lost.body["detail"]
    assert await payments(shop) == {"payment": 3, "refund": 2}
    # A key is of one order: that of another order is another payment.
    other = await shop.order()
    assert (await shop.act(other, "pay", **KEYED)).body["status"] == "paid"
    assert await payments(shop) == {"payment": 4, "refund": 2}
    assert (
        await shop.act(other, "pay", headers={"Idempotency-Key": "a b"})
    ).kind == "idempotency-key-invalid"


async def test_a_payment_that_comes_too_late_is_refunded(shop: Shop) -> None:
    order_id = await pending_order(shop, due=True)
    for detail in ("The time to pay is over.", "The order is cancelled."):
        lost = await shop.act(order_id, "pay")
        assert (lost.status, lost.body["refunded"]) == (409, True)
        assert lost.body["detail"].startswith(detail)
        await shop.database.execute("select * from expire_orders($1::uuid[])", [order_id])
    assert await payments(shop) == {"payment": 1, "refund": 1}
    assert await stock(shop) == (10, 0, 0)


async def test_what_was_paid_is_refunded_with_the_cancellation(shop: Shop) -> None:
    order_id = await pending_order(shop)
    await shop.act(order_id, "pay")
    cancelled = await shop.act(order_id, "cancel")
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert await payments(shop) == {"payment": 1, "refund": 1}
    assert await stock(shop) == (10, 0, 0)
    assert (await events(shop))[-1][1]["refunded_cents"] == 100
    again = await shop.act(order_id, "pay")  # the same payment: it was taken, and given back
    assert (again.status, again.body["status"]) == (200, "cancelled")
    assert await payments(shop) == {"payment": 1, "refund": 1}


async def test_payment_and_cancellation_at_once(shop: Shop) -> None:
    """However it ends: cancelled, nothing of the money kept, the unit on offer once."""
    await insert_sale(shop.database, stock=20, limit=1)
    orders = [make_order() for _ in range(20)]
    await drain_batch(shop.database, orders)
    outcomes: Counter[tuple[int, int]] = Counter()
    for number, order in enumerate(orders):
        pair = [shop.act(order.order_id, "pay"), shop.act(order.order_id, "cancel")]
        paid, cancelled = await asyncio.gather(*(pair if number % 2 else reversed(pair)))
        if not number % 2:
            paid, cancelled = cancelled, paid
        outcomes[paid.status, cancelled.status] += 1
        assert await shop.status(order.order_id) == "cancelled"
    assert outcomes.keys() <= {(200, 200), (409, 200)}
    assert await payments(shop) == {"payment": 20, "refund": 20}
    assert await stock(shop) == (20, 0, 0)
    returned = await shop.database.fetchval("select sum(increment) from outbox where increment is not null")
    assert returned == 20


# -- in line -----------------------------------------------------------------------------------------------


async def test_what_waits_in_line_has_no_status_yet(shop: Shop) -> None:
    sale = await shop.api.sale(stock=5)
    of_sale = (await shop.api.order(sale, "ann")).body["order_id"]
    body = await shop.booking("ann")
    ordinary = await shop.post("/v1/orders", body, key=SERVICE_KEY, customer="ann", Prefer="respond-async")
    provider_id, key = await shop.provider()
    for order_id, action in itertools.product((of_sale, ordinary.body["order_id"]), ACTIONS):
        sent = {"json": {"provider_id": provider_id}} if action == "accept" else {}
        answer = await shop.act(order_id, action, **sent)
        assert (answer.status, answer.kind) == (409, "illegal-transition")
        assert "in line" in answer.body["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        as_bob = {"headers": {"Peakclip-Customer": "bob"}}
        hidden = await shop.act(order_id, action, key=SERVICE_KEY, **as_bob, **sent)
        assert hidden.kind == "order-not-found"
        assert (await shop.act(order_id, action, key=FOREIGN_KEY, **sent)).kind == "order-not-found"
        if action in ("accept", "start", "complete"):
            assert (await shop.act(order_id, action, key=key)).kind == "order-not-found"
    assert await payments(shop) == {}
