"""What the workers of a pool say of themselves on Core NATS, once a second each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import nats.errors
import structlog

from peakclip import topology
from peakclip.errors import UnavailableError
from peakclip.jetstream import JetStream
from peakclip.messages import WorkerTelemetry
from peakclip_operator.heard import WorkersHeard
from peakclip_operator.ports import Telemetry

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = structlog.get_logger()

_decoder = msgspec.json.Decoder(WorkerTelemetry)


class NatsTelemetry:
    """Listens for the life of the connection; the subscription survives a restart of the server."""

    def __init__(self, js: JetStream, pool: str, *, clock: Callable[[], float] = time.time) -> None:
        self._js = js
        self._subject = f"{topology.WORKER_TELEMETRY}.{pool}.*"
        self._clock = clock
        self._heard = WorkersHeard(clock())
        self._subscription: Any = None

    async def listen(self) -> None:
        """Raises UnavailableError while disconnected."""
        try:
            self._subscription = await self._js.subscribe_core(self._subject, self._received)
        except (nats.errors.Error, OSError) as exc:
            raise UnavailableError from exc

    async def close(self) -> None:
        """Stops listening."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            # While disconnected the client drops it before it fails, and so does not bring it back.
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def read(self, now: float) -> Telemetry:
        return self._heard.report(now)

    async def _received(self, msg: Msg) -> None:
        try:
            word = _decoder.decode(msg.data)
        except msgspec.MsgspecError as exc:
            log.warning("telemetry_unreadable", subject=msg.subject, error=str(exc))
            return
        self._heard.hear(word, self._clock())
