"""Every route with another tenant's credential: what is ours does not exist for them.

The routes come from the application itself. A new one is tried without being named here; if it needs an id or a body
that this file cannot make, the test says which.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import openapi
import pytest
from support import CUSTOMER_KEY, SERVICE_KEY, TENANT, Answer, drain_batch, make_order, new_name
from trade import Shop, insert_orders

from peakclip.credentials import store_key

pytestmark = pytest.mark.integration

MARK = "zq7-only-ours"  # in every text of ours
NOTHING = {"order_id": "00000000-0000-8000-8000-000000000001"}  # ids that nobody has; for all others NO_ID
NO_ID = "nothing"
ROLES = ("customer", "provider", "admin", "service")
OURS = {"customer": CUSTOMER_KEY, "provider": "", "admin": "pk_admin", "service": SERVICE_KEY}
# What their storefront might say; ours is a customer's name, so that they may name the same.
HEADERS = {"Peakclip-Customer": "own-1"}


@dataclass(frozen=True)
class World:
    ids: dict[str, str]  # by name in the path
    bodies: dict[str, Any]  # by operation

    def path(self, route: str, ids: dict[str, str] | None = None) -> str:
        for name in openapi.re.findall(r"{(\w+)}", route):
            assert name in self.ids, f"{route}: make a {name} in `our_world`"
            value = self.ids[name] if ids is None else ids.get(name, NO_ID)
            route = route.replace(f"{{{name}}}", value)
        return route


@pytest.fixture
async def ours(shop: Shop) -> World:
    return await our_world(shop)


async def our_world(shop: Shop) -> World:
    """One of everything."""
    provider_id, OURS["provider"] = await shop.provider(name=MARK, email="zq7@example.org")
    customer = {"customer_id": "own-1", "name": MARK, "email": "zq7@example.org"}
    await shop.create("/v1/customers", customer)
    booking = await shop.booking("own-1", note=MARK)
    await shop.api.call("PATCH", f"/v1/pets/{booking['pet_id']}", key=CUSTOMER_KEY, json={"notes": MARK})
    placed = await shop.post("/v1/orders", booking, key=CUSTOMER_KEY)
    sale_id = await shop.api.sale(stock=10)
    await shop.database.execute("update sales set product = $1", MARK)
    await drain_batch(shop.database, [make_order(sale_id=sale_id, customer_id="own-1")])
    completed, reviewed = await insert_orders(
        shop.database, 2, customer="own-1", status="completed", provider_id=provider_id, note=MARK
    )
    review = await shop.post(
        "/v1/reviews", {"order_id": reviewed, "rating": 1, "comment": MARK}, key=CUSTOMER_KEY
    )
    await shop.database.execute(
        "insert into tickets (ticket_id, tenant, review_id, order_id, provider_id, customer_id, rating)"
        " values ('ticket-1', $1, $2, $3, $4, 'own-1', 1)",
        TENANT, review.body["review_id"], reviewed, provider_id,
    )  # fmt: skip
    for audience, user in (("customer", "own-1"), ("provider", provider_id)):
        await shop.database.execute(
            "insert into notifications (tenant, audience, user_id, number, event_id, kind, title, body, data)"
            " values ($1, $2, $3, 1, $3, 'order.paid', $4, $4, '{}')",
            TENANT, audience, user, MARK,
        )  # fmt: skip
    ids = {
        "order_id": placed.body["order_id"],
        "sale_id": sale_id,
        "provider_id": provider_id,
        "customer_id": "own-1",
        "pet_id": booking["pet_id"],
        "service_package_id": booking["service_package_id"],
        "review_id": review.body["review_id"],
        "ticket_id": "ticket-1",
    }
    place = {"latitude": 1.0, "longitude": 1.0}
    bodies = {
        "POST /v1/sales": None,  # theirs are theirs; test_accept.py has it
        "POST /v1/providers": {"name": "x", **place},
        "POST /v1/customers": {"name": "x"},
        "POST /v1/pets": {"name": "x", "species": "x"},
        "POST /v1/service-packages": {"name": "x", "price_cents": 1, "duration_minutes": 1},
        "POST /v1/orders": {**booking, "note": None},
        "POST /v1/reviews": {"order_id": completed, "rating": 5},
        "POST /v1/reviews/{review_id}/reply": {"text": "x"},
        "POST /v1/orders/{order_id}/accept": {"provider_id": provider_id},
    }
    return World(ids, bodies)


def guarded(shop: Shop) -> list[tuple[str, str]]:
    """(method, path) of every route that asks for a credential; what removes things comes last."""
    is_open = {
        (method, path) for method, path, operation in openapi.operations() if operation.get("security") == []
    }
    routes = {
        (route.method, route.resource.canonical)
        for route in shop.api.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    return sorted(routes - is_open, key=lambda route: (route[0] == "DELETE", route[1], route[0]))


async def ask(shop: Shop, world: World, route: tuple[str, str], key: str, **options: Any) -> Answer:
    """As far as an answer goes within a moment: a stream has no end."""
    method, path = route
    body = world.bodies.get(f"{method} {path}")
    headers = {**HEADERS, "Authorization": f"Bearer {key}", "Idempotency-Key": new_name("k-")}
    sent = {} if method == "GET" else {"json": body if body is not None else {}}
    target = world.path(path, options.get("ids"))
    async with shop.api.client.request(method, target, headers=headers, **sent) as response:
        text = bytearray()
        try:
            async with asyncio.timeout(0.5 if path.endswith(("/stream", "/events")) else 10):
                async for chunk in response.content.iter_any():
                    text += chunk
        except TimeoutError:
            pass
        return Answer(response.status, response.headers, response.content_type, text.decode())


async def all_of_ours(shop: Shop) -> dict[str, list[Any]]:
    """Every row of our tenant, of every table that has one."""
    tables = await shop.database.fetch(
        "select table_name from information_schema.columns join information_schema.tables using (table_name)"
        " where column_name = 'tenant' and table_type = 'BASE TABLE' order by 1"
    )
    found = {}
    for (table,) in tables:
        found[table] = await shop.database.fetch(
            f"select to_jsonb(t)::text from {table} t where tenant = $1 order by 1", TENANT
        )
    assert len(found) > 8
    return found


async def their_keys(shop: Shop, world: World) -> dict[str, str]:
    """Of another tenant, with the same names as ours."""
    subjects = {
        "customer": "own-1",
        "provider": world.ids["provider_id"],
        "admin": "admin",
        "service": "storefront",
    }
    for role, subject in subjects.items():
        await store_key(shop.database, f"pk_their_{role}", "t2", subject, role)
    return {role: f"pk_their_{role}" for role in ROLES}


async def test_another_tenant_finds_nothing_of_ours(shop: Shop, ours: World) -> None:
    theirs = await their_keys(shop, ours)
    before = await all_of_ours(shop)
    # Theirs may have the names that ours have; the routes of one thing come first, while they have made nothing.
    names = {ours.ids["customer_id"], ours.ids["provider_id"]}
    secrets = {MARK, "zq7@example.org", *ours.ids.values()} - names
    for route in sorted(guarded(shop), key=lambda route: "{" not in route[1]):
        for role, key in theirs.items():
            answer = await ask(shop, ours, route, key)
            said = answer.text
            what = f"{route} as {role}: {answer.status} {said[:300]}"
            if "{" in route[1]:
                assert answer.status in (403, 404), f"{what}; if it wants a body, give it one in `our_world`"
                # And nobody can tell that it exists: what does not exist is answered the same.
                nothing = await ask(shop, ours, route, key, ids=NOTHING)
                assert (nothing.status, nothing.text) == (answer.status, said), what
            else:
                assert answer.status < 500, what
                assert answer.status != 409, what
            assert not [secret for secret in secrets if secret in said], what
    assert await all_of_ours(shop) == before


async def test_what_they_cannot_do_we_can(shop: Shop, ours: World) -> None:
    """Otherwise the test above could pass because nothing works."""
    for route in guarded(shop):
        answers = {role: await ask(shop, ours, route, key) for role, key in OURS.items()}
        statuses = {role: answer.status for role, answer in answers.items()}
        assert any(status < 300 or status in (409, 422) for status in statuses.values()), (route, statuses)


async def test_no_route_answers_without_a_credential(shop: Shop, ours: World) -> None:
    for route in guarded(shop):
        for key in ("pk_nobody", "x", ""):
            answer = await ask(shop, ours, route, key)
            assert (answer.status, answer.kind) == (401, "unauthorized"), route
