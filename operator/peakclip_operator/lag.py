"""Lag from the leaders of the consumer and its stream, through the authenticated JetStream interface."""

from __future__ import annotations

import asyncio

from peakclip.jetstream import JetStream
from peakclip_operator.plan import Lag


class JetStreamLag:
    """Reads one consumer. Two requests at the same time, and a third for the age when anything waits."""

    def __init__(self, js: JetStream, stream: str, consumer: str) -> None:
        self._js = js
        self._stream = stream
        self._consumer = consumer

    async def read(self) -> Lag:
        """Raises PeakclipError when JetStream does not answer or the consumer does not exist."""
        consumer, stream = await asyncio.gather(
            self._js.consumer_state(self._stream, self._consumer), self._js.stream_state(self._stream)
        )
        oldest: float | None = None
        if consumer.pending + consumer.ack_pending > 0:
            message = await self._js.message_from(self._stream, consumer.ack_floor_seq + 1)
            oldest = max(0.0, stream.server_time - message.at) if message else None
        return Lag(
            ready=consumer.pending,
            in_flight=consumer.ack_pending,
            last_seq=stream.last_seq,
            # The acknowledgement floor would stand still while one message waits for its retry.
            finished_seq=consumer.delivered_seq - consumer.ack_pending,
            oldest_seconds=oldest,
        )
