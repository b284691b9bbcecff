"""What clients may hold: how many connections, for how long a request may arrive, and for how long an answer may leave.

A process has so many connections and no more. One more than that ends the connection that has been idle for longest,
as nginx does; if all are busy, it is told 503. Who sends or reads byte by byte is looked at once a second, a few
connections at a time, so that thousands of them are no pause for the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from peakclip import telemetry
from peakclip_api.problems import Problem, retry_later

Message = tuple[RawRequestMessage, StreamReader]
Fed = tuple[Sequence[Message], bool, bytes]

ROUND_SECONDS: Final = 1.0  # in which each connection is looked at once
_SLICES: Final = 20
_LAST: Final = b"Connection: close\r\n"
_MOST_REFUSED: Final = 256  # connections that are open only to be told that there are too many


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes. Their reasons are in `settings.py`."""

    connections: int = 10_000
    receive: float = 10.0  # a request, from its first byte to its last; and a new connection's first
    send: float = 30.0  # an answer
    head: int = 16_384  # request line and headers


class SlowRequestError(Problem, TimeoutError):
    """The body did not arrive in time. A TimeoutError for aiohttp, which then ends the connection without a word."""


def too_slow(seconds: float) -> SlowRequestError:
    detail = f"The request did not arrive within {seconds:g} s."
    return SlowRequestError(408, "request-timeout", detail, closes=True)


