"""Dead letters: written before the message is ended, so that a crash in between loses nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from peakclip import telemetry
from peakclip.jetstream import InMessage
from peakclip.store import query

log = structlog.get_logger()


async def write_dead_letter(database: Any, pool: str, message: InMessage, cause: str, attempts: int) -> None:
    """Stores the message with its cause. Writing it again replaces the cause and the attempts."""
    message_id = message.headers.get("Nats-Msg-Id") or f"{message.subject}:{message.seq}"
    headers = msgspec.json.encode(dict(message.headers)).decode()
    await database.execute(
        query("dead_letter"),
        message_id,
        pool,
        message.subject,
        headers,
        message.payload,
        cause[:2000],
        attempts,
    )
    telemetry.PROCESSED.labels(pool, "dead_letter").inc()
    log.error("dead_letter", message_id=message_id, cause=cause, attempts=attempts)
