"""The sweep: which unpaid orders are due, from PostgreSQL (the truth) into EXPIRY (the reaper's queue).

    orders_due ──▶ sweep, behind a cursor (expires_at, order_id) ──▶ EXPIRY  order.expiry.due  ──▶ pool reaper, own R

A schedule wakes the sweep in the second in which orders expire; it also comes by itself every few seconds, so a
lost wake-up costs seconds. The newest message of EXPIRY is the cursor of a relay that starts anew. When the reaper
has nothing left, the sweep looks from the beginning: an order that it passed by (committed late) is found then.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

import structlog

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream, OutMessage
from peakclip.messages import ExpiryDue, decode_expiry, encode
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query
from peakclip_worker.relay import store_all

log = structlog.get_logger()

BATCH: Final = 256
SWEEP_SECONDS: Final = 5.0


class Cursor(NamedTuple):
    """The last order that was put into EXPIRY."""

    expires_at: float  # epoch seconds
    order_id: str


BEGINNING: Final = Cursor(0.0, "00000000-0000-0000-0000-000000000000")


class Sweep:
    """Moves due orders until the service stops. `wake()` makes it look at once."""

    def __init__(self, js: JetStream, database: Any, every_seconds: float = SWEEP_SECONDS) -> None:
        self._js = js
        self._database = database
        self._every = every_seconds
        self._wanted = asyncio.Event()
        self._cursor: Cursor | None = None

    def wake(self) -> None:
        self._wanted.set()

    async def run(self, service: Service) -> None:
        stopping = asyncio.create_task(service.stopping.wait(), name="stop")
        stopping.add_done_callback(lambda _: self._wanted.set())
        try:
            while not service.stopping.is_set():
                self._wanted.clear()
                try:
                    await self.sweep()
                except (PeakclipError, *DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                    log.warning("sweep_retries", error=repr(exc))
                    await asyncio.sleep(0.5)
                    continue
                try:
                    async with asyncio.timeout(self._every):
                        await self._wanted.wait()
                except TimeoutError:
                    continue
        finally:
            stopping.cancel()

    async def sweep(self) -> int:
        """Puts every order that is due now, and not yet in the queue, into it. Returns how many."""
        # What is stored behind it is not known after a failure: the same again, with the same ids.
        self._cursor = cursor = await self._start()
        moved = 0
        while rows := await self._database.fetch(query("find_due_orders"), *cursor, BATCH):
            await store_all(self._js, [_due(row) for row in rows], patience_seconds=0)
            cursor = self._cursor = Cursor(rows[-1]["expires_at"], rows[-1]["order_id"])
            moved += len(rows)
        if moved:
            log.info("orders_due", orders=moved)
        return moved

    async def _start(self) -> Cursor:
        queue = await self._js.consumer_state(topology.EXPIRY, topology.REAPER_POOL)
        if queue.pending + queue.ack_pending == 0:
            return BEGINNING
        if self._cursor is None:
            newest = await self._js.last_message(topology.EXPIRY, topology.EXPIRY_SUBJECT)
            due = decode_expiry(newest.payload) if newest else None
            self._cursor = Cursor(due.expires_at, due.order_id) if due else BEGINNING
        return self._cursor


def _due(row: Any) -> OutMessage:
    """Its id keeps an order from being queued twice within the stream's window, whoever sweeps."""
    due = ExpiryDue(row["order_id"], row["expires_at"])
    return OutMessage(topology.EXPIRY_SUBJECT, encode(due), {"Nats-Msg-Id": f"{due.order_id}:due"})
