"""From placed to completed over HTTP: who may do what when, and each of it once."""

from __future__ import annotations

import pytest
from support import SERVICE_KEY
from trade import Shop

pytestmark = pytest.mark.integration


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
