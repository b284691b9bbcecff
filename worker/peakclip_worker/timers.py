"""What schedules deliver: the wake-up of the sweep, and messages whose next attempt is due.

A message that has waited goes back into its pool's own stream, where lag, limiter and acknowledgement are those of
every other message. It is stored there before the delivery is acknowledged, under an id of its attempt, so that a
repeat counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from peakclip import topology
from peakclip.errors import PeakclipError, RefusedError, UnavailableError
from peakclip.jetstream import InMessage, JetStream
from peakclip.pull import ack_or_let_go
from peakclip.service import Service
from peakclip_worker.dead_letters import attempt_id

log = structlog.get_logger()

FETCH: Final = 64
_RETRY: Final = f"{topology.TIMER_DUE}.retry."


class Timers:
    """Handles due schedules until the service stops."""

    def __init__(self, js: JetStream, wake_sweep: Callable[[], None]) -> None:
        self._js = js
        self._wake_sweep = wake_sweep
        self._pull = js.pull(topology.TIMERS, "relay")

    async def run(self, service: Service) -> None:
        while not service.stopping.is_set():
            try:
                for message in await self._pull.fetch(FETCH, 1.0):
                    await self._handle_or_leave(message)
            except PeakclipError as exc:  # what was not acknowledged comes again
                log.warning("timers_retry", error=repr(exc))
                await asyncio.sleep(0.2)
        with contextlib.suppress(UnavailableError):
            for message in self._pull.take_back():
                await message.nak()

    async def _handle_or_leave(self, message: InMessage) -> None:
        """A pool whose stream is full keeps no other waiting: what is refused comes again after ack_wait."""
        try:
            await self._handle(message)
        except RefusedError as exc:
            log.warning("timer_refused", subject=message.subject, error=str(exc))

    async def _handle(self, message: InMessage) -> None:
        if message.subject.startswith(_RETRY):
            pool = message.subject.removeprefix(_RETRY)
            headers = {key: value for key, value in message.headers.items() if not key.startswith("Nats-")}
            named = {topology.MESSAGE_ID_HEADER: str(message.seq), topology.ATTEMPT_HEADER: "1", **headers}
            subject = topology.retry_subject(pool)
            await self._js.publish(subject, message.payload, message_id=attempt_id(named), headers=headers)
        else:
            self._wake_sweep()
        await ack_or_let_go([message])
