"""Units taken off the admission counter while the database changes a sale's stock, so that nobody buys them meanwhile.

A hold is a reservation like that of a group of orders (docs/adr/0006), of a frame that never comes. So if the process
dies, the reconciler returns the units. The change itself reaches the counter by the outbox:

    hold -d   ─▶   row: stock -d, outbox: -d   ─▶   counter -d   ─▶   hold +d

Without it, stock could be cut below what was promised to those who stand in line.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.ingest import new_frame_id
from peakclip.jetstream import JetStream

log = structlog.get_logger()


class Hold:
    """`units` of one sale."""

    def __init__(
        self,
        js: JetStream,
        sale_id: str,
        units: int,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_frame_id,
    ) -> None:
        self._js = js
        self._sale_id = sale_id
        self._units = units
        self._frame_id = new_id()
        self._reserved_at = clock()

    async def take(self) -> bool:
        """Whether so many units were on offer. Raises what a publication raises; whatever was taken comes back."""
        if self._units == 0:
            return True
        taken = await self._js.increment(
            topology.stock_subject(self._sale_id),
            -self._units,
            message_id=f"{topology.RESERVATION}-{self._frame_id}-{self._sale_id}",
            headers={topology.FRAME_HEADER: self._frame_id},
        )
        if (taken.value or 0) >= 0:
            return True
        await self.release()
        return False

    async def release(self) -> None:
        """Gives the units back. If that fails, the reconciler does."""
        if self._units == 0:
            return
        try:
            await self._js.increment(
                topology.stock_subject(self._sale_id),
                self._units,
                message_id=f"b-{self._frame_id}-{self._sale_id}",
                headers={
                    topology.FRAME_HEADER: self._frame_id,
                    topology.RESERVED_AT_HEADER: str(self._reserved_at),
                },
            )
        except PeakclipError as exc:
            log.warning("hold_left_to_reconciler", sale=self._sale_id, units=self._units, error=repr(exc))
