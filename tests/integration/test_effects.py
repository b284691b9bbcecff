"""What each event brings about, in the database alone."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec
import pytest
from business import (
    BERLIN,
    Happened,
    act,
    add_customer,
    add_provider,
    apply,
    happened,
    new_order,
    review,
)
from support import TENANT, drain_batch, insert_sale, make_order

pytestmark = pytest.mark.integration


async def told(database: Any) -> list[tuple[str, str, str, str]]:
    """Whom, of what, and in which words, in the order of ids."""
    rows = await database.fetch(
        "select audience, user_id, kind, body from notifications order by notification_id"
    )
    return [tuple(row) for row in rows]


async def happened_effects(database: Any) -> Counter[str]:
    rows = await database.fetch("select effect from audit_effects")
    return Counter(row["effect"] for row in rows)


async def figures(database: Any) -> dict[str, int]:
    """Over all days."""
    names = (
        "orders",
        "completed",
        "cancellations",
        "revenue_cents",
        "refunds_cents",
        "ratings",
        "rating_sum",
    )
    row = await database.fetchrow(
        f"select {', '.join(f'sum({name})::bigint as {name}' for name in names)} from daily_figures"
    )
    return {name: row[name] for name in names if row[name]}


async def test_a_whole_order_has_every_effect_once(database: Any) -> None:
    await add_provider(database, "p-1")
    await add_provider(database, "far", at=(48.1, 11.6))
    order = await new_order(database)
    await act(database, order, "pay", "accept", "start", "complete")
    review_id = await review(database, order, 2, reply="We are sorry.")
    answer = await apply(database, await happened(database))
    assert (answer["applied"], answer["repeated"]) == (7, 0)
    assert await happened_effects(database) == {
        "audit": 5, "daily-figures": 4, "provider-statistics": 2, "ticket": 1,
        "notify-customer": 6, "notify-provider": 1, "notify-providers": 1,
    }  # fmt: skip
    assert await told(database) == [
        ("customer", "own-1", "order.created", "We have your order. A provider can accept it now."),
        ("customer", "own-1", "order.paid", "Your payment has arrived."),
        ("customer", "own-1", "order.accepted", "A provider has accepted your order."),
        ("customer", "own-1", "order.started", "The provider has started."),
        ("customer", "own-1", "order.completed", "Your order is completed. You can review it now."),
        ("customer", "own-1", "review.replied", "The provider has replied to your review."),
        ("provider", "p-1", "order.created", "A new order is 0 m away from you."),
        ("provider", "p-1", "review.created", "A customer has given you 2 of 5."),
    ]
    assert await figures(database) == {
        "orders": 1, "completed": 1, "revenue_cents": 4_900, "ratings": 1, "rating_sum": 2,
    }  # fmt: skip
    provider = await database.fetchrow("select * from providers where provider_id = 'p-1'")
    assert (provider["rating_count"], provider["rating_sum"], provider["completed_orders"]) == (1, 2, 1)
    ticket = await database.fetchrow("select * from tickets")
    assert (ticket["review_id"], str(ticket["order_id"]), ticket["provider_id"], ticket["customer_id"]) == (
        review_id, order, "p-1", "own-1",
    )  # fmt: skip
    assert (ticket["tenant"], ticket["rating"], ticket["status"]) == (TENANT, 2, "open")
    trail = await database.fetch("select version, event, status from order_history order by version")
    assert [tuple(row) for row in trail] == [
        (1, "order.created", "created"),
        (2, "order.paid", "paid"),
        (3, "order.accepted", "accepted"),
        (4, "order.started", "started"),
        (5, "order.completed", "completed"),
    ]


async def test_what_is_to_be_pushed_is_what_was_written(database: Any) -> None:
    order = await new_order(database, at=None)
    answer = await apply(database, await happened(database))
    (push,) = answer["notifications"]
    row = await database.fetchrow("select * from notifications")
    assert datetime.fromisoformat(push.pop("at")) == row["created_at"]
    assert push == {
        "notification_id": row["notification_id"], "number": 1, "tenant": TENANT, "audience": "customer",
        "user_id": "own-1", "kind": "order.created", "title": "Order received",
        "body": "We have your order. A provider can accept it now.",
        "data": {"order_id": order, "status": "created"},
    }  # fmt: skip
    assert (await apply(database, await happened(database)))["notifications"] == []


async def test_the_stories_that_end_badly_are_told_as_they_were(database: Any) -> None:
    await add_provider(database, "p-1")
    await insert_sale(database, stock=1, limit=1)
    buyer, late = make_order(customer_id="late"), make_order(customer_id="too-late")
    await drain_batch(database, [buyer, late])
    await database.execute(
        "update orders set expires_at = now() - interval '1 s' where status = 'pending_payment'"
    )
    await database.execute("select expire_orders($1)", [buyer.order_id])
    assigned, paid = await new_order(database, "c2"), await new_order(database, "c3")
    await act(database, assigned, "accept", "cancel")
    await act(database, paid, "pay")
    await act(database, paid, "cancel", reason="cancelled-by-admin")
    await apply(database, await happened(database))
    bodies = {(user, kind): body for _, user, kind, body in await told(database)}
    assert bodies["late", "order.created"].startswith("Your order is reserved. Pay before 20")
    assert bodies["late", "order.cancelled"] == "Your order has expired: it was not paid in time."
    assert bodies["too-late", "order.rejected"] == "Your order could not be accepted: everything is sold."
    assert bodies["c2", "order.cancelled"] == "Your order is cancelled."
    assert bodies["p-1", "order.cancelled"] == "An order that you had accepted is cancelled."
    assert bodies["c3", "order.cancelled"] == (
        "Your order was cancelled by the shop. Your payment goes back to you."
    )
    assert await figures(database) == {
        "orders": 3, "cancellations": 3, "revenue_cents": 4_900, "refunds_cents": 4_900,
    }  # fmt: skip


async def test_ratings_above_two_open_no_ticket(database: Any) -> None:
    await add_provider(database, "p-1")
    for rating in (1, 2, 3, 4, 5):
        order = await new_order(database)
        await act(database, order, "accept", "start", "complete")
        await review(database, order, rating)
    await apply(database, await happened(database))
    assert sorted(row["rating"] for row in await database.fetch("select rating from tickets")) == [1, 2]


async def test_an_order_without_a_place_or_of_a_sale_is_offered_to_nobody(database: Any) -> None:
    await add_provider(database, "p-1")
    await insert_sale(database)
    await drain_batch(database, [make_order()])
    order = await new_order(database, at=None)
    *events, last = await happened(database)
    place = {"latitude": BERLIN[0], "longitude": BERLIN[1]}
    of_a_sale = changed(last, {**last.body, **place, "sale_id": "s1", "version": 9}, f"{order}:9")
    await apply(database, [*events, last, of_a_sale])
    assert {audience for audience, *_ in await told(database)} == {"customer"}


async def test_a_day_is_a_utc_day_of_the_event(database: Any) -> None:
    order = await new_order(database)
    (event,) = await happened(database)
    for version, at in enumerate(("2026-03-01T00:30:00+01:00", "2026-02-28T20:00:00-05:00"), start=1):
        body = {**event.body, "version": version, "at": at}
        await apply(database, [changed(event, body, f"{order}:{version}")])
    rows = await database.fetch("select day::text, orders from daily_figures order by day")
    assert [tuple(row) for row in rows] == [("2026-02-28", 1), ("2026-03-01", 1)]


def changed(event: Happened, body: dict[str, Any], event_id: str) -> Happened:
    return Happened(event_id, event.subject, msgspec.json.encode(body).decode())


# -- what also leaves the system ---------------------------------------------------------------------------


async def test_a_webhook_gets_everything_and_an_e_mail_what_one_wants_to_find_again(database: Any) -> None:
    hook, mail = "https://example.org/hook", "somebody@example.org"
    await add_customer(database, "own-1", email=mail, webhook_url=hook)
    await add_provider(database, "p-1", email="p@example.org", webhook_url="https://example.org/p")
    done, cancelled = await new_order(database), await new_order(database)
    await act(database, done, "pay", "accept", "start", "complete")
    await review(database, done, 5, reply="Thanks")
    await act(database, cancelled, "accept", "cancel")
    await apply(database, await happened(database))
    rows = await database.fetch("select user_id, channel, kind, address from deliveries")
    found: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        found.setdefault((row["user_id"], row["channel"]), Counter())[row["kind"]] += 1
    assert found == {
        ("own-1", "webhook"): {
            "order.created": 2, "order.paid": 1, "order.accepted": 2, "order.started": 1, "order.completed": 1,
            "order.cancelled": 1, "review.replied": 1,
        },
        ("own-1", "email"): {"order.created": 2, "order.paid": 1, "order.cancelled": 1},
        ("p-1", "webhook"): {"order.created": 2, "order.cancelled": 1, "review.created": 1},
        ("p-1", "email"): {"review.created": 1},
    }  # fmt: skip
    addresses = {(row["user_id"], row["channel"]): row["address"] for row in rows}
    assert addresses == {
        ("own-1", "webhook"): hook,
        ("own-1", "email"): mail,
        ("p-1", "webhook"): "https://example.org/p",
        ("p-1", "email"): "p@example.org",
    }
    joined = await database.fetchval(
        "select count(*) from deliveries d join notifications n using (notification_id, tenant, user_id, kind, title,"
        " body, data) where d.state = 'pending'"
    )
    assert joined == len(rows)


async def test_nothing_goes_to_an_address_that_is_not_the_receivers(database: Any) -> None:
    """Others of the same id have addresses: a provider, a customer, one of another tenant; or the receiver had one."""
    await add_provider(
        database, "own-1", at=(0, 0), email="p@example.org", webhook_url="https://example.org/p"
    )
    await add_customer(
        database, "own-1", tenant="t2", email="x@example.org", webhook_url="https://example.org/x"
    )
    await add_customer(database, "gone", email="gone@example.org")
    await database.execute("update customers set deleted_at = now() where customer_id = 'gone'")
    await add_provider(database, "p-1")
    await add_customer(database, "p-1", email="c@example.org", webhook_url="https://example.org/c")
    for customer in ("own-1", "gone", "never-seen"):
        await new_order(database, customer)
    await apply(database, await happened(database))
    assert await database.fetchval("select count(*) from notifications") == 6
    assert await database.fetchval("select count(*) from deliveries") == 0
