"""Bugs that other flash-sale projects had, each by its report: what their customers met must not happen here.

Where the story is told by other tests in more detail, this is the short form that a reader of the report looks for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pools import drain, orders_pool, reaper_pool, relay
from support import Answer, Api, api_process, make_order, on_offer, store_keys, submit, unfinished, until

from peakclip import topology
from peakclip.errors import OutcomeUnknownError
from peakclip.ingest import Intake
from peakclip.jetstream import JetStream, PubAck
from peakclip.limiter.pace import set_pace
from peakclip.local.nats import NatsServer
from peakclip.service import Service
from peakclip_worker.expiry import Sweep
from peakclip_worker.reconciler import Reconciler

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Market:
    """Two API processes, as behind a load balancer, and workers behind them."""

    one: Api
    two: Api
    js: JetStream
    database: Any

    async def rush(self, sale: str, customers: list[str], **options: Any) -> list[Answer]:
        """All at the same moment, at both processes in turn."""
        return await asyncio.gather(
            *((self.one, self.two)[n % 2].order(sale, name, **options) for n, name in enumerate(customers))
        )

    async def drained(self) -> None:
        async def empty() -> bool:
            waiting = await unfinished(self.js, topology.INTAKE, "relay")
            waiting += await unfinished(self.js, topology.SECKILL, topology.ORDERS_POOL)
            return waiting == 0 and await self.database.fetchval("select count(*) from outbox") == 0

        await until(empty, 20)

    async def stock(self, sale: str) -> tuple[int, int, int]:
        """Available, reserved, sold."""
        row = await self.database.fetchrow("select * from audit_sales where sale_id = $1", sale)
        return row["available"], row["reserved"], row["sold"]

    async def pay(self, order_id: str, customer: str, key: str | None = None) -> Answer:
        headers = {"Peakclip-Customer": customer} | ({"Idempotency-Key": key} if key else {})
        return await self.one.call("POST", f"/v1/orders/{order_id}/pay", headers=headers, json={})

    async def due_now(self, order_id: str) -> None:
        await self.database.execute(
            "update orders set expires_at = clock_timestamp() - interval '1 ms' where order_id = $1", order_id
        )


@pytest.fixture
async def market(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> AsyncIterator[Market]:
    await store_keys(database)
    for pool in (topology.ORDERS_POOL, topology.REAPER_POOL):
        await set_pace(js, pool, limit_per_second=1_000)
    async with (
        api_process(nats_url, fresh_database_url) as one,
        api_process(nats_url, fresh_database_url) as two,
        relay(js, database),
        drain(js, orders_pool(js, database), topology.ORDERS_POOL),
    ):
        yield Market(one, two, js, database)


async def test_a_double_click_takes_one_unit_and_nobody_else_is_told_sold_out(market: Market) -> None:
    """hfbin/Seckill #11, #14; zaiyunduan123/springboot-seckill #4, #35: the counter went down twice (undersell)."""
    sale = await market.one.sale(stock=2)
    clicks = await asyncio.gather(*(market.one.order(sale, "ada", key="one-click") for _ in range(5)))
    assert {answer.status for answer in clicks} == {202}
    assert len({answer.body["order_id"] for answer in clicks}) == 1
    assert (await market.two.order(sale, "bob")).status == 202, "the second unit is still there"
    await market.drained()
    assert await market.stock(sale) == (0, 2, 0)
    assert await on_offer(market.js, sale) == 0


async def test_a_crash_between_taking_a_unit_and_queueing_the_order_leaks_no_stock(market: Market) -> None:
    """haopengmai/dianping #1, MaJesTySA/miaosha_Shop #3."""
    sale = await market.one.sale(stock=1)
    await market.js.increment(
        topology.stock_subject(sale), -1,
        message_id=f"{topology.RESERVATION}-dead-{sale}", headers={topology.FRAME_HEADER: "dead"},
    )  # fmt: skip  # an API process dies here
    assert (await market.one.order(sale, "ada")).kind == "sold-out"
    service = Service()
    reconciler = asyncio.create_task(Reconciler(market.js, 0.3).run(service))
    await until(lambda: offered(market.js, sale, 1), 10)

    async def bought() -> bool:
        return (await market.one.order(sale, "ada")).status == 202

    await until(bought, 10, pause=0.2)
    service.stopping.set()
    await reconciler
    await market.drained()
    assert await market.stock(sale) == (0, 1, 0)


async def offered(js: JetStream, sale: str, units: int) -> bool:
    return await on_offer(js, sale) == units


class _DeafOnce:
    """A connection on which the answer to the first frame is lost, after it was stored."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._js, name)

    async def publish(self, subject: str, payload: bytes, **options: Any) -> PubAck:
        ack = await self._js.publish(subject, payload, **options)
        if subject.startswith("intake.") and not self.lost:
            self.lost += 1
            raise OutcomeUnknownError
        return ack


async def test_a_lost_acknowledgement_of_a_stored_order_is_no_failure_and_no_second_order(
    js: JetStream,
) -> None:
    """bootsrc/jseckill #19, #21: the customer was told *failed*, and the order existed."""
    deaf = _DeafOnce(js)
    await js.increment(topology.stock_subject("s1"), 5, message_id="init-s1")
    intake = Intake(deaf, lambda seq, orders: None)  # type: ignore[arg-type]
    running = asyncio.create_task(intake.run())
    seq = await submit(intake, make_order())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert deaf.lost == 1
    assert (await js.stream_state(topology.INTAKE)).last_seq == seq == 1, (
        "one frame, and the customer is told so"
    )
    assert await on_offer(js) == 4


