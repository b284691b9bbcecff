"""Sums kept by increments against the same sums made anew: events in any order, many times over, side by side."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from business import Happened, add_provider, apply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.integration

TENANTS = ("t1", "t2")
PROVIDERS = {tenant: [f"{tenant}-p{n}" for n in range(4)] for tenant in TENANTS}
DAYS = ("2026-02-27T23:59:59.999999Z", "2026-02-28T00:00:00+00:00", "2026-02-28T23:30:00-05:00")


@st.composite
def order_stories(draw: st.DrawFn) -> list[Happened]:
    """The events of one order, from its creation as far as it got; perhaps a review."""
    tenant = draw(st.sampled_from(TENANTS))
    kinds = draw(
        st.sampled_from(
            [
                ["created"],
                ["created", "paid", "accepted", "started", "completed"],
                ["created", "accepted", "started", "completed", "paid"],
                ["created", "paid", "cancelled"],
                ["created", "cancelled"],
                ["rejected"],
            ]
        )
    )
    cents = draw(st.integers(0, 10**12))
    order = {
        "order_id": str(uuid.UUID(int=draw(st.integers(1, (1 << 128) - 1)), version=4)),
        "tenant": tenant,
        "customer_id": draw(st.sampled_from(["ann", "ben", "p0"])),
        "amount_cents": cents,
    }
    provider = draw(st.sampled_from(PROVIDERS[tenant]))
    found = []
    for version, kind in enumerate(kinds, start=1):
        body = {
            **order,
            "version": version,
            "status": kind,
            "provider_id": provider if kind in ("accepted", "started", "completed") else None,
            "refunded_cents": cents if kind == "cancelled" and "paid" in kinds else 0,
            "at": draw(st.sampled_from(DAYS)),
        }
        found.append(_event(f"{body['order_id']}:{version}", f"order.{kind}", body))
    if kinds[-1] == "completed" and draw(st.booleans()):
        review_id = f"r-{order['order_id']}"
        body = {
            **{name: order[name] for name in ("order_id", "tenant", "customer_id")},
            "review_id": review_id,
            "provider_id": provider,
            "rating": draw(st.integers(1, 5)),
            "at": draw(st.sampled_from(DAYS)),
        }
        found.append(_event(f"{review_id}:created", "review.created", body))
        found.append(_event(f"{review_id}:replied", "review.replied", {**body, "reply": "Thanks"}))
    return found


def _event(event_id: str, subject: str, body: dict[str, Any]) -> Happened:
    return Happened(event_id, subject, msgspec.json.encode(body).decode())


def days_of(events: Iterable[Happened]) -> dict[tuple[str, str], tuple[int, ...]]:
    """What `daily_figures` must hold: by tenant and day, in the order of its columns."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 7)
    places = {"order.created": 0, "order.completed": 1, "order.cancelled": 2}
    for event in events:
        body = event.body
        day = datetime.fromisoformat(body["at"]).astimezone(UTC).date().isoformat()
        if event.subject in (*places, "order.paid", "review.created"):
            row = sums[body["tenant"], day]
            if event.subject in places:
                row[places[event.subject]] += 1
            row[3] += body["amount_cents"] if event.subject == "order.paid" else 0
            row[4] += body.get("refunded_cents", 0)
            if event.subject == "review.created":
                row[5] += 1
                row[6] += body["rating"]
    return {key: tuple(row) for key, row in sums.items()}


def providers_of(events: Iterable[Happened]) -> dict[str, tuple[int, int, int]]:
    ratings: defaultdict[str, list[int]] = defaultdict(list)
    completed: Counter[str] = Counter()
    for event in events:
        if event.subject == "review.created":
            ratings[event.body["provider_id"]].append(event.body["rating"])
        completed[event.body.get("provider_id")] += event.subject == "order.completed"
    return {
        provider: (len(ratings[provider]), sum(ratings[provider]), completed[provider])
        for tenant in TENANTS
        for provider in PROVIDERS[tenant]
    }


async def read(database: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
    days = await database.fetch("select tenant, day::text, daily_figures.* from daily_figures")
    providers = await database.fetch(
        "select provider_id, rating_count, rating_sum, completed_orders from providers"
    )
    return {(row[0], row[1]): tuple(row)[4:] for row in days}, {row[0]: tuple(row)[1:] for row in providers}


async def begin(database: Any) -> None:
    await database.execute(
        "truncate effects, order_history, daily_figures, tickets, inboxes, notifications, deliveries, providers"
    )
    for tenant, names in PROVIDERS.items():
        for name in names:
            await add_provider(database, name, tenant=tenant)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), stories=st.lists(order_stories(), min_size=1, max_size=25))
async def test_increments_are_what_a_recomputation_gives(
    database: Any, data: st.DataObject, stories: list[list[Happened]]
) -> None:
    events = list({event.event_id: event for story in stories for event in story}.values())
    await begin(database)
    hands = [
        data.draw(st.permutations(events))[: data.draw(st.integers(0, len(events)))] for _ in range(3)
    ] + [data.draw(st.permutations(events))]
    sizes = [data.draw(st.integers(1, 12)) for _ in hands]
    await asyncio.gather(*(_work(database, hand, size) for hand, size in zip(hands, sizes, strict=True)))
    assert await read(database) == (days_of(events), providers_of(events))
    rated = [event for event in events if event.subject == "review.created"]
    tickets = await database.fetchval("select count(*) from tickets")
    assert tickets == sum(event.body["rating"] <= 2 for event in rated)
    trail = await database.fetch("select order_id || ':' || version as event_id from order_history")
    told = sorted(row["event_id"] for row in trail)
    assert told == sorted(event.event_id for event in events if event.subject.startswith("order."))


async def _work(database: Any, hand: Sequence[Happened], size: int) -> None:
    for first in range(0, len(hand), size):
        await apply(database, hand[first : first + size])


@pytest.mark.parametrize("subject", ["order.completed", "order.created"])
async def test_many_rows_wanted_by_everybody_at_once_are_taken_in_one_order(
    database: Any, subject: str
) -> None:
    """Eight workers without an event in common want the same providers and days; or the same days alone."""
    await begin(database)
    events = [
        _event(
            f"{order}:5",
            subject,
            {
                "order_id": order, "tenant": tenant, "customer_id": f"c-{order}", "version": 5,
                "status": "completed", "provider_id": PROVIDERS[tenant][n // 8 % 4],
                "at": f"2026-03-{1 + n // 8 % 30:02}T12:00:00Z",
            },
        )
        for n in range(2_400)
        for tenant in [TENANTS[n % 2]]
        for order in [str(uuid.UUID(int=n * 7919 + 1, version=4))]
    ]  # fmt: skip
    await asyncio.gather(*(_work(database, events[n::8], 30) for n in range(8)))
    assert await read(database) == (days_of(events), providers_of(events))
