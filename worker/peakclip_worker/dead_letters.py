"""Dead letters: written before the message is ended, so that a crash in between loses nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from peakclip import telemetry, topology
from peakclip.jetstream import InMessage
from peakclip.store import query

log = structlog.get_logger()


def first_message_id(message: InMessage) -> str:
    """The id a message had at its first attempt; its place in the stream if it never had one."""
    headers = message.headers
    named = headers.get(topology.MESSAGE_ID_HEADER) or headers.get("Nats-Msg-Id")
    return named or f"{message.subject}:{message.seq}"


def first_subject(message: InMessage) -> str:
    return message.headers.get(topology.SUBJECT_HEADER, message.subject)


async def write_dead_letter(database: Any, pool: str, message: InMessage, cause: str, attempts: int) -> None:
    """Stores the message with its cause. Writing it again replaces the cause and the attempts."""
    message_id = first_message_id(message)
    headers = {_storable(key): _storable(value) for key, value in message.headers.items()}
    await database.execute(
        query("dead_letter"),
        _storable(message_id),
        pool,
        _storable(first_subject(message)),
        msgspec.json.encode(headers).decode(),
        message.payload,
        _storable(cause[:2000]),
        attempts,
    )
    telemetry.PROCESSED.labels(pool, "dead_letter").inc()
    log.error("dead_letter", message_id=message_id, cause=cause, attempts=attempts)


def _storable(text: str) -> str:
    """What PostgreSQL takes as text: a dead letter must not fail for what made it one."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
