"""The pool `reaper`: cancels what is unpaid and due, and gives its stock back, a batch in one transaction.

The relay's sweep says which orders are due; `expire_orders` in the database decides whether each still is. A repeat,
or a payment that came first, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peakclip import telemetry, topology
from peakclip.jetstream import InMessage
from peakclip.messages import ExpiryDue, decode_expiry
from peakclip.store import query


class ExpireOrders:
    """Needs a database pool."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self, message: InMessage) -> ExpiryDue:
        return decode_expiry(message.payload)

    async def commit(self, items: Sequence[tuple[ExpiryDue, InMessage]], started_at: float) -> None:
        row = await self._database.fetchrow(query("expire_orders"), [due.order_id for due, _ in items])
        for outcome in ("expired", "kept"):
            if row[outcome]:
                telemetry.PROCESSED.labels(topology.REAPER_POOL, outcome).inc(row[outcome])
