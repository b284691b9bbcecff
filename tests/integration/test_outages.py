"""The API while a server is away or full: a clear answer, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import (
    ADMIN_KEY,
    SERVICE_KEY,
    Answer,
    Api,
    api_process,
    insert_sale,
    new_name,
    on_offer,
    sale_request,
    store_keys,
    unfinished,
    until,
)

from peakclip import messages, store, topology
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.messages import decode_frame
from peakclip.service import Service
from peakclip_api.auth import FRESH_SECONDS, Keys
from peakclip_api.known import MISSING_SECONDS
from peakclip_api.problems import Problem
from peakclip_api.sales import Sales
from peakclip_worker.reconciler import Reconciler

pytestmark = pytest.mark.integration


@pytest.fixture
async def api(js: JetStream, database: Any, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as one:
        yield one


def check_retry_later(answer: Answer, kind: str) -> None:
    assert (answer.status, answer.kind) == (503, kind), answer.text
    assert answer.content_type == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1


async def stored_ids(js: JetStream) -> Counter[str]:
    found: Counter[str] = Counter()
    seq = 1
    while frame := await js.message_from(topology.INTAKE, seq):
        found.update(order.order_id for order in decode_frame(frame.payload))
        seq = frame.seq + 1
    return found


# -- NATS --------------------------------------------------------------------------------------------------


async def test_without_nats_orders_are_refused_for_now_and_known_ones_are_told(
    api: Api, js: JetStream, nats_server: NatsServer
) -> None:
    sale = await api.sale(stock=10)
    accepted = await api.order(sale, "c1", key="k1")
    await nats_server.kill()
    for _ in range(2):
        check_retry_later(await api.order(sale, "c2", key="k2"), "queue-unavailable")
    assert (await api.call("GET", accepted.headers["Location"])).body["status"] == "queued"
    again = await api.order(sale, "c1", key="k1")
    assert (again.status, again.body["order_id"]) == (202, accepted.body["order_id"])
    await until(lambda: "nats" in api.service.missing())
    await nats_server.start()
    await until(lambda: api.service.missing() == [])
    assert (await api.order(sale, "c2", key="k2")).status == 202
    assert await stored_ids(js) == {accepted.body["order_id"]: 1, messages.order_id("t1", "k2"): 1}


async def test_nats_killed_in_a_burst_loses_no_order_and_no_unit(
    api: Api, js: JetStream, nats_server: NatsServer
) -> None:
    """Clients that were told to retry do so with their key; then every order is there and every unit counted."""
    sale = await api.sale(stock=150)

    async def buy(number: int) -> Answer:
        async def told() -> Answer | None:
            answer = await api.order(sale, f"c{number}", key=f"k-{number}")
            return None if answer.status == 503 else answer

        answer: Answer = await until(told, 30, pause=0.1)
        return answer

    buying = [asyncio.create_task(buy(number)) for number in range(100)]
    await until(lambda: some_frame(js), pause=0.001)
    await nats_server.kill()
    more = [asyncio.create_task(buy(number)) for number in range(100, 200)]
    await nats_server.start()
    answers = await asyncio.gather(*buying, *more)
    accepted = {answer.body["order_id"] for answer in answers if answer.status == 202}
    assert set(await stored_ids(js)) >= accepted
    service = Service()
    reconciler = asyncio.create_task(Reconciler(js, grace_seconds=0.5).run(service))
    await until(lambda: settled(js))
    service.stopping.set()
    await reconciler
    # A frame may be stored whose clients were told otherwise: their repeats are the same orders, twice admitted.
    assert await on_offer(js, sale) == 150 - (await stored_ids(js)).total()
    assert {answer.kind for answer in answers if answer.status != 202} <= {"sold-out"}


async def some_frame(js: JetStream) -> bool:
    return (await js.stream_state(topology.INTAKE)).messages > 0


async def settled(js: JetStream) -> bool:
    return await unfinished(js, topology.STOCK, "reconciler") == 0


async def test_a_full_stream_refuses_gives_back_and_loses_nothing(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=1_000)
    first = await api.order(sale, "first")
    config = (await js.stream_state(topology.INTAKE)).config
    await js.ensure_stream({**config, "max_bytes": 6_000})
    answers = [await api.order(sale, key=f"k-{number}") for number in range(40)]
    accepted = {answer.body["order_id"] for answer in answers if answer.status == 202}
    assert 0 < len(accepted) < 40
    for answer in answers:
        if answer.status != 202:
            check_retry_later(answer, "queue-unavailable")
    assert set(await stored_ids(js)) == accepted | {first.body["order_id"]}
    await until(lambda: holds(js, sale, 999 - len(accepted)))
    await js.ensure_stream({**config, "max_bytes": topology.STREAMS[topology.INTAKE]["max_bytes"]})
    again = await asyncio.gather(*(api.order(sale, f"c{n}", key=f"new-{n}") for n in range(40)))
    assert {answer.status for answer in again} == {202}
    assert (await stored_ids(js)).total() == 41 + len(accepted)


async def holds(js: JetStream, sale: str, units: int) -> bool:
    return await on_offer(js, sale) == units


# -- PostgreSQL --------------------------------------------------------------------------------------------


async def test_without_postgresql_known_sales_go_on(
    api: Api, js: JetStream, postgres_server: PostgresServer
) -> None:
    sale = await api.sale(stock=10)
    before = await api.order(sale, "c1", key="k1")
    await postgres_server.kill()
    accepted = await api.order(sale, "c2", key="k2")
    again = await api.order(sale, "c1", key="k1")
    assert (accepted.status, again.status) == (202, 202)
    assert again.body["order_id"] == before.body["order_id"]
    for answer in (before, accepted):
        seen = await api.call("GET", answer.headers["Location"])
        assert (seen.status, seen.body["status"]) == (200, "queued")
    assert (await api.call("GET", f"/v1/sales/{sale}")).status == 200
    refused = [
        await api.order("unknown"),
        await api.call("GET", "/v1/sales/unknown"),
        await api.call("GET", "/v1/orders/00000000-0000-8000-8000-000000000000"),
        await api.call("GET", before.headers["Location"], key="pk_somebody"),
        await api.call(
            "POST",
            "/v1/sales",
            key=ADMIN_KEY,
            json=sale_request(),
            headers={"Idempotency-Key": new_name("s")},
        ),
    ]
    for answer in refused:
        check_retry_later(answer, "database-unavailable")
    assert api.service.missing() == []  # it can accept, so it stays in service
    await postgres_server.start()

    async def back() -> bool:
        return (await api.order("unknown")).status == 404

    await until(back)
    assert (await api.call("GET", before.headers["Location"], key="pk_somebody")).status == 401
    assert await stored_ids(js) == {before.body["order_id"]: 1, accepted.body["order_id"]: 1}


async def test_what_is_remembered_outlives_its_freshness_while_postgresql_is_away(
    database: Any, fresh_database_url: str, postgres_server: PostgresServer
) -> None:
    await store_keys(database)
    now = 1_000.0
    pool = await store.connect(fresh_database_url, max_size=2)
    keys, sales = Keys(pool, lambda: now), Sales(pool, lambda: now)
    header = f"Bearer {SERVICE_KEY}"
    await insert_sale(pool)
    known, sale = await keys.look_up(header), await sales.get("s1")
    assert await sales.get("s2") is None
    assert keys.remembered(header) == known
    await postgres_server.kill()
    now += FRESH_SECONDS + 1
    assert keys.remembered(header) is None
    assert await keys.look_up(header) == known
    with pytest.raises(Problem) as caught:
        await keys.look_up("Bearer pk_other")
    assert (caught.value.status, caught.value.kind) == (503, "database-unavailable")
    assert await sales.get("s1") == sale
    with pytest.raises(store.DATABASE_AWAY):
        await sales.get("s2")  # not 404: nobody knows
    await until(lambda: not sales._loading)
    await postgres_server.start()
    pool.terminate()


async def test_a_revoked_key_and_a_new_sale_are_seen_soon(database: Any) -> None:
    await store_keys(database)
    now = 1_000.0
    keys, sales = Keys(database, lambda: now), Sales(database, lambda: now)
    header = f"Bearer {SERVICE_KEY}"
    await keys.look_up(header)
    await database.execute("update api_keys set revoked_at = now()")
    now += FRESH_SECONDS
    assert keys.remembered(header) is None
    with pytest.raises(Problem) as caught:
        await keys.look_up(header)
    assert caught.value.status == 401
    assert await sales.get("s1") is None
    await insert_sale(database)
    assert (
        await sales.get("s1") is None
    )  # believed for a moment, so that nonsense does not reach the database
    now += MISSING_SECONDS
    assert await sales.get("s1") is not None
