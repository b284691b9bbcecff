"""A sale is listed, changed and removed, also while people buy: nobody who was accepted loses a unit by it."""

from __future__ import annotations

import asyncio
import random
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
    TENANT,
    Answer,
    api_process,
    new_name,
    on_offer,
    sale_request,
    unfinished,
    until,
)
from trade import Shop, line_at_work

from peakclip import topology
from peakclip.credentials import store_key
from peakclip.jetstream import JetStream
from peakclip.service import Service
from peakclip_api.hold import Hold
from peakclip_worker.reconciler import Reconciler

pytestmark = pytest.mark.integration


async def change(shop: Shop, sale_id: str, key: str = ADMIN_KEY, **changes: Any) -> Answer:
    return await shop.api.call("PATCH", f"/v1/sales/{sale_id}", key=key, json=changes)


async def remove(shop: Shop, sale_id: str, key: str = ADMIN_KEY) -> Answer:
    return await shop.api.call("DELETE", f"/v1/sales/{sale_id}", key=key)


async def at_rest(shop: Shop, js: JetStream) -> bool:
    """Everything that was accepted is a row, and everything that a row owes is published."""
    waiting = await unfinished(js, topology.INTAKE, "relay")
    waiting += await unfinished(js, topology.SECKILL, topology.ORDERS_POOL)
    return not waiting and not await shop.database.fetchval("select count(*) from outbox")


async def row(shop: Shop) -> dict[str, Any]:
    return dict(await shop.database.fetchrow("select initial, available, reserved, sold from sales"))


# -- fields ------------------------------------------------------------------------------------------------


async def test_a_sale_is_changed_field_by_field(shop: Shop) -> None:
    sale_id = await shop.api.sale(stock=10)
    before = (await shop.api.call("GET", f"/v1/sales/{sale_id}")).body
    assert (await change(shop, sale_id)).body == before
    for name, value in {
        "product": "Another", "per_customer_limit": 1000, "pay_within_seconds": 86_400, "stock": 7,
        "opens_at": "2026-01-01T00:00:00+00:00", "closes_at": "2030-01-01T00:00:00+00:00",
    }.items():  # fmt: skip
        answer = await change(shop, sale_id, **{name: value})
        expected = {**before, name: value, **({"available": 7} if name == "stock" else {})}
        assert (answer.status, answer.body) == (200, expected)
        before = expected
    assert (await shop.api.call("GET", f"/v1/sales/{sale_id}")).body == before
    for name, value in [
        ("price_cents", 1), ("product", None), ("product", ""), ("stock", -1), ("stock", None), ("stock", 10**9 + 1),
        ("per_customer_limit", 0), ("pay_within_seconds", 86_401), ("opens_at", "x"), ("available", 1), ("sold", 1),
        ("closes_at", "2026-01-01T00:00:00+00:00"), ("opens_at", "2031-01-01T00:00:00+00:00"),
        ("opens_at", "1999-01-01T00:00:00+00:00"), ("closes_at", "9001-01-01T00:00:00+00:00"),
    ]:  # fmt: skip
        refused = await change(shop, sale_id, **{name: value})
        assert (refused.status, refused.kind) == (422, "invalid-request"), name
    assert (await shop.api.call("GET", f"/v1/sales/{sale_id}")).body == before


async def test_a_window_may_have_any_offset(shop: Shop) -> None:
    """PostgreSQL itself reads none beyond 15:59 hours."""
    sale_id = await shop.api.sale()
    window = {"opens_at": "2026-01-01T23:59:00+23:59", "closes_at": "2035-12-31T00:01:00-23:59"}
    answer = await change(shop, sale_id, **window)
    assert answer.status == 200, answer
    assert answer.body["opens_at"] == "2026-01-01T00:00:00+00:00"
    assert answer.body["closes_at"] == "2036-01-01T00:00:00+00:00"


async def test_two_changes_at_once_that_do_not_fit_together_are_not_both_made(shop: Shop) -> None:
    """Each alone is right."""
    now = datetime.now(UTC)
    for number in range(10):
        sale_id = await shop.api.sale()
        late, early = now + timedelta(hours=3), now + timedelta(hours=2)
        answers = await asyncio.gather(
            change(
                shop, sale_id, opens_at=late.isoformat(), closes_at=(late + timedelta(hours=1)).isoformat()
            ),
            change(shop, sale_id, closes_at=early.isoformat(), stock=number),
        )
        assert {answer.status for answer in answers} <= {200, 422}
        assert await shop.database.fetchval("select bool_and(closes_at > opens_at) from sales")
        assert (await shop.api.call("GET", f"/v1/sales/{sale_id}")).status == 200


