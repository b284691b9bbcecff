"""What the API knows of sales: kept in memory, refreshed behind the requests, so that a burst reads no database."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from peakclip.store import DATABASE_AWAY, query

FRESH_SECONDS: Final = 2.0
MISSING_SECONDS: Final = 0.5  # how long 'no such sale' is believed
MOST_REMEMBERED: Final = 10_000
# An id is also a part of NATS subjects, and PostgreSQL takes no NUL: anything else is no sale, and asks nobody.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Sale:
    sale_id: str
    tenant: str
    product: str
    price_cents: int
    initial: int
    available: int
    opens_at: datetime
    closes_at: datetime
    opens: float  # the same as epoch seconds, for the accept path
    closes: float
    per_customer_limit: int
    pay_within_seconds: int
    fingerprint: str


def sale_from_row(row: Any) -> Sale:
    return Sale(**row, opens=row["opens_at"].timestamp(), closes=row["closes_at"].timestamp())


class Sales:
    """Sales by id."""

    def __init__(self, pool: Any, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._known: dict[str, tuple[float, Sale | None]] = {}
        self._refreshing: dict[str, asyncio.Task[Sale | None]] = {}

    def remembered(self, sale_id: str) -> Sale | None:
        """The sale if it is known; a stale one is handed out and refreshed behind the caller's back."""
        found = self._known.get(sale_id)
        if found is None:
            return None
        if found[0] <= self._clock():
            self._refresh(sale_id)
        return found[1]

    async def get(self, sale_id: str) -> Sale | None:
        """None if there is no such sale. Raises what asyncpg raises while the database is away."""
        if not _ID.fullmatch(sale_id):
            return None
        found = self._known.get(sale_id)
        if found is not None and (found[1] is not None or found[0] > self._clock()):
            return self.remembered(sale_id)
        return await asyncio.shield(self._refresh(sale_id))

    async def fresh(self, sale_id: str) -> Sale | None:
        return await asyncio.shield(self._refresh(sale_id))

    def _refresh(self, sale_id: str) -> asyncio.Task[Sale | None]:
        task = self._refreshing.get(sale_id)
        if task is None:
            task = asyncio.create_task(self._load(sale_id))
            self._refreshing[sale_id] = task
            task.add_done_callback(lambda done: self._refreshed(sale_id, done))
        return task

    async def _load(self, sale_id: str) -> Sale | None:
        row = await self._pool.fetchrow(query("find_sale"), sale_id)
        sale = sale_from_row(row) if row else None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[sale_id] = (self._clock() + (FRESH_SECONDS if sale else MISSING_SECONDS), sale)
        return sale

    def _refreshed(self, sale_id: str, task: asyncio.Task[Sale | None]) -> None:
        self._refreshing.pop(sale_id, None)
        with contextlib.suppress(*DATABASE_AWAY, asyncio.CancelledError):
            task.result()  # a stale sale stays in use while the database is away
