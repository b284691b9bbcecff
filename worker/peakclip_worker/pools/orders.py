"""The pool `orders`: a batch of flash-sale orders becomes rows, stock and outbox in one statement.

The database judges (`drain_seckill`, in the migrations): once-only, the customer's limit, stock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from peakclip import telemetry, topology
from peakclip.jetstream import InMessage
from peakclip.messages import Order, decode_order
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query
from peakclip_worker.consumer import BatchResult
from peakclip_worker.dead_letters import write_dead_letter

log = structlog.get_logger()

POOL: Final = topology.ORDERS_POOL
MAX_ATTEMPTS: Final = 3
LONGEST_HOLD_SECONDS: Final = 2.0


class OrdersPool:
    """Needs a database pool; `work_ms` is a stand-in for a third party's part in each order."""

    def __init__(self, database: Any, work_ms: float = 0.0) -> None:
        self._database = database
        self._work_seconds = work_ms / 1000
        self._attempts: dict[int, int] = {}  # stream sequence -> failed attempts alone, in this process
        self._singly: set[int] = set()  # came from a batch that was refused, so each is tried alone
        self._holds = 0  # in a row, without a commit in between

    def batch_of(self, messages: Sequence[InMessage], most: int) -> Sequence[InMessage]:
        """Which of the messages in hand go together: suspects go alone, so that they delay nobody else."""
        for number, message in enumerate(messages[:most] if self._singly else ()):
            if message.seq in self._singly:
                return messages[: max(1, number)]
        return messages[:most]

    async def process(self, batch: Sequence[InMessage], started_at: float) -> BatchResult:
        orders, readable, unreadable = [], [], []
        for message in batch:
            try:
                orders.append(decode_order(message.payload))
                readable.append(message)
            except msgspec.MsgspecError as exc:
                unreadable.append((message, f"unreadable: {exc}"))
        if self._work_seconds and orders:
            await asyncio.gather(*(self._call_third_party(order) for order in orders))
        try:
            for message, cause in unreadable:
                await write_dead_letter(self._database, POOL, message, cause, 1)
            if orders:
                await self._commit(orders, readable, started_at)
        # First, since the driver's DataError is an InterfaceError too: that is no lost connection.
        except ValueError as exc:
            return await self._isolate(batch, exc)
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            return await self._hold(batch, exc)
        except asyncpg.PostgresError as exc:
            return await self._isolate(batch, exc)
        self._holds = 0
        for message in batch:
            self._attempts.pop(message.seq, None)
            self._singly.discard(message.seq)
        return BatchResult(batch, [], len(unreadable))

    async def _call_third_party(self, order: Order) -> None:
        await asyncio.sleep(self._work_seconds)

    async def _commit(
        self, orders: Sequence[Order], messages: Sequence[InMessage], started_at: float
    ) -> None:
        row = await self._database.fetchrow(
            query("drain_seckill"),
            [order.order_id for order in orders],
            [order.tenant for order in orders],
            [order.customer_id for order in orders],
            [order.sale_id for order in orders],
            [order.quantity for order in orders],
            [message.headers.get(topology.FRAME_HEADER, "") for message in messages],
            [order.fingerprint for order in orders],
            [order.accepted_at for order in orders],
            started_at,
        )
        for outcome in ("created", "rejected", "repeated"):
            if row[outcome]:
                telemetry.PROCESSED.labels(POOL, outcome).inc(row[outcome])

    async def _isolate(self, batch: Sequence[InMessage], cause: Exception) -> BatchResult:
        """A batch that the database refuses is tried again one by one; who fails alone three times is set aside."""
        if len(batch) > 1:
            self._singly.update(message.seq for message in batch)
            return BatchResult([], batch, len(batch))
        (message,) = batch
        attempts = self._attempts.get(message.seq, 0) + 1
        log.error("order_refused", seq=message.seq, attempts=attempts, error=repr(cause))
        if attempts < MAX_ATTEMPTS:
            self._attempts[message.seq] = attempts
            return BatchResult([], batch, 1)
        try:
            await write_dead_letter(self._database, POOL, message, repr(cause), attempts)
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            return await self._hold(batch, exc)
        self._attempts.pop(message.seq, None)
        self._singly.discard(message.seq)
        return BatchResult(batch, [], 1)

    async def _hold(self, batch: Sequence[InMessage], cause: Exception) -> BatchResult:
        """Keeps the messages until the database answers: they cannot be worked on by anybody else either."""
        log.warning("database_away", error=repr(cause), orders=len(batch))
        delay = min(LONGEST_HOLD_SECONDS, 0.1 * 2 ** min(self._holds, 10))  # it may answer and still refuse
        self._holds += 1
        since = time.monotonic()
        while True:
            await asyncio.sleep(delay)
            try:
                await self._database.fetchval("select 1")
                return BatchResult([], batch, 0, time.monotonic() - since)
            except (*DATABASE_AWAY, *DATABASE_UNFIT):
                delay = min(1.0, delay * 2)
