"""Ordinary orders over HTTP: at once and through the line, read and listed."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    PROVIDER_KEY,
    SERVICE_KEY,
    TENANT,
    Answer,
    Api,
    api_process,
    insert_sale,
    until,
)
from trade import PLACE, Shop, insert_orders, line_at_work

from peakclip import messages, topology
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.messages import decode_frame
from peakclip.store import query
from peakclip_api import keys

pytestmark = pytest.mark.integration

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASYNC = {"Prefer": "respond-async"}


async def place(shop: Shop, body: dict[str, Any], customer: str = "ann", **options: Any) -> Answer:
    return await shop.post("/v1/orders", body, key=SERVICE_KEY, customer=customer, **options)


async def framed(js: JetStream) -> list[messages.Order]:
    """What INTAKE holds."""
    state = await js.stream_state(topology.INTAKE)
    found = []
    for seq in range(state.first_seq, state.last_seq + 1):
        frame = await js.message_from(topology.INTAKE, seq)
        found += decode_frame(frame.payload)
    return found


# -- at once -----------------------------------------------------------------------------------------------


async def test_an_order_is_a_row_and_an_event(shop: Shop) -> None:
    body = await shop.booking(address="Main Street 1", note="ring twice", latitude=1.5, longitude=2.5)
    answer = await place(shop, body, traceparent=TRACE, idempotency="k1")
    order_id = messages.order_id(TENANT, "k1")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v1/orders/{order_id}")
    assert answer.body == {
        **body,
        "order_id": order_id,
        "customer_id": "ann",
        "quantity": 1,
        "status": "created",
        "version": 1,
        "amount_cents": 4_900,
        "accepted_at": answer.body["accepted_at"],
        "committed_at": answer.body["committed_at"],
    }
    assert (await shop.api.call("GET", answer.headers["Location"])).body == answer.body
    (event,) = await shop.database.fetch("select * from outbox")
    assert (event["message_id"], event["subject"]) == (f"{order_id}:1", "order.created")
    assert msgspec.json.decode(event["headers"]) == {"traceparent": TRACE}
    told = msgspec.json.decode(event["payload"])
    assert (told["order_id"], told["pet_id"], told["latitude"]) == (order_id, body["pet_id"], 1.5)


async def test_a_malformed_trace_context_is_ignored(shop: Shop) -> None:
    body = await shop.booking()
    for header in ("x", TRACE.upper(), "00-" + "0" * 32 + "-b7ad6b7169203331-01", TRACE + "-x"):
        assert (await place(shop, body, traceparent=header)).status == 201
    assert await shop.database.fetchval("select count(*) from outbox where headers <> '{}'") == 0


async def test_without_a_place_the_service_is_where_the_customer_lives(shop: Shop) -> None:
    await shop.create(
        "/v1/customers", {"name": "Ann", "customer_id": "ann", "latitude": 1.0, "longitude": 2.0}
    )
    for changes, where in (
        ({}, (1.0, 2.0)),
        ({"latitude": 3.0, "longitude": 4.0}, (3.0, 4.0)),
        ({"latitude": 0, "longitude": 0}, (0.0, 0.0)),
    ):
        answer = await place(shop, await shop.booking(**changes))
        assert (answer.body["latitude"], answer.body["longitude"]) == where
    await shop.api.call("DELETE", "/v1/customers/ann", key=ADMIN_KEY)
    assert "latitude" not in (await place(shop, await shop.booking())).body


async def test_what_cannot_be_ordered_is_named(shop: Shop) -> None:
    """The same at once and through the line, and nothing is written."""
    body = await shop.booking()
    gone = await shop.pet("ann")
    await shop.api.call("DELETE", f"/v1/pets/{gone}", headers={"Peakclip-Customer": "ann"})
    for headers in ({}, ASYNC):
        for changes, wrong in [
            ({"pet_id": "nothing"}, "pet_id"),
            ({"pet_id": gone}, "pet_id"),
            ({"pet_id": await shop.pet("bob")}, "pet_id"),
            ({"service_package_id": "nothing"}, "service_package_id"),
            ({"service_package_id": await shop.package(active=False)}, "service_package_id"),
            ({"pet_id": "a b"}, "pet_id"),
            ({"service_date": "tomorrow"}, "service_date"),
            ({"service_date": "2026-12-24T10:00:00"}, "service_date"),
            ({"service_date": "0001-01-01T00:00:00+14:00"}, "service_date"),
            ({"latitude": 1.0}, "latitude"),
            ({"latitude": 91, "longitude": 1}, "latitude"),
            ({"address": "x" * 501}, "address"),
            ({"note": "a\0b"}, "note"),
            ({"customer_id": "bob"}, ""),
        ]:
            refused = await place(shop, {**body, **changes}, **headers)
            assert (refused.status, refused.kind) == (422, "invalid-request"), changes
            assert refused.body["errors"][0]["field"] == wrong, changes
    assert await shop.database.fetchval("select count(*) from orders") == 0
    assert await shop.database.fetchval("select count(*) from outbox") == 0


async def test_who_may_order(shop: Shop) -> None:
    body = await shop.booking("own-1")
    headers = {"Idempotency-Key": "k1"}

    async def call(key: str | None, **more: str) -> Answer:
        return await shop.api.call("POST", "/v1/orders", key=key, json=body, headers={**headers, **more})

    assert (await call(None)).status == 401
    assert (await call(ADMIN_KEY)).kind == "forbidden"
    assert (await call(PROVIDER_KEY)).kind == "forbidden"
    assert (await call(SERVICE_KEY)).kind == "customer-required"
    assert (await call(SERVICE_KEY, **{"Peakclip-Customer": "a\tb"})).kind == "customer-required"
    assert (await call(FOREIGN_KEY, **{"Peakclip-Customer": "own-1"})).kind == "invalid-request"
    headers = {}
    assert (await call(CUSTOMER_KEY)).kind == "idempotency-key-required"
    headers = {"Idempotency-Key": "k1", "Peakclip-Customer": "somebody"}
    assert (await call(CUSTOMER_KEY)).body["customer_id"] == "own-1"


async def test_the_same_key_is_the_same_order(shop: Shop) -> None:
    body = await shop.booking()
    answers = await asyncio.gather(*(place(shop, body, idempotency="k1") for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert await shop.database.fetchval("select count(*) from orders") == 1
    assert await shop.database.fetchval("select count(*) from outbox") == 1
    for other in (
        place(shop, {**body, "note": "another"}, idempotency="k1"),
        place(shop, body, customer="bob", idempotency="k1"),
        place(shop, {**body, "service_date": "2026-12-25T10:00:00Z"}, idempotency="k1"),
    ):
        refused = await other
        # Bob has no such pet, but the key was used before that is looked at.
        assert (refused.status, refused.kind) == (422, "idempotency-key-reused")
    await shop.act(answers[0].body["order_id"], "cancel")
    await shop.api.call("DELETE", f"/v1/pets/{body['pet_id']}", headers={"Peakclip-Customer": "ann"})
    again = await place(shop, body, idempotency="k1")
    assert (again.status, again.body["status"]) == (201, "cancelled")  # as it is by now


async def test_an_order_at_once_needs_no_nats(shop: Shop, nats_server: Any) -> None:
    body = await shop.booking()
    await nats_server.kill()
    try:
        assert (await place(shop, body)).status == 201
        assert (await place(shop, body, **ASYNC)).kind == "queue-unavailable"
    finally:
        await nats_server.start()
    await until(lambda: shop.api.app[keys.JS].connected)


# -- through the line --------------------------------------------------------------------------------------


async def test_an_order_through_the_line_is_queued_and_then_created(shop: Shop, js: JetStream) -> None:
    body = await shop.booking(note="ring twice", latitude=1.5, longitude=2.5)
    answer = await place(shop, body, idempotency="k1", traceparent=TRACE, **ASYNC)
    order_id = messages.order_id(TENANT, "k1")
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"] == f"/v1/orders/{order_id}"
    assert answer.body == {"order_id": order_id, "status": "queued", "position": 1, "eta_seconds": None}
    assert await shop.database.fetchval("select count(*) from orders") == 0
    (order,) = await framed(js)
    assert (order.order_id, order.sale_id, order.traceparent) == (order_id, "", TRACE)
    assert msgspec.to_builtins(order.booking) == body

    path = answer.headers["Location"]
    assert (await shop.api.call("GET", path)).body == {
        "order_id": order_id, "customer_id": "ann", "quantity": 1, "status": "queued", "position": 1,
        "eta_seconds": None,
    }  # fmt: skip
    assert (await shop.api.call("GET", path, key=PROVIDER_KEY)).kind == "order-not-found"
    async with line_at_work(js, shop.database):
        await until(lambda: shop.database.fetchval("select count(*) from orders"))
    created = (await shop.api.call("GET", path)).body
    assert created["status"] == "created"
    assert created["started_at"] > created["accepted_at"]
    assert {name: created[name] for name in body} == body
    assert (await shop.act(order_id, "pay")).body["status"] == "paid"


async def test_an_order_whose_pet_goes_while_it_waits_is_rejected(shop: Shop, js: JetStream) -> None:
    body = await shop.booking()
    answer = await place(shop, body, **ASYNC)
    await shop.api.call("DELETE", f"/v1/pets/{body['pet_id']}", headers={"Peakclip-Customer": "ann"})
    async with line_at_work(js, shop.database):
        await until(lambda: shop.database.fetchval("select count(*) from orders"))
    seen = (await shop.api.call("GET", answer.headers["Location"])).body
    assert (seen["status"], seen["reason"]) == ("rejected", "unknown-pet")
    lost = await shop.act(answer.body["order_id"], "pay")
    assert (lost.status, lost.body["refunded"]) == (409, True)


async def test_a_repeat_in_line_is_recognised_either_way(shop: Shop, js: JetStream) -> None:
    body = await shop.booking()
    answers = await asyncio.gather(*(place(shop, body, idempotency="k1", **ASYNC) for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    at_once = await place(shop, body, idempotency="k1")
    assert (at_once.status, at_once.body) == (202, answers[0].body)
    for headers in ({}, ASYNC):
        other = await place(shop, {**body, "note": "x"}, idempotency="k1", **headers)
        assert (other.status, other.kind) == (422, "idempotency-key-reused")
    # What is in line stays accepted, whatever becomes of the pet.
    await shop.api.call("DELETE", f"/v1/pets/{body['pet_id']}", headers={"Peakclip-Customer": "ann"})
    await asyncio.sleep(0.6)  # 'there is such a pet' is believed no longer
    assert (await place(shop, body, idempotency="k1", **ASYNC)).body == answers[0].body
    assert len(await framed(js)) == 1


async def test_at_once_and_through_the_line_at_the_same_time_is_one_order(shop: Shop, js: JetStream) -> None:
    body = await shop.booking()
    answers = await asyncio.gather(
        *(place(shop, body, idempotency="k1", **(ASYNC if number % 2 else {})) for number in range(20))
    )
    assert {answer.status for answer in answers} <= {201, 202}
    assert {answer.body["order_id"] for answer in answers} == {messages.order_id(TENANT, "k1")}
    async with line_at_work(js, shop.database):
        await until(lambda: _finished(js))
    assert await shop.database.fetchval("select count(*) from orders") == 1
    assert await shop.database.fetchval("select count(*) from dead_letters") == 0


async def _finished(js: JetStream) -> bool:
    relay_state = await js.consumer_state(topology.INTAKE, "relay")
    orders = await js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
    return not (relay_state.pending + relay_state.ack_pending + orders.pending + orders.ack_pending)


async def test_who_was_accepted_elsewhere_is_not_refused(
    shop: Shop, nats_url: str, fresh_database_url: str
) -> None:
    """By another process a moment ago; or so long ago that no process remembers."""
    body = await shop.booking()
    async with api_process(nats_url, fresh_database_url) as other:
        elsewhere = Shop(other, shop.database)
        first = await place(elsewhere, body, idempotency="k1", **ASYNC)
        await shop.database.execute("update pets set deleted_at = now()")
        here = await place(shop, body, idempotency="k1", **ASYNC)
        assert (here.status, here.body["order_id"]) == (202, first.body["order_id"])
    await shop.database.execute("update pets set deleted_at = null")
    assert (await place(shop, body, idempotency="k2")).status == 201
    await shop.database.execute("update pets set deleted_at = now()")
    await asyncio.sleep(2.1)
    known = await place(shop, body, idempotency="k2", **ASYNC)
    assert (known.status, known.body["status"]) == (201, "created")
    assert (await place(shop, body, idempotency="k3", **ASYNC)).kind == "invalid-request"


async def test_a_place_may_be_as_close_to_the_equator_as_a_number_can_say(shop: Shop) -> None:
    """PostgreSQL's radians() fails on the smallest numbers that there are."""
    provider_id, _ = await shop.provider((5e-324, -5e-324))
    found = (await shop.api.call("GET", f"/v1/providers/{provider_id}")).body
    assert (found["latitude"], found["longitude"]) == (0, 0)
    answer = await place(shop, await shop.booking(latitude=1.2345678901234, longitude=5e-324))
    assert (answer.status, answer.body["latitude"], answer.body["longitude"]) == (201, 1.23456789, 0)


