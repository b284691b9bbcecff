"""The pool `orders`: what was accepted into the line becomes rows, stock and outbox, one statement for a batch.

The database judges (`drain_seckill` and `create_orders`, in the migrations): once-only, the customer's limit, stock,
pet and package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from peakclip import telemetry, topology
from peakclip.jetstream import InMessage
from peakclip.messages import Order, decode_order
from peakclip.store import query

_Item = tuple[Order, InMessage]


class DrainOrders:
    """Needs a database pool; `work_ms` is a stand-in for a third party's part in each order."""

    def __init__(self, database: Any, work_ms: float = 0.0) -> None:
        self._database = database
        self._work_seconds = work_ms / 1000

    def read(self, message: InMessage) -> Order:
        order = decode_order(message.payload)
        if not order.sale_id and order.booking is None:
            raise msgspec.ValidationError("the order is of no sale and has no booking")
        return order

    async def commit(self, items: Sequence[_Item], started_at: float) -> None:
        if self._work_seconds:
            await asyncio.gather(*(self._call_third_party(order) for order, _ in items))
        if of_sales := [item for item in items if item[0].booking is None]:
            await self._drain_seckill(of_sales, started_at)
        if ordinary := [item for item in items if item[0].booking is not None]:
            await self._create_orders(ordinary, started_at)

    async def _call_third_party(self, order: Order) -> None:
        await asyncio.sleep(self._work_seconds)

    async def _drain_seckill(self, items: Sequence[_Item], started_at: float) -> None:
        row = await self._database.fetchrow(
            query("drain_seckill"),
            [order.order_id for order, _ in items],
            [order.tenant for order, _ in items],
            [order.customer_id for order, _ in items],
            [order.sale_id for order, _ in items],
            [order.quantity for order, _ in items],
            [message.headers.get(topology.FRAME_HEADER, "") for _, message in items],
            [order.fingerprint for order, _ in items],
            [order.accepted_at for order, _ in items],
            [order.traceparent for order, _ in items],
            started_at,
        )
        for outcome in ("created", "rejected", "repeated"):
            _count(outcome, row[outcome])

    async def _create_orders(self, items: Sequence[_Item], started_at: float) -> None:
        orders = [
            {
                "order_id": order.order_id,
                "tenant": order.tenant,
                "customer_id": order.customer_id,
                "fingerprint": order.fingerprint,
                "accepted_at": order.accepted_at,
                "traceparent": order.traceparent,
                "frame_id": message.headers.get(topology.FRAME_HEADER, ""),
                **msgspec.to_builtins(order.booking),
            }
            for order, message in items
        ]
        body = msgspec.json.encode(orders).decode()
        for row in await self._database.fetch(query("create_orders"), body, started_at, True):
            _count(row["outcome"], 1)


def _count(outcome: str, orders: int) -> None:
    if orders:
        telemetry.PROCESSED.labels(topology.ORDERS_POOL, outcome).inc(orders)