async def test_two_processes_cannot_both_sell_the_last_unit(market: Market) -> None:
    """techa03/goodsKill #134: read, then decrement."""
    sale = await market.one.sale(stock=7)
    answers = await market.rush(sale, [f"buyer-{n}" for n in range(60)])
    assert Counter(answer.status for answer in answers) == {202: 7, 409: 53}
    await market.drained()
    assert await market.stock(sale) == (0, 7, 0)


async def test_a_queue_that_is_away_costs_an_answer_and_no_unit(
    market: Market, nats_server: NatsServer
) -> None:
    """techa03/goodsKill #134: the failure of the queue was not handled."""
    sale = await market.one.sale(stock=3)
    await nats_server.kill()
    answer = await market.one.order(sale, "ada", key="k-1")
    assert (answer.status, answer.kind) == (503, "queue-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    await nats_server.start()

    async def accepted() -> bool:
        return (await market.one.order(sale, "ada", key="k-1")).status == 202

    await until(accepted, 30, pause=0.3)
    await until(lambda: market.js.connected)
    await market.drained()
    assert await market.stock(sale) == (2, 1, 0)
    assert await on_offer(market.js, sale) == 2


async def test_a_customer_who_asks_everywhere_at_once_gets_the_limit_and_stock_stays_above_zero(
    market: Market,
) -> None:
    """sanjiOP/seckill #2: bought twice, and the stock was -6."""
    sale = await market.one.sale(stock=5, limit=1)
    await market.rush(sale, ["ada"] * 12)
    await market.drained()
    rows = await market.database.fetch("select status from audit_orders where sale_id = $1", sale)
    assert Counter(row["status"] for row in rows)["pending_payment"] == 1
    assert await market.stock(sale) == (4, 1, 0)
    await until(lambda: offered(market.js, sale, 4), 10)


async def test_a_payment_just_before_the_deadline_keeps_the_unit_from_a_reaper_that_has_it_in_hand(
    market: Market,
) -> None:
    """codingXiaxw/seckill #41, open since 2020: paid at minute 14, cancelled and restocked at minute 15."""
    sale = await market.one.sale(stock=1)
    order = (await market.one.order(sale, "ada")).body["order_id"]
    await market.drained()
    await market.database.execute("update orders set expires_at = clock_timestamp() + interval '2 s'")
    # The reaper has the order in hand as due; the payment comes first.
    paid = await market.pay(order, "ada")
    assert (paid.status, paid.body["status"]) == (200, "paid")
    await market.due_now(order)
    row = await market.database.fetchrow("select expired, kept from expire_orders(array[$1]::uuid[])", order)
    assert tuple(row) == (0, 1)
    assert await market.stock(sale) == (0, 0, 1)
    assert await on_offer(market.js, sale) == 0


async def test_a_payment_after_the_deadline_is_refunded_and_the_unit_is_sold_to_somebody_else(
    market: Market,
) -> None:
    """codingXiaxw/seckill #41, the other way round."""
    sale = await market.one.sale(stock=1)
    order = (await market.one.order(sale, "ada")).body["order_id"]
    await market.drained()
    await market.due_now(order)
    async with drain(market.js, reaper_pool(market.js, market.database), topology.REAPER_POOL):
        await Sweep(market.js, market.database).sweep()
        await until(lambda: offered(market.js, sale, 1), 10)
    late = await market.pay(order, "ada")
    assert (late.status, late.kind, late.body["refunded"]) == (409, "illegal-transition", True)

    async def bought() -> bool:
        return (await market.one.order(sale, "bob")).status == 202

    await until(bought, 10, pause=0.2)
    await market.drained()
    assert await market.stock(sale) == (0, 1, 0)
    kinds = await market.database.fetch("select kind from audit_payments where order_id = $1", order)
    assert Counter(row["kind"] for row in kinds) == {"payment": 1, "refund": 1}


async def test_a_late_payment_that_is_told_again_and_again_changes_the_stock_once(market: Market) -> None:
    """r/Backend, tuanhiep.github.io: a webhook after the expiry released the reservation a second time."""
    sale = await market.one.sale(stock=2)
    order = (await market.one.order(sale, "ada")).body["order_id"]
    await market.drained()
    await market.due_now(order)
    await market.database.fetchrow("select * from expire_orders(array[$1]::uuid[])", order)
    answers = await asyncio.gather(*(market.pay(order, "ada", "psp-1") for _ in range(6)))
    assert {answer.status for answer in answers} == {409}
    assert await market.stock(sale) == (2, 0, 0)
    kinds = await market.database.fetch("select kind from audit_payments where order_id = $1", order)
    assert Counter(row["kind"] for row in kinds) == {"payment": 1, "refund": 1}


async def test_two_who_want_more_than_one_each_do_not_refuse_each_other(market: Market) -> None:
    """codingXiaxw/seckill #16: both took, both failed, both gave back, and nobody was served."""
    sale = await market.one.sale(stock=3, limit=2)
    answers = await market.rush(sale, ["ada", "bob"], quantity=2)
    assert Counter(answer.status for answer in answers) == {202: 1, 409: 1}
    await until(lambda: offered(market.js, sale, 1), 10)

    async def bought() -> bool:
        return (await market.one.order(sale, "eve")).status == 202

    await until(bought, 10, pause=0.2)
    await market.drained()
    assert await market.stock(sale) == (0, 3, 0)