@pytest.mark.parametrize("headers", [{}, ASYNC])
async def test_a_moment_may_come_with_any_offset(shop: Shop, js: JetStream, headers: dict[str, str]) -> None:
    """PostgreSQL itself reads none beyond 15:59 hours, and one such order must not take its batch along."""
    body = await shop.booking(service_date="2026-12-25T08:09:00+22:09")
    await set_pace(js, topology.ORDERS_POOL, limit_per_second=1_000)
    async with line_at_work(js, shop.database):
        placed = await place(shop, body, **headers)
        assert placed.status == (202 if headers else 201)

        async def stored() -> bool:
            found = await shop.api.call("GET", placed.headers["Location"])
            return found.body.get("service_date") == "2026-12-24T10:00:00Z"

        await until(stored)


async def test_what_the_client_prefers(shop: Shop) -> None:
    body = await shop.booking()
    for prefer, status in [
        ("respond-async", 202), ("Respond-Async", 202), ("respond-async, wait=10", 202),
        ("wait=10, respond-async; x=1", 202), ("return=minimal", 201), ("respond-asynchronously", 201), ("", 201),
    ]:  # fmt: skip
        answer = await place(shop, body, Prefer=prefer)
        assert answer.status == status, prefer
        assert ("Preference-Applied" in answer.headers) == (status == 202)