async def test_who_may_change_and_remove(shop: Shop) -> None:
    sale_id = await shop.api.sale()
    await store_key(shop.database, "pk_admin_2", "t2", "admin", "admin")
    for who, kind in (
        (SERVICE_KEY, "forbidden"), (CUSTOMER_KEY, "forbidden"), (PROVIDER_KEY, "forbidden"),
        ("pk_admin_2", "sale-not-found"), ("pk_nobody", "unauthorized"),
    ):  # fmt: skip
        assert (await change(shop, sale_id, who, product="X")).kind == kind
        assert (await remove(shop, sale_id, who)).kind == kind
    for nothing in ("nothing", "a.b", "%00"):
        assert (await change(shop, nothing, product="X")).kind == "sale-not-found"
        assert (await remove(shop, nothing)).kind == "sale-not-found"


async def test_sales_are_listed_newest_first(shop: Shop) -> None:
    await shop.database.execute(
        "insert into sales (sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at,"
        " per_customer_limit, pay_within_seconds, fingerprint, created_at)"
        f" select md5(n::text), '{TENANT}', 'p', 1, n, n, now(), now() + interval '1 hour', 1, 60, 'f',"
        " timestamptz '2026-01-01Z' + make_interval(secs => n % 7) from generate_series(1, 250) n"
    )
    rows = await shop.database.fetch(
        'select sale_id from sales order by created_at desc, sale_id collate "C" desc'
    )
    for limit, who in ((100, CUSTOMER_KEY), (7, PROVIDER_KEY)):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"/v1/sales?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            page = await shop.api.call("GET", path, key=who)
            found += [item["sale_id"] for item in page.body["items"]]
            cursor = page.body["next_cursor"]
        assert found == [row["sale_id"] for row in rows]
    one = page.body["items"][0]
    assert one == (await shop.api.call("GET", f"/v1/sales/{one['sale_id']}")).body
    assert (await shop.api.call("GET", "/v1/sales", key=FOREIGN_KEY)).body["items"] == []
    assert (await shop.api.call("GET", "/v1/sales?limit=0")).kind == "invalid-request"


async def test_another_process_sees_a_changed_window_within_two_seconds(
    shop: Shop, nats_url: str, fresh_database_url: str
) -> None:
    """Also one that nobody has asked for this sale in the meantime."""
    sale_id = await shop.api.sale(stock=5, closes=3600)
    async with api_process(nats_url, fresh_database_url) as other:
        assert (await other.order(sale_id)).status == 202
        await change(shop, sale_id, closes_at=datetime.now(UTC).isoformat())
        assert (await shop.api.order(sale_id)).kind == "sale-closed"  # here at once
        await asyncio.sleep(2.0)
        assert (await other.order(sale_id)).kind == "sale-closed"


# -- stock -------------------------------------------------------------------------------------------------


async def test_stock_moves_the_row_and_what_is_on_offer(shop: Shop, js: JetStream) -> None:
    sale_id = await shop.api.sale(stock=10)
    for stock in (15, 4, 0, 0, 3):
        answer = await change(shop, sale_id, stock=stock)
        assert (answer.status, answer.body["stock"], answer.body["available"]) == (200, stock, stock)
        assert await on_offer(js, sale_id) == stock
    # The outbox says the same again, and it counts once.
    rows = await shop.database.fetch("select message_id, increment from outbox order by id")
    assert [row["increment"] for row in rows] == [10, 5, -11, -4, 3]
    assert len({row["message_id"] for row in rows}) == 5
    async with line_at_work(js, shop.database):
        await until(lambda: at_rest(shop, js))
    assert await on_offer(js, sale_id) == 3
    answers = [(await shop.api.order(sale_id)).status for _ in range(4)]
    assert answers == [202, 202, 202, 409]


