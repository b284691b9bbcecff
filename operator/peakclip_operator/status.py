"""The pool's status on Core NATS: the API's dashboard and /metrics/nats listen to it."""

from __future__ import annotations

from peakclip import topology
from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus, encode


class NatsStatus:
    def __init__(self, js: JetStream) -> None:
        self._js = js

    async def publish(self, status: PoolStatus) -> None:
        """At most once: the next tick repeats it."""
        await self._js.publish_core(f"{topology.POOL_STATUS}.{status.pool}", encode(status))