# -- reading and lists -------------------------------------------------------------------------------------


async def listed(api: Api, query_: str = "", key: str = ADMIN_KEY, customer: str | None = None) -> list[str]:
    """All pages."""
    headers = {} if customer is None else {"Peakclip-Customer": customer}
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await api.call(
            "GET", f"/v1/orders?{query_}" + (f"&cursor={cursor}" if cursor else ""), key=key, headers=headers
        )
        assert answer.status == 200, answer
        found += [item["order_id"] for item in answer.body["items"]]
        cursor = answer.body["next_cursor"]
    return found


async def test_a_cursor_leads_through_every_order_once(shop: Shop) -> None:
    anns = await insert_orders(shop.database, 250)
    await insert_orders(shop.database, 20, customer="bob", status="completed")
    for limit in (100, 7):
        assert await listed(shop.api, f"limit={limit}", SERVICE_KEY, "ann") == anns
    everybodys = await listed(shop.api, "limit=100")
    assert len(everybodys) == len(set(everybodys)) == 270
    assert [order for order in everybodys if order in set(anns)] == anns
    assert await listed(shop.api, "limit=100", SERVICE_KEY) == everybodys


async def test_lists_of_orders_by_role_and_status(shop: Shop) -> None:
    anns = await shop.order("ann")
    own = await shop.order("own-1")
    await shop.act(own, "cancel")
    assert await listed(shop.api) == [own, anns]
    assert await listed(shop.api, "status=created") == [anns]
    assert await listed(shop.api, "status=cancelled") == [own]
    assert await listed(shop.api, "status=paid") == []
    assert await listed(shop.api, "", SERVICE_KEY, "own-1") == [own]
    assert await listed(shop.api, "", CUSTOMER_KEY) == [own]
    assert await listed(shop.api, "", CUSTOMER_KEY, "ann") == [own]
    assert await listed(shop.api, "status=created", CUSTOMER_KEY) == []
    assert await listed(shop.api, "", FOREIGN_KEY) == []
    assert (await shop.api.call("GET", "/v1/orders", key=None)).status == 401
    for wrong in ("status=queued", "status=", "limit=0", "cursor=MXxh"):
        refused = await shop.api.call("GET", f"/v1/orders?{wrong}")
        assert (refused.status, refused.body["errors"][0]["field"]) == (422, wrong.partition("=")[0])
    empty = await shop.api.call("GET", "/v1/orders", headers={"Peakclip-Customer": ""})
    assert empty.kind == "customer-required"


