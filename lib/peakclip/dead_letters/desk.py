"""Where dead letters are worked on: PostgreSQL has them, JetStream gets back what is sent to work again.

    redrive   the message is stored under an id of this redrive ──▶ the row goes, unless it died again meanwhile

A crash in between leaves both: the next redrive stores nothing new, and the message is worked on once more, which a
pool recognises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from peakclip.dead_letters.letter import CannotRedriveError, Letter, redriven
from peakclip.errors import OutcomeUnknownError, PeakclipError, RefusedError, UnavailableError
from peakclip.jetstream import WRONG_LAST_SEQUENCE, JetStream, OutMessage
from peakclip.store import query

PAGE: Final = 100  # letters read, sent and removed at once: a frame may be some 100 kB
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one letter: `problem` None: what was asked for."""

    message_id: str
    problem: str | None = None


class Desk:
    """Needs a pool of connections to PostgreSQL, and for `redrive` a connection to JetStream."""

    def __init__(self, database: Any, js: JetStream | None = None) -> None:
        self._database = database
        self._js = js

    async def count(self, pool: str | None = None) -> int:
        rows = await self._database.fetch(query("count_dead_letters"))
        return sum(row["letters"] for row in rows if pool in (None, row["pool"]))

    async def newest(self, pool: str | None, most: int | None) -> list[Letter]:
        """Without headers and payloads."""
        rows = await self._database.fetch(query("newest_dead_letters"), pool, most)
        return [Letter(headers={}, payload=b"", **row) for row in rows]

    async def find(self, message_ids: Sequence[str]) -> dict[str, Letter]:
        """Those that exist, by their ids."""
        rows = await self._database.fetch(query("find_dead_letters"), list(message_ids))
        return {row["message_id"]: _letter(row) for row in rows}

    async def all(self, pool: str | None, until: datetime) -> AsyncIterator[list[Letter]]:
        """Pages of those that died until then, oldest first: what dies again meanwhile does not come twice."""
        cursor = (_BEGINNING, "")
        while rows := await self._database.fetch(query("next_dead_letters"), pool, until, *cursor, PAGE):
            yield [_letter(row) for row in rows]
            cursor = (rows[-1]["at"], rows[-1]["message_id"])

    async def now(self) -> datetime:
        """The database's clock, by which letters are dated."""
        at: datetime = await self._database.fetchval("select clock_timestamp()")
        return at

    async def redrive(self, letters: Sequence[Letter]) -> list[Done]:
        """Sends them back to work, each by itself; one that cannot be sent stays, with the reason."""
        done = await asyncio.gather(*(self._send(letter) for letter in letters))
        gone = [
            letter
            for letter, one in zip(letters, done, strict=True)
            if one.problem is None and not letter.is_delivery
        ]
        await self._database.execute(
            query("remove_dead_letters"), [one.message_id for one in gone], [one.at for one in gone]
        )
        return done

    async def _send(self, letter: Letter) -> Done:
        try:
            if letter.is_delivery:
                return await self._delivery("redrive_delivery", letter)
            await self._publish(redriven(letter))
        except CannotRedriveError as exc:
            return Done(letter.message_id, f"stays: {exc}")
        except PeakclipError as exc:
            return Done(letter.message_id, f"stays, since JetStream has not taken it: {exc}")
        return Done(letter.message_id)

    async def _publish(self, message: OutMessage) -> None:
        """The same until it is known to be stored: its id makes it count once."""
        if self._js is None:
            raise UnavailableError
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        while True:
            try:
                await self._js.publish(message.subject, message.payload, headers=message.headers)
            except RefusedError as exc:
                if exc.code != WRONG_LAST_SEQUENCE:  # that one says: this frame is there already
                    raise
            except (UnavailableError, OutcomeUnknownError):
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.2)
                continue
            return

    async def drop(self, letters: Sequence[Letter]) -> list[Done]:
        """Gives them up for good. What they were stays on record (`dropped_dead_letters`), the messages do not."""
        mine = [letter for letter in letters if not letter.is_delivery]
        given_up = [
            {
                "message_id": one.message_id,
                "at": one.at,
                "order_ids": [order.order_id for order in one.orders],
                "units": one.units,
            }
            for one in mine
        ]
        rows = await self._database.fetch(query("drop_dead_letters"), msgspec.json.encode(given_up).decode())
        dropped = {row["message_id"] for row in rows}
        return [
            await self._delivery("drop_delivery", letter)
            if letter.is_delivery
            else Done(
                letter.message_id, None if letter.message_id in dropped else "stays: it has just died again"
            )
            for letter in letters
        ]

    async def _delivery(self, statement: str, letter: Letter) -> Done:
        """A delivery's own row begins anew, or is given up; its dead letter goes in the same statement."""
        delivery_id = letter.message_id.partition(":")[2]
        if await self._database.fetchval(query(statement), delivery_id):
            return Done(letter.message_id)
        return Done(letter.message_id, "stays: there is no dead delivery of this id")


def _letter(row: Any) -> Letter:
    return Letter(**{**row, "headers": msgspec.json.decode(row["headers"], type=dict[str, str])})
