"""Reviews over HTTP: one for each completed order, and one reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from support import ADMIN_KEY, CUSTOMER_KEY, FOREIGN_KEY, PROVIDER_KEY, SERVICE_KEY, Answer
from trade import Shop, insert_orders

pytestmark = pytest.mark.integration

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def completed(shop: Shop, customer: str = "ann") -> tuple[str, str, str]:
    """Ids of an order and its provider, and the provider's key."""
    provider_id, key = await shop.provider()
    (order_id,) = await insert_orders(
        shop.database, 1, customer=customer, status="completed", provider_id=provider_id
    )
    return order_id, provider_id, key


async def review(shop: Shop, order_id: str, rating: int = 5, customer: str = "ann", **options: Any) -> Answer:
    body = {"order_id": order_id, "rating": rating, **options.pop("more", {})}
    return await shop.post("/v1/reviews", body, key=SERVICE_KEY, customer=customer, **options)


async def events(shop: Shop) -> list[Any]:
    return list(await shop.database.fetch("select * from outbox order by id"))


async def test_a_review_and_its_reply(shop: Shop) -> None:
    order_id, provider_id, key = await completed(shop)
    made = await review(shop, order_id, 4, more={"comment": "Clean."}, traceparent=TRACE)
    assert made.status == 201
    review_id = made.body["review_id"]
    assert made.headers["Location"] == f"/v1/reviews/{review_id}"
    assert made.body == {
        "review_id": review_id, "order_id": order_id, "customer_id": "ann", "provider_id": provider_id, "rating": 4,
        "comment": "Clean.", "created_at": made.body["created_at"], "reply": None, "replied_at": None,
    }  # fmt: skip
    path = f"/v1/reviews/{review_id}"
    assert (await shop.api.call("GET", path)).body == made.body

    replied = await shop.api.call("POST", f"{path}/reply", key=key, json={"text": "Thank you!"})
    assert replied.body == {**made.body, "reply": "Thank you!", "replied_at": replied.body["replied_at"]}
    assert replied.body["replied_at"] is not None
    for who in (SERVICE_KEY, CUSTOMER_KEY, PROVIDER_KEY, ADMIN_KEY):
        assert (await shop.api.call("GET", path, key=who)).body == replied.body
    assert (await shop.api.call("GET", path, key=FOREIGN_KEY)).kind == "review-not-found"

    created, answered = await events(shop)
    assert (created["message_id"], created["subject"]) == (f"{review_id}:created", "review.created")
    assert (answered["message_id"], answered["subject"]) == (f"{review_id}:replied", "review.replied")
    assert msgspec.json.decode(created["headers"]) == {"traceparent": TRACE}
    assert msgspec.json.decode(created["payload"])["rating"] == 4
    assert msgspec.json.decode(answered["payload"])["reply"] == "Thank you!"


