"""The express lane: an ordinary order is accepted without a task, a `Request` or a `Response` of its own.

    bytes ─▶ aiohttp's parser ─▶ Sieve ─┬─ a new order that fits ─▶ Acceptor.begin ─▶ its frame is on disk ─▶ bytes
                                        └─ everything else ───────▶ aiohttp's application, as always

Who is in a hurry is in the ordinary case: known key, known sale, new order, units left. Only that case is judged
here, by the same functions as on the long way; whatever is unusual, from a missing header to a repeated key, is
handed to the application untouched and answered there. So there is one place for each rule, and this one holds none.

aiohttp's handling of a request costs more than everything Peakclip does for it (docs/explanation/accept-profile.md).
`PEAKCLIP_EXPRESS_LANE=false` sends every request the long way.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from aiohttp import StreamReader, hdrs, web
from aiohttp.http import HttpProcessingError, HttpVersion11, RawRequestMessage
from multidict import istr

from peakclip import tracing
from peakclip.ingest import IntakeUnavailableError, Outcome, SoldOutError
from peakclip.service import Service
from peakclip_api import counted, keys, traced
from peakclip_api.accept import Acceptor, Begun
from peakclip_api.auth import Keys, customer_of
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.problems import Problem, retry_later
from peakclip_api.routes.orders import order_decoder
from peakclip_api.sales import Sales

_PREFIX: Final = "/v1/sales/"
_SUFFIX: Final = "/orders"
ACCEPT_SPAN: Final = "POST /v1/sales/{sale_id}/orders"  # as the long way names it
_AUTHORIZATION: Final = istr(hdrs.AUTHORIZATION)
_EXPECT: Final = istr(hdrs.EXPECT)
_REFUSED: Final = {SoldOutError: 409, IntakeUnavailableError: 503}
_encode: Final = msgspec.json.Encoder().encode
_LONGEST_BODY: Final = 512  # bytes; an order has some 20
_Message = tuple[RawRequestMessage, StreamReader]


class ExpressLane:
    """What the connections of a process share."""

    def __init__(self, keys: Keys, sales: Sales, acceptor: Acceptor, service: Service) -> None:
        self._service = service
        self._keys = keys
        self._sales = sales
        self._acceptor = acceptor
        self._date_of = 0  # epoch second
        self._date_line = b""

    def begin(
        self, message: RawRequestMessage, body: bytes, ended: Callable[[Outcome], None]
    ) -> Begun | None:
        """None for everything that is not an ordinary order; else `ended` is called later.

        A process that leaves has no such lane: its answers end their connections, as `app.py` sees to.
        """
        if self._service.stopping.is_set():
            return None
        headers = message.headers
        sale = self._sales.remembered(message.path[len(_PREFIX) : -len(_SUFFIX)])
        credential = self._keys.remembered(headers.get(_AUTHORIZATION))
        if sale is None or credential is None or sale.tenant != credential.tenant:
            return None
        try:
            wanted = decode_body(body or b"{}", order_decoder)
            customer_id = customer_of(headers, credential)
            key, quantity = idempotency_key(headers), wanted.quantity
            span = tracing.begin(ACCEPT_SPAN, headers)
            if span is None:
                return self._acceptor.begin(sale, customer_id, key, quantity, ended)
            with span:
                return self._acceptor.begin(sale, customer_id, key, quantity, _ending(span, ended))
        except Problem:
            return None

    def answer(self, begun: Begun, outcome: Outcome) -> bytes | None:
        """The whole response: 202, 409 (sold out) or 503. None for what the long way must say: the key was another
        order's, by another process, before."""
        if isinstance(outcome, SoldOutError) and not self._acceptor.is_accepted(begun):
            return self._refusal(begun, Problem(409, "sold-out", str(outcome)))
        if isinstance(outcome, IntakeUnavailableError):
            return self._refusal(begun, retry_later("queue-unavailable", str(outcome)))
        accepted = self._acceptor.finish(begun)
        if accepted is None:
            return None
        counted.count(ACCEPT_SPAN, 202, begun.started)
        body = _encode(accepted)
        return (
            b"HTTP/1.1 202 Accepted\r\n%bLocation: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (self._date(), accepted.location.encode(), len(body), body)
        )

    def _refusal(self, begun: Begun, problem: Problem) -> bytes:
        response = problem.response()
        counted.count(ACCEPT_SPAN, problem.status, begun.started, problem.kind)
        lines = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        return b"HTTP/1.1 %d %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
            response.status, (response.reason or "").encode(), self._date(), lines.encode(),
            response.content_length, response.body,
        )  # type: ignore[str-format]  # fmt: skip

    def _date(self) -> bytes:
        now = int(time.time())
        if now != self._date_of:
            self._date_of = now
            self._date_line = f"Date: {email.utils.formatdate(now, usegmt=True)}\r\n".encode()
        return self._date_line