async def test_a_provider_sees_what_it_has_and_what_it_could_accept(shop: Shop) -> None:
    me, key = await shop.provider(PLACE, radius_m=5_000)
    _, far_key = await shop.provider((48.137, 11.575))
    _, inactive_key = await shop.provider(PLACE, active=False)
    near = await shop.order(latitude=PLACE[0] + 0.04, longitude=PLACE[1])  # 4.4 km
    in_the_box_only = await shop.order(latitude=PLACE[0] + 0.04, longitude=PLACE[1] + 0.06)  # 6.0 km
    nowhere = await shop.order()
    paid = await shop.order(latitude=PLACE[0], longitude=PLACE[1])
    await shop.act(paid, "pay")
    mine = await shop.order(latitude=0.0, longitude=0.0)
    await shop.act(mine, "accept", json={"provider_id": me})
    await insert_sale(shop.database)
    (unpaid,) = await insert_orders(shop.database, 1, sale_id="s1", status="pending_payment")
    (sale_paid,) = await insert_orders(shop.database, 1, sale_id="s1", status="paid")
    await insert_orders(shop.database, 1, status="cancelled")

    assert set(await listed(shop.api, "", key)) == {near, nowhere, paid, mine, sale_paid}
    assert set(await listed(shop.api, "limit=2", key)) == {near, nowhere, paid, mine, sale_paid}
    assert set(await listed(shop.api, "status=created", key)) == {near, nowhere}
    assert set(await listed(shop.api, "status=paid", key)) == {paid, sale_paid}
    assert await listed(shop.api, "status=accepted", key) == [mine]
    assert set(await listed(shop.api, "", far_key)) == {nowhere, sale_paid}
    assert await listed(shop.api, "", inactive_key) == []
    assert await listed(shop.api, "", PROVIDER_KEY) == []  # it has a key, and no record

    # One of them: its own and every open one, wherever that is.
    for order_id, seen in ((near, 200), (in_the_box_only, 200), (mine, 404), (unpaid, 404), (sale_paid, 200)):
        assert (await shop.api.call("GET", f"/v1/orders/{order_id}", key=far_key)).status == seen
    assert (await shop.api.call("GET", f"/v1/orders/{mine}", key=key)).body["provider_id"] == me
    for nobody in (inactive_key, PROVIDER_KEY):  # they could accept none
        for path in (f"/v1/orders/{near}", f"/v1/orders/{near}/events"):
            assert (await shop.api.call("GET", path, key=nobody)).kind == "order-not-found"


