"""Tickets of customer service, and figures by day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from business import act, add_provider, new_order, review, work
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    PROVIDER_KEY,
    SERVICE_KEY,
    TENANT,
    Api,
    api_process,
    store_keys,
)

from peakclip.credentials import store_key
from peakclip.jetstream import JetStream

pytestmark = pytest.mark.integration

FOREIGN_ADMIN = "pk_foreign_admin"


@pytest.fixture
async def api(js: JetStream, database: Any, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    await store_keys(database)
    await store_key(database, FOREIGN_ADMIN, "t2", "admin", "admin")
    await add_provider(database, "p-1")
    async with api_process(nats_url, fresh_database_url) as process:
        yield process


async def rated(js: JetStream, database: Any, *ratings: int) -> list[str]:
    """An order of its own for each rating; the ids of the reviews."""
    found = []
    for rating in ratings:
        order = await new_order(database, at=None)
        await act(database, order, "pay", "accept", "start", "complete")
        found.append(await review(database, order, rating))
        await work(js, database)
    return found


async def test_tickets_are_listed_and_closed(api: Api, js: JetStream, database: Any) -> None:
    reviews = await rated(js, database, 1, 5, 2, 1)
    answer = await api.call("GET", "/v1/tickets?limit=2", key=ADMIN_KEY)
    assert answer.status == 200
    rest = await api.call("GET", f"/v1/tickets?cursor={answer.body['next_cursor']}", key=ADMIN_KEY)
    tickets = answer.body["items"] + rest.body["items"]
    assert [ticket["review_id"] for ticket in tickets] == [reviews[3], reviews[2], reviews[0]]
    assert rest.body["next_cursor"] is None
    (newest, *_) = tickets
    assert (newest["status"], newest["closed_at"], newest["rating"]) == ("open", None, 1)

    path = f"/v1/tickets/{newest['ticket_id']}/close"
    closed = await api.call("POST", path, key=ADMIN_KEY)
    assert closed.status == 200
    assert closed.body == {**newest, "status": "closed", "closed_at": closed.body["closed_at"]}
    assert (await api.call("POST", path, key=ADMIN_KEY)).body == closed.body

    async def listed(status: str) -> list[str]:
        found = await api.call("GET", f"/v1/tickets?status={status}", key=ADMIN_KEY)
        return [ticket["ticket_id"] for ticket in found.body["items"]]

    assert await listed("closed") == [newest["ticket_id"]]
    assert await listed("open") == [ticket["ticket_id"] for ticket in tickets[1:]]


async def test_tickets_are_for_the_tenants_admins(api: Api, js: JetStream, database: Any) -> None:
    await rated(js, database, 1)
    (ticket,) = (await api.call("GET", "/v1/tickets", key=ADMIN_KEY)).body["items"]
    path = f"/v1/tickets/{ticket['ticket_id']}/close"
    assert (await api.call("GET", "/v1/tickets", key=FOREIGN_ADMIN)).body["items"] == []
    answer = await api.call("POST", path, key=FOREIGN_ADMIN)
    assert (answer.status, answer.kind) == (404, "ticket-not-found")
    for key in (CUSTOMER_KEY, PROVIDER_KEY, SERVICE_KEY):
        assert (await api.call("GET", "/v1/tickets", key=key)).status == 403
        assert (await api.call("POST", path, key=key)).status == 403
    assert await database.fetchval("select status from tickets") == "open"
    for nothing in ("nothing", "%00", "x" * 200):
        answer = await api.call("POST", f"/v1/tickets/{nothing}/close", key=ADMIN_KEY)
        assert (answer.status, answer.kind) == (404, "ticket-not-found")
    assert (await api.call("GET", "/v1/tickets?status=lost", key=ADMIN_KEY)).status == 422


async def test_a_report_has_every_day(api: Api, js: JetStream, database: Any) -> None:
    await rated(js, database, 2, 5, 5)
    cancelled = await new_order(database, at=None)
    await act(database, cancelled, "pay", "cancel")
    await work(js, database)
    await database.execute(
        "insert into daily_figures (tenant, day, orders) values ($1, '2026-03-01', 7), ('t2', '2026-02-28', 9)",
        TENANT,
    )
    today = datetime.now(UTC).date().isoformat()
    answer = await api.call("GET", f"/v1/reports/daily?from={today}&to={today}", key=ADMIN_KEY)
    assert answer.status == 200
    assert answer.body["items"] == [
        {
            "day": today, "orders": 4, "completed": 3, "cancellations": 1, "revenue_cents": 4 * 4_900,
            "refunds_cents": 4_900, "ratings": 3, "rating_average": 4.0,
        }
    ]  # fmt: skip
    answer = await api.call("GET", "/v1/reports/daily?from=2026-02-27&to=2026-03-02", key=ADMIN_KEY)
    assert [(item["day"], item["orders"]) for item in answer.body["items"]] == [
        ("2026-02-27", 0), ("2026-02-28", 0), ("2026-03-01", 7), ("2026-03-02", 0),
    ]  # fmt: skip
    assert {item["rating_average"] for item in answer.body["items"]} == {None}
    foreign = await api.call("GET", "/v1/reports/daily?from=2026-02-28&to=2026-02-28", key=FOREIGN_ADMIN)
    assert foreign.body["items"][0]["orders"] == 9


async def test_which_days_are_meant(api: Api) -> None:
    async def days(query: str) -> list[str]:
        answer = await api.call("GET", f"/v1/reports/daily{query}", key=ADMIN_KEY)
        assert answer.status == 200, answer
        return [item["day"] for item in answer.body["items"]]

    today = datetime.now(UTC).date()
    assert await days("") == [(today - timedelta(days=29 - n)).isoformat() for n in range(30)]
    assert await days(f"?from={today - timedelta(days=2)}") == [
        (today - timedelta(days=2 - n)).isoformat() for n in range(3)
    ]
    assert len(await days("?to=2024-03-01")) == 30
    assert len(await days("?from=2024-01-01&to=2024-12-31")) == 366
    assert await days("?to=0001-01-02") == ["0001-01-01", "0001-01-02"]
    assert await days("?from=9999-12-31&to=9999-12-31") == ["9999-12-31"]
    for wrong, field in {
        "from=2023-12-31&to=2024-12-31": "from",
        "from=2024-01-02&to=2024-01-01": "from",
        "from=2024-02-30": "from",
        "to=20240101": "to",
        "to=2024-W01-1": "to",
        "to=x": "to",
        "to=": "to",
    }.items():
        answer = await api.call("GET", f"/v1/reports/daily?{wrong}", key=ADMIN_KEY)
        assert (answer.status, answer.kind) == (422, "invalid-request"), wrong
        assert answer.body["errors"][0]["field"] == field
    for key in (CUSTOMER_KEY, PROVIDER_KEY, SERVICE_KEY):
        assert (await api.call("GET", "/v1/reports/daily", key=key)).status == 403
