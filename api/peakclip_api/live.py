"""What every stream over a table needs: readers that are woken by hints, and end in time.

    Core NATS says that something is new ─▶ Reader.look() ─▶ the route reads the table and sends

Hints may be lost, late or twice, and nothing depends on them but speed: a reader also looks by itself every now and
then, and when the connection to NATS is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Final

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from peakclip.jetstream import JetStream
from peakclip_api.deadline import without_end
from peakclip_api.routes.dashboard import RETRY_MS, SECURITY_HEADERS

HEARTBEAT_SECONDS: Final = 10.0  # below the idle time-out of common proxies
SEND_TIMEOUT_SECONDS: Final = 30.0  # a client that takes nothing for so long is cut off; it may come back
LOOK_SECONDS: Final = 15.0  # a lost hint costs as much
LONGEST_SECONDS: Final = 900.0  # then a client comes back, with a credential that is still good
MOST_OF_ONE: Final = 16  # streams of one user in a process; one more ends the first
_GENERATION_SECONDS: Final = 0.5


class Reader:
    """One open stream. `behind`: the table may hold something that was not sent yet."""

    def __init__(self) -> None:
        self.behind = True
        self.ended = False
        self._wake = asyncio.Event()

    def look(self) -> None:
        self.behind = True
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    def end(self) -> None:
        self.ended = True
        self._wake.set()

    async def wait(self, seconds: float = LOOK_SECONDS) -> None:
        """Until woken or ended. After `seconds`, give or take a fifth, it is time to look."""
        try:
            async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):
                await self._wake.wait()
        except TimeoutError:
            self.behind = True
        self._wake.clear()


class Readers:
    """All open streams of this process, by whose they are."""

    def __init__(self) -> None:
        self._of: dict[Hashable, dict[Reader, None]] = {}
        self._ended = False

    @property
    def count(self) -> int:
        return sum(map(len, self._of.values()))

    @contextlib.contextmanager
    def entered(self, owner: Hashable, reader: Reader) -> Iterator[None]:
        """Not refused but the oldest ended: what a lost connection has left behind takes nobody's place."""
        mine = self._of.setdefault(owner, {})
        living = [one for one in mine if not one.ended]
        if len(living) >= MOST_OF_ONE:
            living[0].end()
        mine[reader] = None
        if self._ended:
            reader.end()
        try:
            yield
        finally:
            mine.pop(reader, None)
            if not mine:
                self._of.pop(owner, None)

    def end_all(self) -> None:
        """The application is about to shut down."""
        self._ended = True
        for reader in self._all():
            reader.end()

    def look_all(self) -> None:
        for reader in self._all():
            reader.look()

    def _all(self) -> list[Reader]:
        return [reader for mine in self._of.values() for reader in mine]

    async def run(self, js: JetStream) -> None:
        """Makes all look again after each reconnection: what was said meanwhile was said to nobody."""
        generation = js.generation
        while True:
            await asyncio.sleep(_GENERATION_SECONDS)
            if js.generation != generation:
                generation = js.generation
                self.look_all()


async def serve(
    request: web.Request, reader: Reader, send: Callable[[EventSourceResponse], Awaitable[None]]
) -> web.StreamResponse:
    """Begins the answer at once and lets `send` write events until the reader ends."""
    response = EventSourceResponse(
        headers={**SECURITY_HEADERS, "Cache-Control": "no-store"},
        sep="\n",
        ping_interval=HEARTBEAT_SECONDS,
        send_timeout=SEND_TIMEOUT_SECONDS,
    )
    without_end(request)
    # All at the same time would come back at the same time.
    age = asyncio.get_running_loop().call_later(LONGEST_SECONDS * random.uniform(0.8, 1.0), reader.end)
    try:
        await response.prepare(request)
        async with response:
            gone = asyncio.create_task(response.wait(), name="stream_heartbeat")
            gone.add_done_callback(lambda _: reader.end())
            await response.write(
                f"retry: {RETRY_MS}\n\n".encode()
            )  # headers alone would wait for a first event
            await send(response)
    except (ConnectionError, TimeoutError):
        pass  # the reader went away
    finally:
        age.cancel()
    return response