def _ending(span: tracing.Span, ended: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
    """Ends the span of an order with its answer; that of an order which goes the long way after all is left out."""

    def told(outcome: Outcome) -> None:
        ended(outcome)
        traced.set_status(span, 202 if isinstance(outcome, int) else _REFUSED[type(outcome)])
        span.end()

    return told


def is_order(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Whether a request looks like an ordinary order, here with all of its body, that needs nothing special."""
    return (
        message.path.startswith(_PREFIX)
        and message.path.endswith(_SUFFIX)
        and message.method == hdrs.METH_POST
        and message.version == HttpVersion11
        and not (message.should_close or message.upgrade or message.chunked or message.compression)
        and _EXPECT not in message.headers
        and payload.is_eof()
        and payload.total_bytes <= _LONGEST_BODY
    )


class _Sieve:
    """Stands before the connection's parser and takes out what goes by the express lane."""

    def __init__(
        self,
        parser: Any,
        hold: Callable[[bytes], bool],
        sift: Callable[[Sequence[_Message]], Sequence[_Message]],
    ) -> None:
        self._parser = parser
        self._hold = hold
        self._sift = sift
        self.message_consumed = parser.message_consumed

    def feed_data(self, data: bytes) -> tuple[Sequence[_Message], bool, bytes]:
        if self._hold(data):
            return (), False, b""
        messages, upgraded, tail = self._parser.feed_data(data)
        return (self._sift(messages) if messages else messages), upgraded, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class OrderConnection(web.RequestHandler):
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
        self._parser: Any = _Sieve(self._parser, self._hold, self._sift)

    def _hold(self, data: bytes) -> bool:
        """Whether an order is in flight: what comes behind it is kept, and no more is read."""
        if self._begun is None:
            return False
        if data:
            self._behind += data
            self._pause_reading_for_buffer()
        return True

    def _sift(self, messages: Sequence[_Message]) -> Sequence[_Message]:
        """Takes an ordinary order out of what has arrived. Returns what is for the long way.

        Who does not read the answers goes the long way too, where the next request waits until they have left.
        """
        message, payload = messages[0]
        waits_for_a_request = self._waiter is not None and not self._waiter.done() and not self._paused
        if len(messages) != 1 or not waits_for_a_request or not is_order(message, payload):
            return messages
        body = payload.read_nowait()
        self._begun = self._lane.begin(message, body, self._ended)
        if self._begun is None:
            return ((message, self._payload_of(body)),)
        self._message, self._body = message, body
        # From here and not from the answer: a connection with an order in flight is not idle.
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return ()

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
            self.transport.write(answer)
            self._parser.message_consumed()
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


class _ExpressServer(web.Server):
    """Makes the connections of an application that listens."""

    def __init__(self, server: web.Server, lane: ExpressLane) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,
        )
        self._lane = lane

    def __call__(self) -> OrderConnection:
        return OrderConnection(self, self._lane, loop=self._loop, **self._kwargs)


class ExpressRunner(web.AppRunner):
    """Runs the application; its connections have an express lane."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        app = self.app
        lane = ExpressLane(app[keys.KEYS], app[keys.SALES], app[keys.ACCEPTOR], app[keys.SERVICE])
        return _ExpressServer(server, lane)
