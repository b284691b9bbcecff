"""A sale's movements as STOCK holds them. What was read once is not read again: after an outage hundreds of groups have
to be settled, and each looks at all movements of half a minute."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import Final

import msgspec

from peakclip import topology
from peakclip.jetstream import JetStream, StoredMessage

MOST_KEPT: Final = 10_000  # movements of a sale
_seq: Final = attrgetter("seq")


class Movement(msgspec.Struct, frozen=True, gc=False):
    seq: int
    at: float  # epoch seconds of the server
    frame_id: str | None  # of the group that made it
    units: int


class StockLog:
    """Of one subject of STOCK. Movements are never changed, so what is kept stays true."""

    def __init__(self, js: JetStream, subject: str, units: Callable[[StoredMessage], int]) -> None:
        self._js = js
        self._subject = subject
        self._units = units
        self._kept: list[Movement] = []  # ascending, without a gap

    async def between(self, first_seq: int, end: float) -> list[Movement]:
        """From a sequence on, all that were stored before `end`, in epoch seconds of the server."""
        kept = self._kept
        if kept and first_seq > kept[-1].seq + 1:
            kept.clear()
        if kept and first_seq < kept[0].seq:
            kept[:0] = await self._before(first_seq, kept[0].seq)
        while not kept or kept[-1].at < end:
            newer = await self._next(kept[-1].seq + 1 if kept else first_seq)
            if newer is None:
                break
            kept.append(newer)
        found = [one for one in kept[bisect_left(kept, first_seq, key=_seq) :] if one.at < end]
        del kept[: max(0, len(kept) - MOST_KEPT)]
        return found

    async def _before(self, first_seq: int, end_seq: int) -> list[Movement]:
        found: list[Movement] = []
        while (one := await self._next(first_seq)) is not None and one.seq < end_seq:
            found.append(one)
            first_seq = one.seq + 1
        return found

    async def _next(self, seq: int) -> Movement | None:
        message = await self._js.message_from(topology.STOCK, seq, self._subject)
        if message is None:
            return None
        frame_id = message.headers.get(topology.FRAME_HEADER)
        return Movement(message.seq, message.at, frame_id, self._units(message))
