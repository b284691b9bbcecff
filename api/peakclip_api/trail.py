"""Who follows which order: wakes them when the audit trail says that it holds more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg

from peakclip.jetstream import JetStream
from peakclip.notifications import decode_trail
from peakclip.topology import TRAIL
from peakclip_api.live import Reader

log = structlog.get_logger()


class Trail:
    """Create one per process; `start` after NATS is connected."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._readers: dict[str, set[Reader]] = {}  # by order
        self._source: Any = None

    async def start(self) -> None:
        self._source = await self._js.subscribe_core(TRAIL, self._received)

    @contextlib.contextmanager
    def followed(self, order_id: str, reader: Reader) -> Iterator[None]:
        readers = self._readers.setdefault(order_id, set())
        readers.add(reader)
        try:
            yield
        finally:
            readers.discard(reader)
            if not readers:
                self._readers.pop(order_id, None)

    async def _received(self, msg: Msg) -> None:
        try:
            versions = decode_trail(msg.data)
        except msgspec.DecodeError as exc:
            log.warning("trail_unreadable", error=str(exc))
            return
        for order_id, _ in versions:
            for reader in self._readers.get(order_id, ()):
                reader.look()