async def test_stock_never_falls_below_what_is_promised(shop: Shop, js: JetStream) -> None:
    """Neither below what the database has given to orders, nor below what those in line were promised."""
    sale_id = await shop.api.sale(stock=10)
    for _ in range(4):
        assert (await shop.api.order(sale_id)).status == 202
    refused = await change(shop, sale_id, stock=3, product="Not this either")
    assert (refused.status, refused.kind) == (409, "stock-below-taken")
    assert await on_offer(js, sale_id) == 6
    assert (await shop.api.call("GET", f"/v1/sales/{sale_id}")).body["product"] == "A product"
    async with line_at_work(js, shop.database):
        await until(lambda: at_rest(shop, js))
        assert (await change(shop, sale_id, stock=3)).kind == "stock-below-taken"
        assert (await change(shop, sale_id, stock=4)).status == 200
        await until(lambda: at_rest(shop, js))
    assert await row(shop) == {"initial": 4, "available": 0, "reserved": 4, "sold": 0}
    assert await on_offer(js, sale_id) == 0
    # The database decides, even if the counter offers what there is not.
    await js.increment(topology.stock_subject(sale_id), 100, message_id="by-mistake")
    assert (await change(shop, sale_id, stock=3)).kind == "stock-below-taken"


async def test_a_repeated_creation_offers_nothing_again(shop: Shop, js: JetStream) -> None:
    """After any time: not even once JetStream has forgotten the first."""
    body, headers = sale_request(10), {"Idempotency-Key": "k1"}
    first = await shop.api.call("POST", "/v1/sales", key=ADMIN_KEY, json=body, headers=headers)
    await change(shop, first.body["sale_id"], stock=12)
    stream = (await js._api(f"STREAM.INFO.{topology.STOCK}"))["config"]
    forgetful = msgspec.json.encode({**stream, "duplicate_window": 100_000_000})
    await js._api(f"STREAM.UPDATE.{topology.STOCK}", forgetful)
    await asyncio.sleep(0.5)
    again = await shop.api.call("POST", "/v1/sales", key=ADMIN_KEY, json=body, headers=headers)
    assert (again.status, again.body) == (201, {**first.body, "stock": 12, "available": 12})
    assert await on_offer(js, first.body["sale_id"]) == 12


async def test_stock_changes_while_people_buy(shop: Shop, js: JetStream) -> None:
    """Up and down, several admins at once, over two customers' worth of sold out: at the end every unit is somewhere
    once, and nobody who was accepted was rejected."""
    rng = random.Random(4)
    sale_id = await shop.api.sale(stock=60)
    over = asyncio.Event()
    answers: Counter[int] = Counter()
    changes: Counter[int] = Counter()

    async def buyer() -> None:
        while not over.is_set():
            answers[(await shop.api.order(sale_id, new_name("b"))).status] += 1
            await asyncio.sleep(0)

    async def admin(times: int) -> None:
        for _ in range(times):
            changes[(await change(shop, sale_id, stock=rng.randint(0, 400))).status] += 1
            await asyncio.sleep(rng.random() / 50)

    async with line_at_work(js, shop.database, rate=2_000):
        buyers = [asyncio.create_task(buyer()) for _ in range(8)]
        await asyncio.gather(*(admin(25) for _ in range(3)))
        over.set()
        await asyncio.gather(*buyers)
        await until(lambda: at_rest(shop, js), 60)
    assert answers.keys() == {202, 409}
    assert changes.keys() == {200, 409}
    statuses = await shop.database.fetch("select status, count(*) from orders group by status")
    assert dict(statuses) == {"pending_payment": answers[202]}
    found = await row(shop)
    assert found["reserved"] == answers[202]
    assert found["initial"] == found["available"] + found["reserved"]
    assert await on_offer(js, sale_id) == found["available"]


async def test_what_a_process_held_when_it_died_comes_back(js: JetStream) -> None:
    """A hold is a reservation of a frame that never comes, so the reconciler settles it."""
    await js.increment(topology.stock_subject("s1"), 10, message_id="init-s1")
    assert await Hold(js, "s1", 4).take()
    refused = Hold(js, "s1", 7)
    assert not await refused.take()
    assert await on_offer(js) == 6
    released = Hold(js, "s1", 2)
    await released.take()
    await released.release()
    await released.release()  # once is enough
    assert await on_offer(js) == 6
    service = Service()
    running = asyncio.create_task(Reconciler(js, grace_seconds=0.2).run(service))
    await until(lambda: _is(js, 10))
    await asyncio.sleep(0.5)
    service.stopping.set()
    await running
    assert await on_offer(js) == 10


async def _is(js: JetStream, units: int) -> bool:
    return await on_offer(js) == units


