"""Accepting flash-sale orders over HTTP against real servers: stock, limits, repeats, places in line."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    Answer,
    Api,
    api_process,
    new_name,
    on_offer,
    sale_request,
    store_keys,
    until,
)

from peakclip import messages, streams, topology
from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus, decode_frame, encode
from peakclip.service import Service
from peakclip_api import keys
from peakclip_worker.relay import Relay

pytestmark = pytest.mark.integration


@pytest.fixture(params=[True, False], ids=["express-lane", "long-way"])
async def api(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[Api]:
    """Both ways must say and do the same."""
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url, express_lane=request.param) as one:
        yield one


@pytest.fixture
async def second_api(api: Api, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    """Another process of the same API."""
    async with api_process(nats_url, fresh_database_url) as other:
        yield other


async def buy_all(api: Api, sale_id: str, customers: list[str], quantity: int = 1) -> list[Answer]:
    return await asyncio.gather(*(api.order(sale_id, customer, quantity=quantity) for customer in customers))


def told(answers: list[Answer]) -> Counter[str]:
    return Counter(answer.kind or answer.body["status"] for answer in answers)


async def stored_orders(js: JetStream) -> list[messages.Order]:
    """Every order in INTAKE, in the order of the log."""
    orders, seq = [], 1
    while frame := await js.message_from(topology.INTAKE, seq):
        orders += decode_frame(frame.payload)
        seq = frame.seq + 1
    return orders


async def until_seen_by(api: Api, answer: Answer) -> None:
    """The other process follows the log a moment behind."""
    path = f"/v1/orders/{answer.body['order_id']}"

    async def seen() -> bool:
        return (await api.call("GET", path)).status == 200

    await until(seen)


# -- stock and limits --------------------------------------------------------------------------------------


async def test_exactly_the_stock_is_sold(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=40)
    answers = await buy_all(api, sale, [f"c{n}" for n in range(120)])
    assert told(answers) == {"queued": 40, "sold-out": 80}
    accepted = {answer.body["order_id"] for answer in answers if answer.status == 202}
    assert {order.order_id for order in await stored_orders(js)} == accepted
    await until(lambda: counter_is(js, sale, 0))


async def counter_is(js: JetStream, sale: str, units: int) -> bool:
    return await on_offer(js, sale) == units


async def test_exactly_the_stock_is_sold_by_two_processes(api: Api, second_api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=40)
    halves = await asyncio.gather(
        buy_all(api, sale, [f"a{n}" for n in range(60)]),
        buy_all(second_api, sale, [f"b{n}" for n in range(60)]),
    )
    assert told(halves[0] + halves[1]) == {"queued": 40, "sold-out": 80}
    await until(lambda: counter_is(js, sale, 0))


async def test_an_order_is_all_or_nothing_and_smaller_ones_take_what_is_left(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=10, limit=4)
    answers = await buy_all(api, sale, [f"c{n}" for n in range(5)], quantity=4)
    assert told(answers) == {"queued": 2, "sold-out": 3}
    await until(lambda: counter_is(js, sale, 2))

    async def one_more() -> bool:  # units that were returned are on offer within a second
        return (await api.order(sale, quantity=2)).status == 202

    await until(one_more)
    assert (await api.order(sale)).kind == "sold-out"
    assert sum(order.quantity for order in await stored_orders(js)) == 10


async def test_two_sales_in_one_group_do_not_mix(api: Api, js: JetStream) -> None:
    first, second = await api.sale(stock=3), await api.sale(stock=30)
    answers = await asyncio.gather(*(api.order(sale, f"c{n}") for n in range(10) for sale in (first, second)))
    assert told(answers) == {"queued": 13, "sold-out": 7}
    assert Counter(order.sale_id for order in await stored_orders(js)) == {first: 3, second: 10}


async def test_the_limit_holds_for_one_customer_at_once(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=50, limit=3)
    answers = await buy_all(api, sale, ["greedy"] * 20)
    assert told(answers) == {"queued": 3, "limit-reached": 17}
    assert (await api.order(sale, "greedy")).kind == "limit-reached"
    assert (await api.order(sale, "modest", quantity=3)).status == 202
    assert (await api.order(sale, "modest")).kind == "limit-reached"
    await until(lambda: counter_is(js, sale, 44))


async def test_the_limit_counts_what_another_process_accepted(api: Api, second_api: Api) -> None:
    sale = await api.sale(stock=50, limit=2)
    first = await api.order(sale, "c1", quantity=2)
    await until_seen_by(second_api, first)
    assert (await second_api.order(sale, "c1")).kind == "limit-reached"


async def test_a_cancelled_or_rejected_order_no_longer_counts(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=50, limit=2)
    for _ in range(2):
        accepted = await api.order(sale, "c1", quantity=2)
        assert accepted.status == 202
        assert (await api.order(sale, "c1")).kind == "limit-reached"
        others = [messages.order_id("t1", f"another-{number}") for number in range(3)]
        await js.publish(topology.RELEASED_SUBJECT, "\n".join([*others, accepted.body["order_id"]]).encode())

        entry = api.app[keys.LINE].find(accepted.body["order_id"])
        await until(lambda entry=entry: entry.released)


# -- repeats -----------------------------------------------------------------------------------------------


async def test_a_repeat_gets_the_same_order_and_stores_nothing(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=50, limit=5)
    answers = await asyncio.gather(*(api.order(sale, "c1", key="same") for _ in range(20)))
    answers.append(await api.order(sale, "c1", key="same"))
    assert {answer.status for answer in answers} == {202}
    assert {answer.body["order_id"] for answer in answers} == {messages.order_id("t1", "same")}
    assert len(await stored_orders(js)) == 1
    await until(lambda: counter_is(js, sale, 49))


async def test_a_repeat_is_answered_after_the_sale_is_sold_out(api: Api) -> None:
    sale = await api.sale(stock=1)
    first = await api.order(sale, "c1", key="k1")
    assert (await api.order(sale)).kind == "sold-out"
    again = await api.order(sale, "c1", key="k1")
    assert (again.status, again.body["order_id"]) == (202, first.body["order_id"])


async def test_a_repeat_is_answered_after_the_sale_has_closed(
    api: Api, second_api: Api, database: Any
) -> None:
    sale = await api.sale(stock=9)
    first = await api.order(sale, "c1", key="k1")
    await until_seen_by(second_api, first)
    await database.execute("update sales set closes_at = now() - interval '1 second'")

    async def closed() -> bool:
        return {(await one.order(sale)).kind for one in (api, second_api)} == {"sale-closed"}

    await until(closed)
    for one in (api, second_api):
        again = await one.order(sale, "c1", key="k1")
        assert (again.status, again.body["order_id"]) == (202, first.body["order_id"])


@pytest.mark.parametrize("other", [{"customer": "c2"}, {"quantity": 2}])
async def test_a_key_with_another_request_is_refused(
    api: Api, second_api: Api, js: JetStream, other: dict[str, Any]
) -> None:
    sale = await api.sale(stock=9, limit=5)
    request = {"customer": "c1", "quantity": 1}
    first = await api.order(sale, key="k1", **request)
    await until_seen_by(second_api, first)
    for one in (api, second_api):
        assert (await one.order(sale, key="k1", **{**request, **other})).kind == "idempotency-key-reused"
    assert len(await stored_orders(js)) == 1


async def test_a_key_with_another_sale_is_refused(api: Api) -> None:
    first, second = await api.sale(), await api.sale()
    assert (await api.order(first, "c1", key="k1")).status == 202
    assert (await api.order(second, "c1", key="k1")).kind == "idempotency-key-reused"


async def test_of_two_requests_with_one_key_at_once_one_is_refused(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=9, limit=5)
    answers = await asyncio.gather(*(api.order(sale, f"c{n}", key="k1") for n in range(2)))
    assert sorted(told(answers)) == ["idempotency-key-reused", "queued"]
    assert len(await stored_orders(js)) == 1


async def test_tenants_may_use_the_same_key(api: Api, database: Any) -> None:
    await api.order(await api.sale(), key="k1")
    await database.execute("update api_keys set role = 'admin' where tenant = 't2'")
    made = await api.call(
        "POST", "/v1/sales", key=FOREIGN_KEY, json=sale_request(), headers={"Idempotency-Key": new_name("s")}
    )
    assert made.status == 201


# -- answers -----------------------------------------------------------------------------------------------


async def test_the_answer_tells_where_the_order_is_and_how_long_it_takes(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=50)
    first = await api.order(sale, "c1", key="k1")
    assert first.headers["Location"] == f"/v1/orders/{first.body['order_id']}"
    assert first.body == {
        "order_id": messages.order_id("t1", "k1"), "status": "queued", "position": 1, "eta_seconds": None,
    }  # fmt: skip
    await tell_rate(api, js, 10.0)
    answers = [await api.order(sale, f"c{n}", key=f"k{n}") for n in range(2, 6)]
    assert [answer.body["position"] for answer in answers] == [2, 3, 4, 5]
    assert [answer.body["eta_seconds"] for answer in answers] == [0.2, 0.3, 0.4, 0.5]
    again = await api.order(sale, "c3", key="k3")
    assert (again.body["position"], again.body["eta_seconds"]) == (3, 0.3)


async def tell_rate(api: Api, js: JetStream, rate: float) -> None:
    """What the controller says once a tick."""
    status = PoolStatus(
        "orders",
        0.0,
        rate,
        rate,
        False,
        0,
        0,
        None,
        None,
        None,
        None,
        1,
        1,
        None,
        None,
        "",
        "",
        0,
        0,
        None,
        None,
    )
    board = api.app[keys.BOARD]

    async def heard() -> bool:
        await js.publish_core("peakclip.status.orders", encode(status))
        return board.latest("orders") is not None

    await until(heard)


async def test_a_position_moves_while_the_line_is_drained(api: Api, js: JetStream, database: Any) -> None:
    sale = await api.sale(stock=50)
    answers = await buy_all(api, sale, [f"c{n}" for n in range(20)])
    by_place = {answer.body["position"]: answer.body["order_id"] for answer in answers}
    assert sorted(by_place) == list(range(1, 21))
    service = Service()
    relay = asyncio.create_task(Relay(js, database).run(service))
    pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
    drained: list[Any] = []
    while len(drained) < 8:
        drained += await pull.fetch(8 - len(drained), 1.0)
    await asyncio.gather(*(message.ack() for message in drained))
    path = f"/v1/orders/{by_place[15]}"

    async def moved() -> bool:
        return bool((await api.call("GET", path)).body["position"] == 7)

    await until(moved)
    assert (await api.call("GET", f"/v1/orders/{by_place[3]}")).body["position"] == 1
    service.stopping.set()
    await relay


async def test_an_order_is_queued_and_then_what_the_database_says(api: Api, database: Any) -> None:
    sale = await api.sale(stock=5)
    accepted = await api.order(sale, "c1")
    path = accepted.headers["Location"]
    seen = (await api.call("GET", path)).body
    assert seen == {
        "order_id": accepted.body["order_id"], "customer_id": "c1", "sale_id": sale, "quantity": 1,
        "status": "queued", "position": 1, "eta_seconds": None,
    }  # fmt: skip
    await database.execute(
        "insert into orders (order_id, tenant, customer_id, sale_id, quantity, status, frame_id, fingerprint,"
        " accepted_at, started_at) values ($1, 't1', 'c1', $2, 1, 'pending_payment', 'f', 'p', now(), now())",
        accepted.body["order_id"], sale,
    )  # fmt: skip
    seen = (await api.call("GET", path)).body
    assert seen["status"] == "pending_payment"
    assert "position" not in seen
    assert "tenant" not in seen


async def test_others_orders_do_not_exist(api: Api, database: Any) -> None:
    """Both while the order is queued and once it is in the database."""
    sale = await api.sale(stock=5)
    path = (await api.order(sale, "c1")).headers["Location"]
    own = await api.call(
        "POST", f"/v1/sales/{sale}/orders", key=CUSTOMER_KEY, headers={"Idempotency-Key": "x"}
    )
    assert own.status == 202

    async def check() -> None:
        get = [
            await api.call("GET", path),
            await api.call("GET", path, headers={"Peakclip-Customer": "c1"}),
            await api.call("GET", path, key=ADMIN_KEY),
            await api.call("GET", own.headers["Location"], key=CUSTOMER_KEY),
            await api.call("GET", path, headers={"Peakclip-Customer": "c2"}),
            await api.call("GET", path, key=CUSTOMER_KEY),
            await api.call("GET", path, key=FOREIGN_KEY),
        ]
        assert [answer.status for answer in get] == [200, 200, 200, 200, 404, 404, 404]
        assert {answer.kind for answer in get[4:]} == {"order-not-found"}

    await check()
    for order_id, customer in ((path.rpartition("/")[2], "c1"), (own.body["order_id"], "own-1")):
        await database.execute(
            "insert into orders (order_id, tenant, customer_id, sale_id, quantity, status, frame_id, fingerprint,"
            " accepted_at, started_at) values ($1, 't1', $2, $3, 1, 'paid', 'f', 'p', now(), now())",
            order_id, customer, sale,
        )  # fmt: skip
    await check()


async def test_the_customer_of_a_customers_key_is_its_own(api: Api, js: JetStream) -> None:
    """The header is for services alone."""
    sale = await api.sale(stock=5)
    headers = {"Idempotency-Key": "k1", "Peakclip-Customer": "somebody-else"}
    answer = await api.call("POST", f"/v1/sales/{sale}/orders", key=CUSTOMER_KEY, headers=headers)
    assert answer.status == 202
    (order,) = await stored_orders(js)
    assert (order.customer_id, order.quantity) == ("own-1", 1)


async def test_a_client_that_leaves_has_ordered_all_the_same(api: Api, js: JetStream) -> None:
    sale = await api.sale(stock=5)
    request = asyncio.create_task(api.order(sale, "c1", key="k1"))
    intake = api.app[keys.INTAKE]
    await until(lambda: intake._waiting or request.done(), pause=0)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await until(lambda: api.app[keys.LINE].find(messages.order_id("t1", "k1")))
    assert (await api.order(sale, "c1", key="k1")).status == 202
    assert len(await stored_orders(js)) == 1


# -- life of the process -----------------------------------------------------------------------------------


async def test_a_process_that_starts_later_knows_what_was_accepted(
    api: Api, nats_url: str, fresh_database_url: str
) -> None:
    sale = await api.sale(stock=50)
    await buy_all(api, sale, [f"c{n}" for n in range(30)])
    first = await api.order(sale, "c-last", key="k1")
    async with api_process(nats_url, fresh_database_url) as late:
        again = await late.order(sale, "c-last", key="k1")
        assert (again.status, again.body["order_id"]) == (202, first.body["order_id"])
        assert again.body["position"] == 31
        assert (await late.order(sale, "c3")).kind == "limit-reached"


async def test_a_process_waits_for_streams_that_are_made_one_by_one(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    await store_keys(database)
    await js._api(f"STREAM.DELETE.{topology.RELEASES}")

    async def start() -> int:
        async with api_process(nats_url, fresh_database_url) as api:
            return (await api.order(await api.sale())).status

    starting = asyncio.create_task(start())
    done, _ = await asyncio.wait({starting}, timeout=1.0)
    assert not done, starting.exception()
    await streams.ensure(js)
    assert await asyncio.wait_for(starting, 20) == 202


@pytest.mark.parametrize("express_lane", [True, False])
async def test_who_would_wait_too_long_is_told_when_to_come_again(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str, express_lane: bool
) -> None:
    """At 2/s five orders are 2.5 s; the sixth would wait for 3 s. Who is in line is never turned away."""
    await store_keys(database)
    settings = {"express_lane": express_lane, "longest_wait_seconds": 2.5}
    async with api_process(nats_url, fresh_database_url, **settings) as api:
        sale = await api.sale(stock=50)
        await tell_rate(api, js, 2.0)
        for number in range(5):
            assert (await api.order(sale, f"c{number}", key=f"k{number}")).status == 202
        refused = await api.order(sale, "c5", key="k5")
        assert (refused.status, refused.kind, refused.headers["Retry-After"]) == (429, "line-too-long", "1")
        assert (await api.order(sale, "c4", key="k4")).status == 202
        assert len(await stored_orders(js)) == 5
        await tell_rate(api, js, 4.0)
        await until(lambda: api.app[keys.BOARD].latest("orders").effective_per_second == 4.0)
        assert (await api.order(sale, "c5", key="k5")).status == 202