class Guard:
    """What the connections of a process share."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._loop = asyncio.get_running_loop()
        self._open: dict[GuardedConnection, asyncio.Transport] = {}
        self._refused: dict[GuardedConnection, asyncio.Transport] = {}
        self._idle: deque[GuardedConnection] = deque()  # as of the last round, the longest idle first
        self.too_many = retry_later("too-busy", "There are too many connections; retry.").raw(_LAST)
        self.too_slow = too_slow(self.limits.receive).raw(_LAST)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, one: GuardedConnection, transport: asyncio.Transport) -> bool:
        """Whether there is room for a new connection. If not, it stays only for as long as it takes to say so."""
        if len(self._open) < self.limits.connections or self._ends_an_idle_one():
            self._open[one] = transport
            return True
        telemetry.HTTP_ENDED.labels("too_many").inc()
        self._refused[one] = transport
        if len(self._refused) > _MOST_REFUSED:
            oldest = next(iter(self._refused))
            self._refused.pop(oldest).abort()
        return False

    def _ends_an_idle_one(self) -> bool:
        while self._idle:
            one = self._idle.popleft()
            if one in self._open and one.is_idle:
                del self._open[one]
                telemetry.HTTP_ENDED.labels("idle").inc()
                one.force_close()
                return True
        return False

    def left(self, one: GuardedConnection) -> None:
        self._open.pop(one, None)
        self._refused.pop(one, None)

    async def run(self) -> None:
        """For the life of the process."""
        while True:
            await self.look_at_all(ROUND_SECONDS)

    async def look_at_all(self, seconds: float) -> None:
        """One round over all connections, spread over so many seconds."""
        telemetry.HTTP_CONNECTIONS.set(len(self._open))
        for transport in [*self._refused.values()]:
            transport.abort()  # it was told, or has said nothing for a round
        everybody = [*self._open.items()]
        end = self._loop.time() + seconds
        many = -(-len(everybody) // _SLICES) or 1
        idle: list[tuple[float, int, GuardedConnection]] = []
        for start in range(0, len(everybody), many):
            now = self._loop.time()
            for number, (one, transport) in enumerate(everybody[start : start + many], start):
                one.look(now, transport)
                if one.is_idle:
                    idle.append((one.last_request, number, one))
            await asyncio.sleep(seconds / _SLICES)
        self._idle = deque(one for _, _, one in sorted(idle))
        await asyncio.sleep(max(0.0, end - self._loop.time()))


class Sieve:
    """Stands before a connection's parser, so that the connection sees what arrives and what came of it."""

    def __init__(self, parser: Any, connection: GuardedConnection) -> None:
        self._parser = parser
        self._connection = connection
        self.message_consumed = parser.message_consumed

    def feed_data(self, data: bytes) -> Fed:
        return self._connection.fed(self._parser, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class GuardedConnection(web.RequestHandler):
    """A client's connection, within limits."""

    __slots__ = (
        "_body_arriving",
        "_guard",
        "_head_bytes",
        "_is_refused",
        "_since",
        "_unsent_since",
        "last_request",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        guard: Guard | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **settings)
        self._guard = Guard() if guard is None else guard
        self._is_refused = False
        self._body_arriving: StreamReader | None = None
        self._head_bytes = 0  # of a request whose head is not complete
        self._since = 0.0  # loop time of the first byte of a request that is not complete; 0: there is none
        self._unsent_since = 0.0
        self.last_request = loop.time()
        self._parser: Any = Sieve(self._parser, self)

    # -- life ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        here = cast("asyncio.Transport", transport)
        self._since = self._loop.time()
        if self._guard.enter(self, here):
            super().connection_made(transport)
        else:
            self._is_refused = True
            self.transport = here

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)
        elif self.transport is not None:  # now that nothing is left unread, what is written will arrive
            self.transport.write(self._guard.too_many)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._guard.left(self)
        super().connection_lost(exc)

    # -- what arrives --------------------------------------------------------------------------------------

    def fed(self, parser: Any, data: bytes) -> Fed:
        """Parses what has arrived. Raises what the parser raises, and LineTooLong for a head without end."""
        found: Fed = parser.feed_data(data)
        if found[0]:
            body = found[0][-1][1]
            self._head_bytes = 0
            self.last_request = self._loop.time()
            if body.is_eof():
                self._since, self._body_arriving = 0.0, None
            else:
                self._since, self._body_arriving = self.last_request, body
        elif data and self._body_arriving is None:
            self._since = self._since or self._loop.time()
            self._head_bytes += len(data)
            if self._head_bytes > self._guard.limits.head:
                raise LineTooLong("request head", self._guard.limits.head)
        elif self._body_arriving is not None and self._body_arriving.is_eof():
            self._since, self._body_arriving = 0.0, None
        return found

    @property
    def is_idle(self) -> bool:
        """Between two requests."""
        return self._waiter is not None and not self._waiter.done() and not self._since

    # -- what takes too long -------------------------------------------------------------------------------

    def look(self, now: float, transport: asyncio.Transport) -> None:
        """Ends what takes too long: an answer that nobody reads, a request that does not come to its end."""
        limits = self._guard.limits
        if not transport.get_write_buffer_size():
            self._unsent_since = 0.0
        elif not self._unsent_since:
            self._unsent_since = now
        elif now - self._unsent_since >= limits.send:
            telemetry.HTTP_ENDED.labels("slow_reader").inc()
            transport.abort()
            return
        if self._since and now - self._since >= limits.receive:
            self._arrives_too_slowly(now)

    def _arrives_too_slowly(self, now: float) -> None:
        if self._body_arriving is not None:
            # Whoever reads the body answers 408; and aiohttp, which reads what nobody wanted, gives up.
            self._body_arriving.set_exception(too_slow(self._guard.limits.receive))
            self._since = 0.0
        elif self._waiter is None or self._waiter.done():
            self._since = now  # it waits for our answer to the request before it
            return
        else:
            if self._head_bytes and self.transport is not None:
                self.transport.write(self._guard.too_slow)
            self.force_close()
        telemetry.HTTP_ENDED.labels("slow_request").inc()


class GuardedServer(web.Server):
    """Makes the connections of an application that listens."""

    def __init__(self, server: web.Server, guard: Guard) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,
        )
        self._guard = guard

    def __call__(self) -> GuardedConnection:
        return GuardedConnection(self, loop=self._loop, guard=self._guard, **self._kwargs)


class GuardedRunner(web.AppRunner):
    """Runs the application within limits. `Guard.run` of `guard` must run meanwhile."""

    def __init__(self, app: web.Application, *, limits: Limits | None = None, **settings: Any) -> None:
        super().__init__(app, **settings)
        self.guard = Guard(limits)

    async def _make_server(self) -> web.Server:
        return GuardedServer(await super()._make_server(), self.guard)
