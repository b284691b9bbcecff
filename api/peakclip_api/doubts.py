"""Orders of which nobody knows whether they are stored: the log that all processes share has the answer.

Until it has been read they count as being stored. Or their customer could order once more what they may have already,
and be told 202 for an order that the database rejects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from peakclip.errors import PeakclipError
from peakclip.messages import Order
from peakclip_api.line import Follower

log = structlog.get_logger()

_RETRY_SECONDS: Final = 0.2


class Doubts:
    """`settled` is told of each order once the line holds it, if it is stored."""

    def __init__(self, follower: Follower, settled: Callable[[Order], None]) -> None:
        self._follower = follower
        self._settled = settled
        self._open: list[Order] = []
        self._looking: asyncio.Task[None] | None = None

    def add(self, order: Order) -> None:
        self._open.append(order)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="settle-doubts")

    async def _look(self) -> None:
        while self._open:
            together, self._open = self._open, []
            await self._up_to_date(len(together))
            for order in together:
                self._settled(order)

    async def _up_to_date(self, orders: int) -> None:
        while True:
            try:
                return await self._follower.up_to_date()
            except PeakclipError as exc:
                log.debug("orders_in_doubt", orders=orders, error=repr(exc))
            await asyncio.sleep(_RETRY_SECONDS)