async def test_the_same_key_is_the_same_review(shop: Shop) -> None:
    order_id, _, key = await completed(shop)
    answers = await asyncio.gather(*(review(shop, order_id, idempotency="k1") for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    other = await review(shop, order_id, 1, idempotency="k1")
    assert (other.status, other.kind) == (422, "idempotency-key-reused")
    path = answers[0].headers["Location"]
    replied = await shop.api.call("POST", f"{path}/reply", key=key, json={"text": "Thanks"})
    assert (await review(shop, order_id, idempotency="k1")).body == replied.body  # as it is by now
    assert len(await events(shop)) == 2


async def test_an_order_has_one_review(shop: Shop) -> None:
    order_id, _, _ = await completed(shop)
    answers = await asyncio.gather(*(review(shop, order_id, n % 5 + 1) for n in range(20)))
    assert Counter(answer.kind for answer in answers) == {None: 1, "already-reviewed": 19}
    assert {answer.status for answer in answers} == {201, 409}
    assert len(await events(shop)) == 1


@pytest.mark.parametrize(
    "status", ["created", "pending_payment", "paid", "accepted", "started", "cancelled", "rejected"]
)
async def test_only_what_is_completed_is_reviewed(shop: Shop, status: str) -> None:
    (order_id,) = await insert_orders(shop.database, 1, status=status)
    refused = await review(shop, order_id)
    assert (refused.status, refused.kind) == (409, "illegal-transition")
    assert await events(shop) == []


async def test_what_waits_in_line_is_not_completed(shop: Shop) -> None:
    sale = await shop.api.sale()
    order_id = (await shop.api.order(sale, "ann")).body["order_id"]
    refused = await review(shop, order_id)
    assert (refused.status, refused.kind) == (409, "illegal-transition")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await review(shop, order_id, customer="bob")).kind == "order-not-found"


async def test_who_reviews(shop: Shop) -> None:
    order_id, _, key = await completed(shop)
    own, _, _ = await completed(shop, "own-1")
    body = {"order_id": order_id, "rating": 5}
    assert (await shop.post("/v1/reviews", body, key=key)).kind == "forbidden"
    assert (await shop.post("/v1/reviews", body, key=ADMIN_KEY)).kind == "forbidden"
    assert (await shop.post("/v1/reviews", body, key=SERVICE_KEY)).kind == "customer-required"
    assert (await shop.post("/v1/reviews", body, key=CUSTOMER_KEY)).kind == "order-not-found"
    assert (await shop.post("/v1/reviews", body, key=FOREIGN_KEY, customer="ann")).kind == "order-not-found"
    assert (await review(shop, order_id, customer="bob")).kind == "order-not-found"
    assert (await review(shop, "00000000-0000-8000-8000-000000000000")).kind == "order-not-found"
    assert (await shop.api.call("POST", "/v1/reviews", json=body)).kind == "customer-required"
    keyless = {"Peakclip-Customer": "ann"}
    assert (await shop.api.call("POST", "/v1/reviews", json=body, headers=keyless)).status == 400
    assert (await shop.post("/v1/reviews", {**body, "order_id": own}, key=CUSTOMER_KEY)).status == 201


async def test_what_a_review_holds(shop: Shop) -> None:
    order_id, _, _ = await completed(shop)
    for more, wrong in [
        ({"rating": 0}, "rating"), ({"rating": 6}, "rating"), ({"rating": 4.5}, "rating"), ({"rating": None}, "rating"),
        ({"order_id": "x"}, "order_id"), ({"comment": "x" * 2_001}, "comment"), ({"comment": "\0"}, "comment"),
        ({"provider_id": "x"}, ""),
    ]:  # fmt: skip
        refused = await review(shop, order_id, more=more)
        assert (refused.status, refused.kind) == (422, "invalid-request"), more
        assert refused.body["errors"][0]["field"] == wrong, more
    assert (await review(shop, order_id, more={"comment": ""})).body["comment"] == ""


async def test_a_reply_is_given_once_by_the_orders_provider_or_an_admin(shop: Shop) -> None:
    order_id, _, key = await completed(shop)
    _, other = await shop.provider()
    path = (await review(shop, order_id)).headers["Location"] + "/reply"

    async def reply(who: str | None, text: str = "Thanks", at: str = path) -> Answer:
        return await shop.api.call("POST", at, key=who, json={"text": text})

    assert (await reply(None)).status == 401
    assert (await reply(SERVICE_KEY)).kind == "forbidden"
    assert (await reply(CUSTOMER_KEY)).kind == "forbidden"
    assert (await reply(other)).kind == "review-not-found"
    for name in ("nothing", "%00"):
        assert (await reply(key, at=f"/v1/reviews/{name}/reply")).kind == "review-not-found"
        assert (await shop.api.call("GET", f"/v1/reviews/{name}")).kind == "review-not-found"
    for text in ("", "x" * 2_001, "\0"):
        assert (await reply(key, text)).body["errors"][0]["field"] == "text"
    answers = await asyncio.gather(*(reply(key, f"Text {n % 2}") for n in range(20)))
    assert Counter(answer.status for answer in answers) == {200: 10, 409: 10}
    assert {answer.kind for answer in answers} == {None, "already-replied"}
    (text,) = {answer.body["reply"] for answer in answers if answer.status == 200}
    assert (await reply(ADMIN_KEY, "Another")).kind == "already-replied"
    assert (await reply(key, text)).status == 200  # the same again
    assert len(await events(shop)) == 2


async def test_an_admin_replies_for_the_provider(shop: Shop) -> None:
    order_id, _, _ = await completed(shop)
    path = (await review(shop, order_id)).headers["Location"] + "/reply"
    assert (await shop.api.call("POST", path, key=ADMIN_KEY, json={"text": "Sorry."})).body[
        "reply"
    ] == "Sorry."


async def test_a_providers_reviews(shop: Shop) -> None:
    _, provider_id, _ = await completed(shop)
    other_id, _ = await shop.provider()
    await shop.database.execute(
        "insert into reviews (review_id, tenant, order_id, customer_id, provider_id, rating, fingerprint, created_at)"
        " select md5(n::text), 't1', gen_random_uuid(), 'c', $1, n % 5 + 1, 'f',"
        " timestamptz '2026-01-01Z' + make_interval(secs => n % 7) from generate_series(1, 250) n",
        provider_id,
    )
    rows = await shop.database.fetch(
        'select review_id from reviews order by created_at desc, review_id collate "C" desc'
    )
    found: list[str] = []
    cursor: str | None = ""
    path = f"/v1/providers/{provider_id}/reviews?limit=99"
    while cursor is not None:
        page = await shop.api.call("GET", path + (f"&cursor={cursor}" if cursor else ""), key=CUSTOMER_KEY)
        found += [item["review_id"] for item in page.body["items"]]
        cursor = page.body["next_cursor"]
    assert found == [row["review_id"] for row in rows]
    nobody = await shop.api.call("GET", f"/v1/providers/{other_id}/reviews")
    assert nobody.body == {"items": [], "next_cursor": None}
    assert (await shop.api.call("GET", path, key=FOREIGN_KEY)).kind == "provider-not-found"
    for name in ("nothing", "%00"):
        assert (await shop.api.call("GET", f"/v1/providers/{name}/reviews")).kind == "provider-not-found"
    assert (await shop.api.call("GET", path.replace("99", "0"))).kind == "invalid-request"
