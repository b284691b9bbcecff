"""Frames into single orders: INTAKE → SECKILL, off the accept path.

The id of an order's message is its place in the frame (`<frame>.<index>`), so a repeat by the relay is dropped by
JetStream, while a second admission of the same order reaches the database, which knows what to return
(docs/adr/0005).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from peakclip import topology, tracing
from peakclip.errors import OutcomeUnknownError, PeakclipError, RefusedError, UnavailableError
from peakclip.jetstream import DUPLICATE_IN_BATCH, InMessage, JetStream, OutMessage, StreamState
from peakclip.messages import Order, decode_order, split_frame
from peakclip.pull import ack_or_let_go
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT
from peakclip_worker.dead_letters import write_dead_letter

log = structlog.get_logger()

FRAMES_AT_ONCE: Final = 32
BATCH: Final = 256
# An atomic batch costs some 4 to 12 ms whatever its size, a plain message one fsync (0.5 to 2 ms).
PLAIN_UP_TO: Final = 4
# So few frames wait for company after a batch: while it is being made, accepting waits for the disk.
GATHER_SECONDS: Final = 0.05

# Accepting goes first: in the middle of a burst its frames may wait to be taken apart, while the queue behind is long.
ENOUGH_QUEUED: Final = 1_024  # orders; a drain of 10,000/s needs a tenth of a second for them
LONGEST_HOLD_SECONDS: Final = 5.0
HOLD_POLL_SECONDS: Final = 0.05
BUSY_BYTES_PER_SECOND: Final = 500_000  # by which INTAKE grows: some 2,000 orders/s


def may_wait(oldest_frame_seconds: float, queued: int, bytes_per_second: float) -> bool:
    """Whether taking frames apart can wait: accepting needs the machine, and the drain does not run dry meanwhile.

    As soon as accepting is no longer busy the frames are taken apart, so that the lag is told right.

    >>> may_wait(0.2, 5_000, 4e6), may_wait(0.2, 5_000, 1e4), may_wait(0.2, 100, 4e6), may_wait(5.0, 5_000, 4e6)
    (True, False, False, False)
    """
    busy = bytes_per_second >= BUSY_BYTES_PER_SECOND
    return busy and queued >= ENOUGH_QUEUED and oldest_frame_seconds < LONGEST_HOLD_SECONDS


class Growth:
    """How fast a stream grows, by the server's clock."""

    def __init__(self) -> None:
        self._at = 0.0
        self._size = 0

    def note(self, state: StreamState) -> float:
        """Bytes per second since the last look; 0 at the first."""
        seconds, added = state.server_time - self._at, state.size_bytes - self._size
        first, self._at, self._size = self._at == 0, state.server_time, state.size_bytes
        return 0.0 if first or seconds <= 0 else added / seconds


class Relay:
    """Takes frames apart until the service stops."""

    def __init__(self, js: JetStream, database: Any, *, clock: Callable[[], float] = time.time) -> None:
        """`clock`: epoch seconds."""
        self._js = js
        self._database = database
        self._clock = clock
        self._pull = js.pull(topology.INTAKE, "relay")
        self._growth = Growth()

    async def run(self, service: Service) -> None:
        frames: list[InMessage] = []
        while not service.stopping.is_set():
            try:
                # What could not be stored stays in hand: left alone, it would come again only after ack_wait.
                frames = frames or await self._pull.fetch(FRAMES_AT_ONCE, 1.0)
                if frames:
                    await self._let_accepting_go_first(frames[0].stored_at)
                    await self._relay(frames)
                    if len(frames) < FRAMES_AT_ONCE:
                        await asyncio.sleep(GATHER_SECONDS)
                    frames = []
            except (PeakclipError, *DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                log.warning("relay_retries", error=repr(exc))
                await asyncio.sleep(0.2)
        with contextlib.suppress(UnavailableError):
            for frame in [*frames, *self._pull.take_back()]:
                await frame.nak()

    async def _let_accepting_go_first(self, stored_at: float) -> None:
        while True:
            queue = await self._js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
            growth = self._growth.note(await self._js.stream_state(topology.INTAKE))
            if not may_wait(self._clock() - stored_at, queue.pending + queue.ack_pending, growth):
                return
            await asyncio.sleep(HOLD_POLL_SECONDS)

    async def _relay(self, frames: Sequence[InMessage]) -> None:
        orders: list[OutMessage] = []
        for frame in frames:
            try:
                orders += take_apart(frame)
            except msgspec.MsgspecError as exc:
                cause = f"unreadable frame: {exc}"
                await write_dead_letter(self._database, self._js, topology.RELAY, frame, cause, 1)
        contexts = (order.headers.get(tracing.TRACEPARENT, "") for order in orders)
        with tracing.span("relay orders", kind="producer", links=contexts) as span:
            span.set("messaging.batch.message_count", len(orders))
            for first in range(0, len(orders), BATCH):
                await store_all(self._js, orders[first : first + BATCH])
            await asyncio.gather(*(self._finished(frame) for frame in frames))

    @staticmethod
    async def _finished(frame: InMessage) -> None:
        """A frame whose word is lost is let go, not kept in hand: a server that was killed may not know that it ever
        gave it out, and then answers nothing, however often it is told. It comes again, and its orders are known."""
        try:
            await ack_or_let_go([frame])
        except PeakclipError as exc:
            log.warning("frame_comes_again", frame=frame.subject, error=repr(exc))


def take_apart(frame: InMessage) -> list[OutMessage]:
    """The orders of a frame as messages of their own. A fence (no orders) gives none."""
    if frame.headers.get(topology.FRAME_ORDERS_HEADER) == "0":
        return []
    frame_id = frame.subject.partition(".")[2]
    return [
        _out(decode_order(line), line, f"{frame_id}.{index}", frame_id)
        for index, line in enumerate(split_frame(frame.payload))
    ]


def _out(order: Order, line: bytes, message_id: str, frame_id: str) -> OutMessage:
    headers = {"Nats-Msg-Id": message_id, topology.FRAME_HEADER: frame_id}
    if order.traceparent and (context := tracing.parse(order.traceparent)):
        headers[tracing.TRACEPARENT] = context
    return OutMessage(topology.line_subject(order.sale_id), line, headers)


async def store_all(js: JetStream, messages: Sequence[OutMessage], *, patience_seconds: float = 20.0) -> None:
    """Stores every message once, in order, by its message id. Messages must belong to one stream.

    Retries what is unknown or unavailable for `patience_seconds`, then raises what stood in the way.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    singly = len(messages) <= PLAIN_UP_TO
    while True:
        try:
            if singly:
                for message in messages:
                    await js.publish(message.subject, message.payload, headers=message.headers)
            else:
                await js.publish_batch(messages)
            return
        except RefusedError as exc:
            if exc.code == DUPLICATE_IN_BATCH:
                singly = True  # the error names nobody: each alone, and a duplicate counts as stored
                continue
            if loop.time() > deadline:
                raise
            log.warning("store_refused", error=str(exc))
        except (UnavailableError, OutcomeUnknownError):
            if loop.time() > deadline:
                raise
        await asyncio.sleep(0.1)
