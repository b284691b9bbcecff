"""Changes of a sale that may concern its stock: the row, and through the outbox the admission counter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.ingest import GROUP_DEADLINE_SECONDS, new_frame_id
from peakclip.jetstream import JetStream
from peakclip.store import query
from peakclip_api.hold import Hold
from peakclip_api.problems import Problem, invalid, retry_later
from peakclip_api.sales import Sale, Sales

log = structlog.get_logger()

TRIES: Final = 10  # while others change the same sale's stock


class Stock:
    """What an admin does to a sale. A change of stock is on offer when the call returns, if NATS answers."""

    def __init__(
        self,
        js: JetStream,
        pool: Any,
        sales: Sales,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_frame_id,
    ) -> None:
        self._js = js
        self._clock = clock
        self._new_id = new_id
        self._pool = pool
        self._sales = sales

    async def offer(self, sale_id: str, units: int, message_id: str) -> bool:
        """Moves the counter now. The outbox does the same with the same message id, so that it counts once."""
        if units == 0:
            return True
        try:
            await self._js.increment(topology.stock_subject(sale_id), units, message_id=message_id)
        except PeakclipError as exc:
            log.warning("stock_offer_left_to_outbox", sale=sale_id, error=repr(exc))
            return False
        return True

    async def change(self, sale: Sale, changes: dict[str, Any], stock: int | None) -> Sale | None:
        """`changes` by column; `stock` is the whole new stock. None if the sale is gone. Raises Problem 409, 422."""
        body = msgspec.json.encode(changes).decode()
        for _ in range(TRIES):
            now = await self._sales.fresh(sale.sale_id)
            if now is None:
                return None
            units = 0 if stock is None else stock - now.initial
            if await self._try_change(now, body, units):
                return await self._sales.fresh(sale.sale_id)
        raise retry_later("database-unavailable", "Others change this sale all the time; retry.")

    async def _try_change(self, sale: Sale, body: str, units: int) -> bool:
        """False if the stock has changed meanwhile."""
        hold = self._hold(sale.sale_id, max(0, -units))
        if sale.available + units < 0 or not await hold.take():
            raise Problem(
                409, "stock-below-taken", "More units than that are sold, reserved or asked for in line."
            )
        message_id = f"p-{sale.sale_id}-{self._new_id()}"
        try:
            changed = await self._in_time(
                query("change_sale"), sale.sale_id, sale.tenant, body, sale.initial, units, message_id
            )
        except asyncpg.CheckViolationError:  # another change came in between, and the two do not fit together
            await hold.release()
            raise invalid("closes_at", "must be later than opens_at") from None
        # Were the hold given back before the change has reached the counter, others could take the units twice.
        if not changed or await self.offer(sale.sale_id, units, message_id):
            await hold.release()
        return changed is not None

    async def remove(self, sale: Sale) -> bool:
        """False if it was gone. Raises Problem 409 if anybody has ordered, even if they stand in line still."""
        for _ in range(TRIES):
            now = await self._sales.fresh(sale.sale_id)
            if now is None:
                return False
            hold = self._hold(sale.sale_id, now.initial)
            if now.available < now.initial or not await hold.take():
                raise _has_orders()
            outcome = await self._in_time(query("remove_sale"), sale.sale_id, sale.tenant, now.initial)
            if outcome != "removed" or await self.offer(sale.sale_id, -now.initial, f"d-{sale.sale_id}"):
                await hold.release()
            await self._sales.fresh(sale.sale_id)
            if outcome == "has-orders":
                raise _has_orders()
            if outcome != "changed":
                return bool(outcome == "removed")
        raise retry_later("database-unavailable", "Others change this sale all the time; retry.")

    def _hold(self, sale_id: str, units: int) -> Hold:
        return Hold(self._js, sale_id, units, clock=self._clock, new_id=self._new_id)

    async def _in_time(self, statement: str, *arguments: Any) -> Any:
        """A hold is returned by the reconciler some time, so the change is made before that, or never."""
        async with asyncio.timeout(GROUP_DEADLINE_SECONDS):
            return await self._pool.fetchval(statement, *arguments)


def _has_orders() -> Problem:
    return Problem(409, "sale-has-orders", "Somebody has ordered from this sale, so it stays.")
