"""Dead letters: written before the message is ended, so that a crash in between loses nothing.

Every one is told on `dlq.<pool>` (Core NATS: at most once, to whoever listens), and counted for `/metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
import structlog

from peakclip import telemetry, topology
from peakclip.errors import UnavailableError
from peakclip.jetstream import JetStream
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query

log = structlog.get_logger()

COUNT_SECONDS: Final = 5.0


class Message(Protocol):
    """What a dead letter keeps of a message, wherever it comes from."""

    @property
    def subject(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def seq(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Gone:
    """Stands for a message that its stream no longer has."""

    subject: str
    seq: int
    payload: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Notice(msgspec.Struct, frozen=True):
    """The word on `dlq.<pool>`."""

    message_id: str
    pool: str
    cause: str
    attempts: int
    at: datetime


def first_message_id(message: Message) -> str:
    """The id a message had at its first attempt; its place in the stream if it never had one."""
    headers = message.headers
    named = headers.get(topology.MESSAGE_ID_HEADER) or headers.get("Nats-Msg-Id")
    return named or f"{message.subject}:{message.seq}"


def first_subject(message: Message) -> str:
    return message.headers.get(topology.SUBJECT_HEADER, message.subject)


def attempt_id(headers: Mapping[str, str]) -> str:
    """The message id of an attempt. One after a redrive is another: the first life's may still be remembered."""
    first, attempt = headers[topology.MESSAGE_ID_HEADER], headers[topology.ATTEMPT_HEADER]
    redrive = headers.get(topology.REDRIVE_HEADER)
    return f"{first}:redrive:{redrive}:{attempt}" if redrive else f"{first}:{attempt}"


async def write_dead_letter(
    database: Any, js: JetStream, pool: str, message: Message, cause: str, attempts: int
) -> None:
    """Stores the message with its cause. Writing it again replaces the cause and the attempts."""
    await _write("dead_letter", database, js, pool, message, cause, attempts)


async def write_missing_dead_letter(
    database: Any, js: JetStream, pool: str, message: Message, cause: str, attempts: int
) -> None:
    """The same, unless the message has a dead letter already: that one knows more of the cause."""
    await _write("dead_letter_if_missing", database, js, pool, message, cause, attempts)


async def _write(
    statement: str, database: Any, js: JetStream, pool: str, message: Message, cause: str, attempts: int
) -> None:
    message_id = storable(first_message_id(message))
    headers = {storable(key): storable(value) for key, value in message.headers.items()}
    cause = storable(cause[:2000])
    at = await database.fetchval(
        query(statement),
        message_id,
        pool,
        storable(first_subject(message)),
        msgspec.json.encode(headers).decode(),
        message.payload,
        cause,
        attempts,
    )
    if at is None:
        return
    telemetry.PROCESSED.labels(pool, "dead_letter").inc()
    log.error("dead_letter", pool=pool, message_id=message_id, cause=cause, attempts=attempts)
    notice = Notice(message_id, pool, cause, attempts, at)
    with contextlib.suppress(UnavailableError):
        await js.publish_core(topology.dead_letter_subject(pool), msgspec.json.encode(notice))


class DeadLetterCounts:
    """Keeps `peakclip_dead_letters` as the database has it, whoever writes or removes them."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._pools = {topology.RELAY, *topology.POOLS}  # and every other one that ever had a dead letter

    async def run(self, service: Service) -> None:
        while not service.stopping.is_set():
            await self.count()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COUNT_SECONDS):
                    await service.stopping.wait()

    async def count(self) -> None:
        """One look. While the database is away the number is unknown (NaN), and not the one of before."""
        try:
            rows = await self._database.fetch(query("count_dead_letters"))
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            log.warning("dead_letters_not_counted", error=repr(exc))
            found = dict.fromkeys(self._pools, math.nan)
        else:
            found = {**dict.fromkeys(self._pools, 0), **{row["pool"]: row["letters"] for row in rows}}
        self._pools |= found.keys()
        for pool, letters in found.items():
            telemetry.DEAD_LETTERS.labels(pool).set(letters)


def storable(text: str) -> str:
    """What PostgreSQL takes as text: a dead letter must not fail for what made it one."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