async def test_pages_of_a_providers_list_are_in_order_across_its_parts(shop: Shop) -> None:
    me, key = await shop.provider(PLACE)
    expected = [
        *await insert_orders(shop.database, 40, latitude=PLACE[0], longitude=PLACE[1]),
        *await insert_orders(shop.database, 40),
        *await insert_orders(shop.database, 40, provider_id=me, status="accepted"),
    ]
    found = await listed(shop.api, "limit=7", key)
    assert len(found) == 120
    assert set(found) == set(expected)
    rows = await shop.database.fetch("select order_id from orders order by committed_at desc, order_id desc")
    assert found == [str(row[0]) for row in rows]


async def test_lists_of_orders_use_an_index(shop: Shop) -> None:
    """Among 40,000 orders, half of them open and all over the globe."""
    me, _ = await shop.provider(PLACE)
    await shop.database.execute(
        "insert into orders (order_id, tenant, customer_id, status, fingerprint, accepted_at, latitude, longitude)"
        " select gen_random_uuid(), 't1', 'c' || n % 500, case n % 2 when 0 then 'created' else 'completed' end,"
        " 'f', now(), random() * 180 - 90, random() * 360 - 180 from generate_series(1, 40000) n"
    )
    await shop.database.execute("analyze orders")
    first = (TENANT, datetime(9999, 1, 1, tzinfo=UTC), uuid.UUID(int=0), 51, None)

    async def plan(name: str, *more: str) -> str:
        rows = await shop.database.fetch("explain " + query(name), *first, *more)
        return "\n".join(row[0] for row in rows)

    assert "orders_by_tenant" in await plan("list_orders")
    assert "orders_by_customer" in await plan("list_customer_orders", "c1")
    mine = await plan("list_provider_orders", me)
    for index in ("orders_open_by_position", "orders_open", "orders_by_provider"):
        assert index in mine, mine
    assert "Seq Scan" not in mine, mine


async def test_an_order_that_cannot_be_is_not_found(shop: Shop) -> None:
    for name in ("nothing", str(uuid.uuid4()), "%00", "x" * 300):
        answer = await shop.api.call("GET", f"/v1/orders/{name}")
        assert (answer.status, answer.kind) == (404, "order-not-found")
