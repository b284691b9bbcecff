"""TCP links that a test can cut, slow down and blackhole: a proxy in its own loop for each process and server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

from peakclip.local.ports import LOOPBACK, free_port

_PIECE: Final = 64 * 1024


class Link:
    """Listens on `port` and connects to `target`, which may be told later. Unharmed until told otherwise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.target = 0
        self.passed = 0  # bytes, both ways together
        self.cuts = 0  # connections that were ended by us
        self.delay = 0.0  # seconds for each piece
        self.refusing = False
        self._cut_at: int | None = None  # of `passed`
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self.port = free_port()
        self._server = await asyncio.start_server(self._accepted, LOOPBACK, self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.heal()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # -- harm ----------------------------------------------------------------------------------------------

    def cut(self, after_bytes: int = 0) -> None:
        """Ends every connection, at once or in the middle of what passes after so many bytes."""
        if after_bytes:
            self._cut_at = self.passed + after_bytes
            return
        self._cut_at = None
        self.cuts += len(self._connections)
        for task in self._connections:
            task.cancel()

    def blackhole(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self.delay, self.refusing, self._cut_at = 0.0, False, None
        self._open.set()

    # -- traffic -------------------------------------------------------------------------------------------

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self.refusing:
            writer.transport.abort()
            return
        self._connections.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            back, far = await asyncio.open_connection(LOOPBACK, self.target)
            ways = [
                asyncio.create_task(self._pass(reader, far)),
                asyncio.create_task(self._pass(back, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the server is away, and the client learns it as it would without us
        except asyncio.CancelledError:
            pass  # cut: asyncio would say that nobody asked for the end of its handler
        finally:
            self._connections.discard(task)
            for one in (writer, far):
                if one is not None:
                    one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            if not self._open.is_set():
                await self._open.wait()
            if self.delay:
                await asyncio.sleep(self.delay)
            left = None if self._cut_at is None else self._cut_at - self.passed
            if left is not None and left <= len(piece):
                self.passed += left
                writer.write(piece[: max(0, left)])
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(0.1):  # or a reset would take back what was written
                        await writer.drain()
                self.cut()
                return
            self.passed += len(piece)
            writer.write(piece)
            await writer.drain()


@contextlib.asynccontextmanager
async def links(names: Iterable[str]) -> AsyncIterator[dict[str, Link]]:
    found = {name: Link(name) for name in names}
    try:
        for link in found.values():
            await link.start()
        yield found
    finally:
        for link in found.values():
            await link.close()