async def test_without_nats_stock_stays_and_the_rest_changes(
    shop: Shop, js: JetStream, nats_server: Any
) -> None:
    sale_id = await shop.api.sale(stock=10)
    await nats_server.kill()
    try:
        refused = await change(shop, sale_id, stock=5)
        assert (refused.status, refused.kind) == (503, "queue-unavailable")
        assert (await change(shop, sale_id, product="Another")).status == 200
        more = await change(shop, sale_id, stock=12)  # more goes by the outbox
        assert (more.status, more.body["stock"]) == (200, 12)
    finally:
        await nats_server.start()
    await until(lambda: js.connected)
    async with line_at_work(js, shop.database):
        await until(lambda: at_rest(shop, js))
    assert await row(shop) == {"initial": 12, "available": 12, "reserved": 0, "sold": 0}
    assert await on_offer(js, sale_id) == 12


# -- removal -----------------------------------------------------------------------------------------------


async def test_a_sale_without_orders_is_removed_with_its_units(shop: Shop, js: JetStream) -> None:
    sale_id = await shop.api.sale(stock=10)
    answers = await asyncio.gather(*(remove(shop, sale_id) for _ in range(10)))
    assert sum(answer.status == 204 for answer in answers) == 1
    assert {answer.kind for answer in answers if answer.status != 204} <= {
        "sale-not-found",
        "sale-has-orders",
    }
    assert await on_offer(js, sale_id) == 0
    assert (await shop.api.order(sale_id)).kind == "sale-not-found"
    assert (await shop.api.call("GET", f"/v1/sales/{sale_id}")).kind == "sale-not-found"
    assert (await shop.api.call("GET", "/v1/sales")).body["items"] == []
    assert (await change(shop, sale_id, product="X")).kind == "sale-not-found"
    assert (await remove(shop, sale_id)).kind == "sale-not-found"
    async with line_at_work(js, shop.database):
        await until(lambda: at_rest(shop, js))
    assert await on_offer(js, sale_id) == 0
    assert await row(shop) == {"initial": 0, "available": 0, "reserved": 0, "sold": 0}


async def test_the_key_of_a_removed_sale_stays_used(shop: Shop) -> None:
    body, headers = sale_request(10), {"Idempotency-Key": "k1"}
    made = await shop.api.call("POST", "/v1/sales", key=ADMIN_KEY, json=body, headers=headers)
    await remove(shop, made.body["sale_id"])
    again = await shop.api.call("POST", "/v1/sales", key=ADMIN_KEY, json=body, headers=headers)
    assert (again.status, again.kind) == (422, "idempotency-key-reused")


async def test_a_sale_with_orders_stays(shop: Shop, js: JetStream) -> None:
    """While they wait in line, once they are rows, and when the last of them is cancelled."""
    sale_id = await shop.api.sale(stock=10)
    order_id = (await shop.api.order(sale_id)).body["order_id"]
    assert ((answer := await remove(shop, sale_id)).status, answer.kind) == (409, "sale-has-orders")
    async with line_at_work(js, shop.database):
        await until(lambda: at_rest(shop, js))
        assert (await remove(shop, sale_id)).kind == "sale-has-orders"
        await shop.act(order_id, "cancel")
        await until(lambda: at_rest(shop, js))
        assert (await remove(shop, sale_id)).kind == "sale-has-orders"
    assert await on_offer(js, sale_id) == 10
    assert await row(shop) == {"initial": 10, "available": 10, "reserved": 0, "sold": 0}


async def test_removal_and_purchase_at_once(shop: Shop, js: JetStream) -> None:
    """Either there are orders and the sale stays, or it is gone and nobody was accepted."""
    ends: Counter[str] = Counter()
    for number in range(12):
        sale_id = await shop.api.sale(stock=5)
        buying = [asyncio.create_task(shop.api.order(sale_id)) for _ in range(3)]
        await asyncio.sleep(0.001 * (number % 4))
        removed = await remove(shop, sale_id)
        accepted = [answer.status for answer in await asyncio.gather(*buying)].count(202)
        assert (removed.status == 204) == (accepted == 0), (removed, accepted)
        ends["removed" if accepted == 0 else "kept"] += 1
    async with line_at_work(js, shop.database):
        await until(lambda: at_rest(shop, js))
    assert await shop.database.fetchval("select count(*) from orders where status = 'rejected'") == 0
    for sale in await shop.database.fetch("select sale_id, available from sales"):
        assert await on_offer(js, sale["sale_id"]) == sale["available"]
