"""The client of NATS with a defect repaired that ends connections."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client


class RepairedClient(Client):
    """As the client, but a `flush` may be given up."""

    async def _process_pong(self) -> None:
        """A flush that timed out or was cancelled leaves its finished future in the list. When the server's PONG comes
        after all, the client sets it once more, fails by that, and never again reads from the connection."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
