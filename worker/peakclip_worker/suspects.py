"""Messages that may have ended their workers: worked on alone, and on record while they are.

    given out once more         it may have been in the batch that killed a worker: alone from now on
    and once more               it is written down before it is begun, and struck out when it has ended, well or not
    begun three times, no end   it is what ends them: a dead letter

Only a worker that dies with a message leaves it on record; one that waited behind it, or was given back by a worker
that was told to stop, has not been begun, however often it was given out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from peakclip.jetstream import InMessage
from peakclip.store import query
from peakclip_worker.dead_letters import first_message_id, storable

ALONE_FROM: Final = 2  # times given out
ON_RECORD_FROM: Final = 3  # a commit before and one after: not for everything that a lost worker had in hand
MOST_BEGUN: Final = 3


class Record:
    """What a pool's workers have begun alone and not ended."""

    def __init__(self, database: Any, pool: str) -> None:
        self._database = database
        self._pool = pool
        self._mine: set[int] = set()  # stream sequences: held and tried again in this process is begun once

    async def begin(self, message: InMessage) -> int:
        """How often it has been begun without an end, this time included; 0 if it needs no record."""
        if message.delivered < ON_RECORD_FROM or message.seq in self._mine:
            return 0
        begun: int = await self._database.fetchval(query("begin_alone"), self._pool, _name(message))
        self._mine.add(message.seq)
        return begun

    async def end(self, message: InMessage) -> None:
        if message.seq in self._mine:
            await self._database.execute(query("end_alone"), self._pool, _name(message))
            self._mine.discard(message.seq)


def _name(message: InMessage) -> str:
    return storable(first_message_id(message))


def in_turn(suspects: Sequence[InMessage]) -> list[InMessage]:
    """Another order each time they are given out, so that nobody waits for ever behind one that ends workers."""
    return sorted(suspects, key=_place)


def _place(message: InMessage) -> bytes:
    return hashlib.blake2b(f"{message.seq}:{message.delivered}".encode(), digest_size=8).digest()
