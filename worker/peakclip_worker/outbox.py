"""The outbox: what a committed transaction owes becomes events (EVENTS), stock on offer (STOCK), releases and timers.

A row is deleted in the transaction that claimed it, after its publication; a crash in between publishes it again
with the same message id, which JetStream drops within its window and consumers recognise afterwards.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog

from peakclip import telemetry, topology, tracing
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream, OutMessage
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query
from peakclip_worker.relay import store_all

log = structlog.get_logger()

BATCH: Final = 256
COUNT_SECONDS: Final = 5.0
TIMER_PREFIX: Final = "timer."
RELEASING: Final = frozenset({"order.rejected", "order.cancelled"})
IDLE_SECONDS: Final = (
    0.25  # gathers what a quarter of a second brings: a batch costs the same whatever its size
)


class Outbox:
    def __init__(self, js: JetStream, database: Any) -> None:
        self._js = js
        self._database = database
        self._next_count = 0.0  # loop time

    async def run(self, service: Service) -> None:
        while not service.stopping.is_set():
            try:
                published = await self._publish_some()
            except (PeakclipError, *DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                log.warning("outbox_retries", error=repr(exc))
                published = 0
                await asyncio.sleep(0.5)
            await self._count()
            if published < BATCH:
                await asyncio.sleep(IDLE_SECONDS)

    async def _count(self) -> None:
        """Once in a while. While the database is away the number is unknown (NaN), and not the one of before."""
        now = asyncio.get_running_loop().time()
        if now < self._next_count:
            return
        self._next_count = now + COUNT_SECONDS
        try:
            telemetry.OUTBOX.set(await self._database.fetchval(query("count_outbox")))
        except (*DATABASE_AWAY, *DATABASE_UNFIT):
            telemetry.OUTBOX.set(math.nan)

    async def _publish_some(self) -> int:
        async with self._database.acquire() as connection, connection.transaction():
            rows = await connection.fetch(query("claim_outbox"), BATCH)
            if not rows:
                return 0
            contexts = (_headers(row).get(tracing.TRACEPARENT, "") for row in rows)
            with tracing.span("publish outbox", kind="producer", links=contexts) as span:
                span.set("messaging.batch.message_count", len(rows))
                await self._publish(rows)
                await connection.execute(query("delete_outbox"), [row["id"] for row in rows])
        telemetry.PUBLISHED.inc(len(rows))
        return len(rows)

    async def _publish(self, rows: Sequence[Any]) -> None:
        events = [row for row in rows if row["increment"] is None and not _is_timer(row)]
        if events:
            await store_all(self._js, [_event(row) for row in events], patience_seconds=5)
        await asyncio.gather(
            *(
                self._js.increment(row["subject"], row["increment"], message_id=row["message_id"])
                for row in rows
                if row["increment"] is not None
            ),
            *(self._js.publish(row["subject"], b"", headers=_headers(row)) for row in rows if _is_timer(row)),
            *(self._js.publish(topology.RELEASED_SUBJECT, ids) for ids in released(rows)),
        )


class _OfOrder(msgspec.Struct):
    order_id: str


def released(rows: Sequence[Any]) -> list[bytes]:
    """At most one message: the ids, a line each, of the orders that no longer count against their customers' limits.

    Without a message id: to hear of it twice changes nothing.
    """
    ids = [
        msgspec.json.decode(r["payload"], type=_OfOrder).order_id for r in rows if r["subject"] in RELEASING
    ]
    return ["\n".join(ids).encode()] if ids else []


def _is_timer(row: Any) -> bool:
    return str(row["subject"]).startswith(TIMER_PREFIX)


def _headers(row: Any) -> dict[str, str]:
    return {**msgspec.json.decode(row["headers"]), "Nats-Msg-Id": row["message_id"]}


def _event(row: Any) -> OutMessage:
    return OutMessage(row["subject"], row["payload"].encode(), event_headers(row))


def event_headers(row: Any) -> dict[str, str]:
    """CloudEvents 1.0, binary mode: attributes in headers, the data as the body."""
    return {
        **_headers(row),
        "ce-specversion": "1.0",
        "ce-id": row["message_id"],
        "ce-type": row["subject"],
        "ce-source": "/peakclip/orders",
        "content-type": "application/json",
    }
