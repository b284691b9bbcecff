"""The express lane's connections: they take ordinary orders out of what arrives, and write the answers themselves.

bytes ─▶ aiohttp's parser ─▶ Sieve ─┬─ a new order that fits ─▶ lane ─▶ its frame is on disk ─▶ bytes
                                    └─ everything else ───────▶ aiohttp's application, as always
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import HttpProcessingError, RawRequestMessage

from peakclip.ingest import Outcome
from peakclip_api import keys
from peakclip_api.accept import Begun
from peakclip_api.guard import Guard
from peakclip_api.guarded import Fed, GuardedConnection, GuardedRunner, GuardedServer, Message
from peakclip_api.lane import ExpressLane, is_order
from peakclip_api.problems import Problem


class OrderConnection(GuardedConnection):
    """A client's connection. At most one order of it is on the express lane; what comes behind it waits, unread:
    answers leave in the order of the requests, and so does the refusal of what is no HTTP."""

    __slots__ = ("_answered", "_begun", "_behind", "_body", "_lane", "_message")

    def __init__(
        self, manager: web.Server, lane: ExpressLane, *, loop: asyncio.AbstractEventLoop, **settings: Any
    ) -> None:
        super().__init__(manager, loop=loop, **settings)
        self._lane = lane
        self._begun: Begun | None = None  # the order on the express lane, and its request:
        self._message: RawRequestMessage | None = None
        self._body = b""
        self._behind = b""  # not more than one read: then the connection is paused
        self._answered: asyncio.Future[None] | None = None  # while the process stops

    def fed(self, parser: Any, data: bytes) -> Fed:
        if self._begun is not None:
            self._hold(data)
            return (), False, b""
        messages, upgraded, tail = super().fed(parser, data)
        return (self._sift(messages) if messages else messages), upgraded, tail

    @property
    def is_waiting(self) -> bool:
        return self._begun is None and super().is_waiting

    def _process_keepalive(self) -> None:
        """A connection with an order in flight is not idle: it is looked at again a keep-alive later."""
        if self._begun is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)

    def _hold(self, data: bytes) -> None:
        """What comes behind an order in flight is kept, and no more is read."""
        if data:
            self._behind += data
            self._hold_on(len(data))
            self._pause_reading_for_buffer()

    def _sift(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Takes an ordinary order out of what has arrived. Returns what is for the long way.

        Who does not read the answers goes the long way too, where the next request waits until they have left.
        """
        message, payload = messages[0]
        waits_for_a_request = self._waiter is not None and not self._waiter.done() and not self._paused
        if len(messages) != 1 or not waits_for_a_request or not is_order(message, payload):
            return messages
        body = payload.read_nowait()
        begun = self._lane.begin(message, body, self._ended)
        if begun is None:
            return ((message, self._payload_of(body)),)
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if isinstance(begun, bytes):
            self._write(begun)
        else:
            self._begun, self._message, self._body = begun, message, body
        return ()

    def _write(self, answer: bytes) -> None:
        if self.transport is not None:
            self.transport.write(answer)
        self._parser.message_consumed()

    def _ended(self, outcome: Outcome) -> None:
        """The order's storing has ended, well or not."""
        begun, self._begun = self._begun, None
        message, self._message = self._message, None
        if self._answered is not None:
            self._answered.set_result(None)
        if begun is None or message is None or self.transport is None:
            return  # the client has left; the order stays accepted
        try:
            answer = self._lane.answer(begun, outcome)
        except Exception:
            self.force_close()  # else the client would wait for ever
            raise
        if answer is None:
            self._go_the_long_way(message)
        else:
            self._write(answer)
        if self._behind:
            self._go_on()

    def _go_the_long_way(self, message: RawRequestMessage) -> None:
        if self._waiter is None:
            return  # the process is stopping: the connection ends, and the client tries again
        self._messages.append((message, self._payload_of(self._body)))
        if not self._waiter.done():
            self._waiter.set_result(None)

    def _go_on(self) -> None:
        """Reads what has come behind the order. As after every pause, a full queue is drained first, by aiohttp."""
        behind, self._behind = self._behind, b""
        self._complete()
        self.data_received(behind)
        if len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    def _payload_of(self, body: bytes) -> StreamReader:
        """A body that was read, as the application expects it."""
        payload = StreamReader(self, self._read_bufsize, loop=self._loop)
        payload.feed_data(body)
        payload.feed_eof()
        return payload

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is its sender's mistake: a problem like any other, without a traceback in our log."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        response = Problem(400, "malformed-request", "This is no HTTP request that can be read.").response()
        response.force_close()
        return response

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        if self._begun is not None:
            self._answered = self._loop.create_future()
            await asyncio.wait([self._answered], timeout=timeout)
        await super().shutdown(timeout)


class _ExpressServer(GuardedServer):
    """Makes the connections of an application that listens."""

    def __init__(self, server: web.Server, guard: Guard, lane: ExpressLane) -> None:
        super().__init__(server, guard)
        self._lane = lane

    def __call__(self) -> OrderConnection:
        return OrderConnection(self, self._lane, loop=self._loop, guard=self._guard, **self._kwargs)


class ExpressRunner(GuardedRunner):
    """Runs the application; its connections have an express lane."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        app = self.app
        lane = ExpressLane(app[keys.KEYS], app[keys.SALES], app[keys.ACCEPTOR], app[keys.SERVICE])
        return _ExpressServer(server, self.guard, lane)
