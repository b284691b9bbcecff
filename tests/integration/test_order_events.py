"""An order's events as a stream: every version once and in order, for whom the order exists."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openapi
import pytest
from business import act, add_provider, apply, happened, new_order, work
from pools import drain, effects_pool, own_connections, relay
from sse import Events
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    PROVIDER_KEY,
    SERVICE_KEY,
    TENANT,
    Api,
    api_process,
    drain_batch,
    insert_sale,
    make_order,
    store_keys,
    until,
)

from peakclip import topology
from peakclip.credentials import store_key
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.local.nats import NatsServer
from peakclip.notifications import encode_trail
from peakclip_api import keys, live

pytestmark = pytest.mark.integration

STORY = ("pay", "accept", "start", "complete")
EVENTS = ["order.created", "order.paid", "order.accepted", "order.started", "order.completed"]


@pytest.fixture
async def api(js: JetStream, database: Any, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    await store_keys(database)
    await add_provider(database, "p-1")
    await add_provider(database, "p-2")
    await store_key(database, "pk_other_provider", TENANT, "p-2", "provider")
    async with api_process(nats_url, fresh_database_url) as process:
        yield process


@contextlib.asynccontextmanager
async def following(
    api: Api, order_id: str, *, key: str = CUSTOMER_KEY, after: int | str | None = None, **headers: str
) -> AsyncIterator[Events]:
    sent = {"Authorization": f"Bearer {key}", **headers}
    if after is not None:
        sent["Last-Event-ID"] = str(after)
    async with api.client.get(f"/v1/orders/{order_id}/events", headers=sent) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield await Events(response).begun()


async def names(events: Events, number: int) -> list[tuple[int, str]]:
    return [(version, name) for version, name, _ in await events.events(number)]


async def test_first_what_was_and_then_what_comes(api: Api, js: JetStream, database: Any) -> None:
    order = await new_order(database)
    await act(database, order, "pay")
    await work(js, database)
    async with following(api, order) as events:
        assert await names(events, 2) == [(1, "order.created"), (2, "order.paid")]
        await act(database, order, "accept")
        await work(js, database)
        assert await names(events, 1) == [(3, "order.accepted")]
        await act(database, order, "start", "complete")
        await work(js, database)
        assert await names(events, 2) == [(4, "order.started"), (5, "order.completed")]
        assert await events.silent()


async def test_an_event_is_as_described_for_every_kind_of_order(
    api: Api, js: JetStream, database: Any
) -> None:
    await insert_sale(database)
    bought, ordinary = make_order(customer_id="own-1"), await new_order(database)
    await drain_batch(database, [bought])
    await act(database, ordinary, "pay", "cancel")
    await work(js, database)
    for order_id, number in ((bought.order_id, 1), (ordinary, 3)):
        async with following(api, order_id) as events:
            for _, _, data in await events.events(number):
                schema = {"$ref": "#/components/schemas/OrderEvent"}
                openapi._check_instance(data, schema, "an event", closed=True)
    assert (data["refunded_cents"], data["reason"]) == (4_900, "cancelled-by-customer")


async def test_a_reader_comes_back_where_it_was(
    api: Api, js: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peakclip_api.routes.order_events.PAGE", 2)
    order = await new_order(database)
    await act(database, order, *STORY)
    await work(js, database)
    everything = list(enumerate(EVENTS, start=1))
    for after in (None, 1, 3, 5):
        async with following(api, order, after=after) as events:
            assert await names(events, 5 - (after or 0)) == everything[after or 0 :]
            assert await events.silent(0.1)
    for nonsense in ("6", "999999999", "9999999999", "-1", "x", "", "0"):
        async with following(api, order, after=nonsense) as events:
            assert await names(events, 5) == everything


async def test_a_version_that_is_not_there_yet_is_waited_for(api: Api, js: JetStream, database: Any) -> None:
    """Effects come in any order; a stream goes on only where it is complete."""
    order = await new_order(database)
    await act(database, order, *STORY)
    versions = await happened(database)

    async def arrives(*which: int) -> None:
        await apply(database, [versions[version - 1] for version in which])
        await js.publish_core(topology.TRAIL, encode_trail([(order, version) for version in which]))

    async with following(api, order) as events:
        await arrives(2, 4)
        assert await events.silent()
        await arrives(1)
        assert await names(events, 2) == [(1, "order.created"), (2, "order.paid")]
        assert await events.silent()
        await arrives(5)
        await arrives(3)
        assert [version for version, _ in await names(events, 3)] == [3, 4, 5]


async def test_an_order_that_waits_in_line_can_be_followed(api: Api, js: JetStream, database: Any) -> None:
    sale = await api.sale()
    placed = await api.order(sale, "ann")
    order_id = placed.body["order_id"]
    headers = {"Peakclip-Customer": "ann"}
    async with following(api, order_id, key=SERVICE_KEY, after=1, **headers) as events:
        assert await events.silent(0.1)
        await drain_batch(database, [make_order(order_id=order_id, sale_id=sale, customer_id="ann")])
        await work(js, database)
        assert await names(events, 1) == [(1, "order.created")]


async def test_an_order_exists_for_whom_it_concerns(api: Api, js: JetStream, database: Any) -> None:
    order = await new_order(database)
    await act(database, order, "accept", provider="p-2")
    await work(js, database)
    path = f"/v1/orders/{order}/events"
    await store_key(database, "pk_stranger", TENANT, "stranger", "customer")
    for key, headers in [
        ("pk_stranger", {}),
        (PROVIDER_KEY, {}),
        (SERVICE_KEY, {"Peakclip-Customer": "stranger"}),
        (FOREIGN_KEY, {}),
        (FOREIGN_KEY, {"Peakclip-Customer": "own-1"}),
    ]:
        answer = await api.call("GET", path, key=key, headers=headers)
        assert (answer.status, answer.kind) == (404, "order-not-found")
    for nothing in ("x", "00000000-0000-0000-0000-000000000000"):
        answer = await api.call("GET", f"/v1/orders/{nothing}/events", key=ADMIN_KEY)
        assert (answer.status, answer.kind) == (404, "order-not-found")
    assert (await api.call("GET", path, key=None)).status == 401
    for key in (CUSTOMER_KEY, "pk_other_provider", ADMIN_KEY, SERVICE_KEY):
        async with following(api, order, key=key) as events:
            assert len(await names(events, 2)) == 2


async def test_a_provider_sees_no_more_once_the_order_is_anothers(
    api: Api, js: JetStream, database: Any
) -> None:
    order = await new_order(database)
    await work(js, database)
    async with (
        following(api, order, key=PROVIDER_KEY) as loser,
        following(api, order, key="pk_other_provider") as winner,
    ):
        assert await names(loser, 1) == await names(winner, 1) == [(1, "order.created")]
        await act(database, order, "accept", "start", provider="p-2")
        await work(js, database)
        assert await names(winner, 2) == [(2, "order.accepted"), (3, "order.started")]
        assert await loser.next() is None


async def test_a_provider_follows_a_flash_sale_from_its_beginning(
    api: Api, js: JetStream, database: Any
) -> None:
    """What it could not see when it happened, unpaid and nobody's, is the past of an order that it sees now."""
    await insert_sale(database)
    bought = make_order(customer_id="own-1")
    await drain_batch(database, [bought])
    await act(database, bought.order_id, "pay")
    await work(js, database)
    async with following(api, bought.order_id, key=PROVIDER_KEY) as events:
        assert await names(events, 2) == list(enumerate(EVENTS[:2], start=1))
        await act(database, bought.order_id, "accept")
        await work(js, database)
        assert await names(events, 1) == [(3, "order.accepted")]


