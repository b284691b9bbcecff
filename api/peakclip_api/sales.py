"""What the API knows of sales."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from peakclip.store import query
from peakclip_api.known import Known
from peakclip_api.problems import Problem

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


def check_window(sale: Sale, now: float) -> None:
    """Raises Problem 425 or 410 outside the sale's window."""
    if now < sale.opens:
        wait = str(max(1, int(sale.opens - now + 1)))
        raise Problem(
            425,
            "sale-not-open",
            f"The sale opens at {sale.opens_at.isoformat()}.",
            headers={"Retry-After": wait},
        )
    if now >= sale.closes:
        raise Problem(410, "sale-closed", f"The sale closed at {sale.closes_at.isoformat()}.")


class Sales(Known[Sale]):
    """Sales by id."""

    def __init__(self, pool: Any, clock: Callable[[], float]) -> None:
        async def load(ids: Sequence[str]) -> dict[str, Sale]:
            rows = await pool.fetch(query("find_sales"), list(ids))
            return {row["sale_id"]: sale_from_row(row) for row in rows}

        super().__init__(load, clock)

    async def get(self, key: str) -> Sale | None:
        return await super().get(key) if _ID.fullmatch(key) else None
