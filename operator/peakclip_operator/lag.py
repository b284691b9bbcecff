"""Lag from the leaders of the consumer and its stream, through the authenticated JetStream interface."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from peakclip import topology
from peakclip.jetstream import JetStream
from peakclip_operator.plan import Lag

_LOOK_SECONDS = 1.0
_WAKE_UPS = "timer.expiry.*"  # topology.expiry_timer_subject
_MOVER = "relay"  # the consumer of TIMERS


class JetStreamLag:
    """Reads one consumer. Two requests at the same time, and a third for the age when anything waits.

    The consumer must get every message of its stream, as those of `topology.POOLS` do: arrivals are read from the
    stream's last sequence, the drain from the consumer's place in it, and a foreign message would count in both.
    A message that comes back for another attempt is an arrival like any other: it takes a start from R, too.
    """

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
            redelivered=consumer.redelivered,
            floor_seq=consumer.ack_floor_seq,
        )


class JetStreamDelayed:
    """Counts a pool's messages that wait in TIMERS for another attempt, and those due but not yet moved back.

    Looks at most once a second, whatever the tick: no worker is called for by it. What fires between the two looks may
    be counted twice or not at all, once.
    """

    def __init__(self, js: JetStream, pool: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._js = js
        self._pool = pool
        self._clock = clock
        self._seen: tuple[float, int] | None = None

    async def read(self) -> int:
        """Raises PeakclipError when it cannot be counted."""
        now = self._clock()
        if self._seen is None or now - self._seen[0] >= _LOOK_SECONDS:
            waiting, due = await asyncio.gather(self._waiting(), self._due())
            self._seen = (now, waiting + due)
        return self._seen[1]

    async def _waiting(self) -> int:
        return await self._js.count_messages(topology.TIMERS, topology.delayed_subject(self._pool, ">"))

    async def _due(self) -> int:
        """Moved ones stay in the stream for a while, so only what is above the relay's floor counts."""
        relay = await self._js.consumer_state(topology.TIMERS, _MOVER)
        left = relay.pending + relay.ack_pending  # of all pools, and the wake-ups for expiry
        if not left:
            return 0
        subject = topology.due_subject(self._pool)
        return min(left, await self._js.count_messages(topology.TIMERS, subject, relay.ack_floor_seq + 1))


class JetStreamScheduled:
    """Counts the seconds in which unpaid orders expire. At most once a second: they call for no worker yet."""

    def __init__(self, js: JetStream, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._js = js
        self._clock = clock
        self._seen: tuple[float, int] | None = None

    async def read(self) -> int:
        """Raises PeakclipError when it cannot be counted."""
        now = self._clock()
        if self._seen is None or now - self._seen[0] >= _LOOK_SECONDS:
            self._seen = (now, await self._js.count_messages(topology.TIMERS, _WAKE_UPS))
        return self._seen[1]