async def test_a_storefronts_customers_do_not_end_each_others_streams(
    api: Api, js: JetStream, database: Any
) -> None:
    mine, others = await new_order(database), await new_order(database, "busy")
    await work(js, database)

    async def follow(order: str, customer: str) -> Events:
        headers = {"Peakclip-Customer": customer}
        return await stack.enter_async_context(following(api, order, key=SERVICE_KEY, **headers))

    async with contextlib.AsyncExitStack() as stack:
        first = await follow(mine, "own-1")
        assert len(await names(first, 1)) == 1
        for _ in range(live.MOST_OF_ONE + 1):
            await follow(others, "busy")
        assert await first.silent()


async def test_a_lost_hint_costs_a_look(
    api: Api, js: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.Reader.wait, "__defaults__", (0.3,))
    order = await new_order(database)
    async with following(api, order) as events:
        await apply(database, await happened(database))  # and nobody says so
        assert await names(events, 1) == [(1, "order.created")]


async def test_garbage_on_the_trail_wakes_nobody_and_ends_nothing(
    api: Api, js: JetStream, database: Any
) -> None:
    order = await new_order(database)
    async with following(api, order) as events:
        for garbage in (b"", b"{", b"[[1]]", b'["x"]'):
            await js.publish_core(topology.TRAIL, garbage)
        await work(js, database)
        assert await names(events, 1) == [(1, "order.created")]


async def test_streams_lose_and_repeat_nothing_while_everything_restarts(
    api: Api, js: JetStream, database: Any, nats_url: str, fresh_database_url: str, nats_server: NatsServer
) -> None:
    """Twelve orders are followed while two workers apply their events in any order, and NATS is killed."""
    await set_pace(js, topology.EFFECTS_POOL, limit_per_second=40)
    orders = [await new_order(database, at=None) for _ in range(12)]
    seen: dict[str, list[int]] = {order: [] for order in orders}

    async def follow(order: str) -> None:
        while len(seen[order]) < 5:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, AssertionError):
                async with following(api, order, after=seen[order][-1] if seen[order] else None) as events:
                    for _ in range(min(random.randint(1, 3), 5 - len(seen[order]))):
                        seen[order] += [version for version, _ in await names(events, 1)]

    following_all = [asyncio.create_task(follow(order)) for order in orders]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            own_js, pool = await stack.enter_async_context(own_connections(nats_url, fresh_database_url))
            await stack.enter_async_context(drain(own_js, effects_pool(own_js, pool), topology.EFFECTS_POOL))
        await stack.enter_async_context(relay(js, database, ["outbox"]))
        for order in orders:
            await act(database, order, *STORY)
        await until(lambda: sum(map(len, seen.values())) > 10)
        await nats_server.restart()
        await asyncio.wait_for(asyncio.gather(*following_all), 60)
    assert list(seen.values()) == [[1, 2, 3, 4, 5]] * 12
    await until(lambda: api.app[keys.JS].connected)
