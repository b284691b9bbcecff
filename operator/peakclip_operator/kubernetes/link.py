"""The connection to NATS of all pools: made in the background, since a pool has something to say before it is there."""

from __future__ import annotations

import asyncio

from peakclip.jetstream import JetStream


class NatsLink:
    def __init__(self, url: str) -> None:
        self._url = url
        self.js: JetStream | None = None
        """None until NATS has answered for the first time; then it heals by itself."""

    def connected(self) -> JetStream | None:
        """None while it is away."""
        return self.js if self.js is not None and self.js.connected else None

    async def run(self) -> None:
        """Until it is cancelled."""
        self.js = await JetStream.connect(self._url, name="peakclip-operator")
        try:
            await asyncio.Event().wait()
        finally:
            await self.js.close()
