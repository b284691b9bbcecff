"""Connections of clients within the limits of a `Guard`, and the server that makes them.

aiohttp has no limit of its own for how long a request may arrive or an answer may leave, and none for how much of a
head it keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from peakclip import telemetry
from peakclip_api.guard import Guard, Limits, reset, too_slow

_HEAD_ENDS: Final = b"\r\n\r\n"
Message = tuple[RawRequestMessage, StreamReader]
Fed = tuple[Sequence[Message], bool, bytes]


class Sieve:
    """Stands before a connection's parser, so that the connection sees what arrives and what came of it."""

    def __init__(self, parser: Any, connection: GuardedConnection) -> None:
        self._parser = parser
        self._connection = connection

    def feed_data(self, data: bytes) -> Fed:
        return self._connection.fed(self._parser, data)

    def message_consumed(self) -> None:
        self._parser.message_consumed()
        self._connection.taken()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class GuardedConnection(web.RequestHandler):
    """A client's connection, within limits."""

    __slots__ = (
        "_body_arriving",
        "_guard",
        "_head_bytes",
        "_held",
        "_is_refused",
        "_since",
        "_unsent_since",
        "has_asked",
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
        self._held = 0  # bytes of a request that is not complete, and of those that wait behind another one
        self._since = 0.0  # loop time of the first byte of a request that is not complete; 0: there is none
        self._unsent_since = 0.0
        self.last_request = loop.time()
        self.has_asked = False
        self._parser: Any = Sieve(self._parser, self)

    # -- life ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        here = cast("asyncio.Transport", transport)
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
        self._complete()
        super().connection_lost(exc)

    # -- what arrives --------------------------------------------------------------------------------------

    def fed(self, parser: Any, data: bytes) -> Fed:
        """Parses what has arrived. Raises what the parser raises, and LineTooLong for a head without end."""
        found: Fed = parser.feed_data(data)
        if found[0]:
            self._asked(found[0], data)
        elif data and self._body_arriving is None:
            self._since = self._since or self._loop.time()
            self._head_bytes += len(data)
            if self._head_bytes > self._guard.limits.head:
                raise LineTooLong("request head", self._guard.limits.head)
            self._hold_on(len(data))
        elif self._body_arriving is not None:
            if self._body_arriving.is_eof():
                self._since, self._body_arriving = 0.0, None
                self.taken()
            else:
                self._hold_on(len(data))
        return found

    def _asked(self, messages: Sequence[Message], data: bytes) -> None:
        """Requests whose heads are complete have come, with what is behind them."""
        if self._head_bytes + len(data) > self._guard.limits.head:
            for message, _ in messages:
                if _head_size(message) > self._guard.limits.head:
                    raise LineTooLong("request head", self._guard.limits.head)
        self.last_request = self._loop.time()
        self.has_asked = True
        waits = len(messages) > 1 or not self.is_waiting  # behind another one
        if self._since and not waits:
            self._complete()
        message, body = messages[-1]
        is_whole = body.is_eof()
        self._body_arriving = None if is_whole else body
        self._head_bytes = _behind(data, message, body) if is_whole else 0
        self._since = 0.0 if is_whole and not self._head_bytes else self.last_request
        if waits or self._since:
            self._hold_on(len(data))

    def taken(self) -> None:
        """A request that has come is being worked on."""
        if self._held and not self._messages and not self._since:
            self._complete()

    def _complete(self) -> None:
        self._guard.arriving -= self._held
        self._held, self._since, self._body_arriving = 0, 0.0, None

    def _hold_on(self, more: int) -> None:
        """Until the request is complete. Whoever brings what is too much for all together has to go."""
        self._held += more
        self._guard.arriving += more
        if self._guard.arriving > self._guard.limits.unfinished:
            telemetry.HTTP_ENDED.labels("too_much").inc()
            if self._body_arriving is None and self.is_waiting and self.transport is not None:
                self.transport.write(self._guard.too_many)
            self.force_close()

    @property
    def is_idle(self) -> bool:
        """Between two requests, or before the first."""
        return self.is_waiting and not self._since

    @property
    def is_waiting(self) -> bool:
        """For a request, or for the rest of one's head."""
        return self._waiter is not None and not self._waiter.done()

    # -- what takes too long -------------------------------------------------------------------------------

    def look(self, now: float, transport: asyncio.Transport) -> int:
        """Ends what takes too long: an answer that nobody reads, a request that does not come to its end.

        Returns how many bytes of answers wait.
        """
        limits, unsent = self._guard.limits, transport.get_write_buffer_size()
        if not unsent:
            self._unsent_since = 0.0
        elif not self._unsent_since:
            self._unsent_since = now
        elif now - self._unsent_since >= limits.send:
            telemetry.HTTP_ENDED.labels("slow_reader").inc()
            reset(transport)
            return 0
        if self._since and now - self._since >= limits.receive:
            self._arrives_too_slowly(now)
        return unsent

    def _arrives_too_slowly(self, now: float) -> None:
        if self._body_arriving is not None:
            # Whoever reads the body answers 408; and aiohttp, which reads what nobody wanted, gives up.
            self._body_arriving.set_exception(too_slow(self._guard.limits.receive))
            self._since = 0.0
        elif not self.is_waiting:
            self._since = now  # it waits for our answer to the request before it
            return
        else:
            if self.transport is not None:
                self.transport.write(self._guard.too_slow)
            self.force_close()
        telemetry.HTTP_ENDED.labels("slow_request").inc()


def _behind(data: bytes, message: RawRequestMessage, body: StreamReader) -> int:
    """Bytes of the next head that came with a message's end. A body with an empty line in it hides as much as itself,
    no more; of a packed one nobody knows the size."""
    if message.compression:
        return 0
    return max(0, len(data) - data.rfind(_HEAD_ENDS) - len(_HEAD_ENDS) - body.total_bytes)


def _head_size(message: RawRequestMessage) -> int:
    """Bytes, about: of blanks between name and value one is counted."""
    lines = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
    return len(message.method) + len(message.path) + 12 + lines


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
