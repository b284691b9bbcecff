"""The client of NATS with two defects of its `flush` repaired: one ends connections, the other makes it say nothing."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client


class RepairedClient(Client):
    """As the client, but a `flush` may be given up, and tells that the server has what was sent before."""

    async def _process_pong(self) -> None:
        """A flush that timed out or was cancelled leaves its finished future in the list. When the server's PONG comes
        after all, the client sets it once more, fails by that, and never again reads from the connection."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """The client writes its PING past everything that waits to be written. The PONG then came before the server
        knew of a new subscription, or knew that an old one had ended: requests were refused, or got lost."""
        if self.is_connected and self._pending and self._transport is not None:
            waiting, self._pending = self._pending, []
            self._pending_data_size = 0
            self._transport.writelines(waiting)
        await super()._send_ping(future)
