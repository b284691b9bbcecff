"""The net under the dead letters: messages that JetStream gave up on, or was told to end, without a word from us.

A pool makes a dead letter of what it cannot work on long before `max_deliver`, so nothing should ever arrive here; a
batch that kills every worker that touches it, or a consumer that somebody else configured, would. The advisory names
the message, the message is still in its stream, and both together are a dead letter; one that is there already stays
as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import msgspec
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError, UnavailableError
from peakclip.jetstream import InMessage, JetStream
from peakclip.pull import ack_or_let_go
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT
from peakclip_worker.dead_letters import Gone, Message, write_missing_dead_letter

log = structlog.get_logger()

FETCH: Final = 64
_MAX_DELIVERIES: Final = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."


class Advisory(msgspec.Struct, frozen=True):
    """What the server says, as far as it is needed here."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int
    reason: str = ""


class Advisories:
    """Turns advisories into dead letters until the service stops."""

    def __init__(self, js: JetStream, database: Any) -> None:
        self._js = js
        self._database = database
        self._pull = js.pull(topology.ADVISORIES, topology.RELAY)

    async def run(self, service: Service) -> None:
        in_hand: list[InMessage] = []
        while not service.stopping.is_set():
            try:
                in_hand = in_hand or await self._pull.fetch(FETCH, 1.0)
                while in_hand:
                    await self.handle(in_hand[0])
                    del in_hand[0]
            except (PeakclipError, *DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                log.warning("advisories_retry", error=repr(exc))
                await asyncio.sleep(0.5)
        with contextlib.suppress(UnavailableError):
            for message in [*in_hand, *self._pull.take_back()]:
                await message.nak()

    async def handle(self, message: InMessage) -> None:
        """The row first, then the acknowledgement; a repeat finds the row."""
        try:
            advisory = msgspec.json.decode(message.payload, type=Advisory)
        except msgspec.MsgspecError as exc:
            log.error("advisory_unreadable", subject=message.subject, error=str(exc))
        else:
            pool = topology.pool_of(advisory.stream, advisory.consumer)
            if pool is not None:
                lost = await self._find(advisory)
                cause = cause_of(message.subject, advisory, gone=isinstance(lost, Gone))
                await write_missing_dead_letter(
                    self._database, self._js, pool, lost, cause, max(1, advisory.deliveries)
                )
        try:
            await ack_or_let_go([message])
        except PeakclipError as exc:
            log.warning("advisory_comes_again", error=repr(exc))

    async def _find(self, advisory: Advisory) -> Message:
        stored = await self._js.message_from(advisory.stream, advisory.stream_seq)
        if stored is not None and stored.seq == advisory.stream_seq:
            return stored
        return Gone(topology.gone_subject(advisory.stream, advisory.consumer), advisory.stream_seq)


def cause_of(subject: str, advisory: Advisory, *, gone: bool) -> str:
    """In words, for whoever reads the dead letter."""
    if subject.startswith(_MAX_DELIVERIES):
        cause = f"max-deliveries: given out {advisory.deliveries} times and never finished"
    else:
        cause = f"terminated: {advisory.reason or 'whoever ended it gave no reason'}"
    return f"{cause}; {advisory.stream} no longer had the message" if gone else cause
