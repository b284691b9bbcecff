"""Removes what is finished from INTAKE and the pools' streams, so that they never fill up with the past.

Finished means below the consumer's ack floor, and for a frame also that its reservation has been settled: the
reconciler reads a missing frame as one that was never published. STOCK is never purged: a counter lives in the last
message of its subject.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream, StreamState
from peakclip.service import Service

log = structlog.get_logger()

EVERY_SECONDS: Final = 30.0


def surplus_messages(state: StreamState, finished_seq: int, keep_bytes: int) -> int:
    """How many of the oldest finished messages are beyond `keep_bytes`, at the stream's mean message size."""
    if state.messages == 0:
        return 0
    mean_bytes = state.size_bytes / state.messages
    finished = max(0, min(finished_seq, state.last_seq) - state.first_seq + 1)
    return max(0, int(finished - keep_bytes / mean_bytes))


async def first_seq_since(
    low: int, high: int, since: float, stored_at: Callable[[int], Awaitable[float]]
) -> int:
    """The first sequence in [low, high] that was stored at or after `since`; `high` if none was. A binary search."""
    while low < high:
        middle = (low + high) // 2
        if await stored_at(middle) < since:
            low = middle + 1
        else:
            high = middle
    return low


class Janitor:
    """`settled_until` tells the time before which every reservation has been settled."""

    def __init__(
        self,
        js: JetStream,
        settled_until: Callable[[], float],
        keep_seconds: float,
        keep_bytes: int,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: epoch seconds."""
        self._clock = clock
        self._js = js
        self._settled_until = settled_until
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes

    async def run(self, service: Service) -> None:
        while not service.stopping.is_set():
            try:
                await self.clean(
                    topology.INTAKE, "relay", safe_until=self._settled_until(), now=self._clock()
                )
                await self._clean_timers()
                for pool in topology.POOLS.values():
                    await self.clean(pool.stream, pool.name, safe_until=self._clock(), now=self._clock())
            except PeakclipError as exc:
                log.warning("janitor_retries", error=repr(exc))
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await service.stopping.wait()
            except TimeoutError:
                continue

    async def _clean_timers(self) -> None:
        """What schedules have delivered is of no further use; schedules that wait in the same stream stay."""
        finished = (await self._js.consumer_state(topology.TIMERS, "relay")).ack_floor_seq
        if finished:
            await self._js.purge_below(topology.TIMERS, finished + 1, subject=f"{topology.TIMER_DUE}.>")

    async def clean(self, stream: str, consumer: str, *, safe_until: float, now: float) -> None:
        """Purges finished messages that are too old, or too many, and older than `safe_until` in any case."""
        state = await self._js.stream_state(stream)
        finished = (await self._js.consumer_state(stream, consumer)).ack_floor_seq
        if state.messages == 0 or finished < state.first_seq:
            return

        async def stored_at(seq: int) -> float:
            message = await self._js.message_from(stream, seq)
            return message.at if message is not None else now

        last = min(finished, state.last_seq) + 1
        too_old = await first_seq_since(state.first_seq, last, now - self._keep_seconds, stored_at)
        too_many = state.first_seq + surplus_messages(state, finished, self._keep_bytes)
        safe = await first_seq_since(state.first_seq, last, safe_until, stored_at)
        keep_from = min(max(too_old, too_many), safe)
        if keep_from > state.first_seq:
            await self._js.purge_below(stream, keep_from)
            log.info("purged", stream=stream, messages=keep_from - state.first_seq)
