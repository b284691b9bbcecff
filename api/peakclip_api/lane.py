"""The express lane: an ordinary order is accepted without a task, a `Request` or a `Response` of its own.

Who is in a hurry is in the ordinary case: known key, known sale, new order, units left. Only that case is judged
here, by the same functions as on the long way; whatever is unusual, from a missing header to a repeated key, is
handed to the application untouched and answered there. So there is one place for each rule, and this one holds none.

aiohttp's handling of a request costs more than everything Peakclip does for it (docs/explanation/accept-profile.md).
`PEAKCLIP_EXPRESS_LANE=false` sends every request the long way.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import StreamReader, hdrs
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import istr

from peakclip import tracing
from peakclip.ingest import IntakeUnavailableError, Outcome, SoldOutError
from peakclip.service import Service
from peakclip_api import counted, traced
from peakclip_api.accept import Acceptor, Begun
from peakclip_api.auth import Credential, Keys, customer_of
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.problems import Problem, not_stored
from peakclip_api.routes.orders import order_decoder
from peakclip_api.sales import Sale, Sales

_PREFIX: Final = "/v1/sales/"
_SUFFIX: Final = "/orders"
ACCEPT_SPAN: Final = "POST /v1/sales/{sale_id}/orders"  # as the long way names it
_AUTHORIZATION: Final = istr(hdrs.AUTHORIZATION)
_EXPECT: Final = istr(hdrs.EXPECT)
_encode: Final = msgspec.json.Encoder().encode
_LONGEST_BODY: Final = 512  # bytes; an order has some 20


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
    ) -> Begun | bytes | None:
        """None for everything that is not an ordinary order; bytes are the whole response to one that may come again
        later; else `ended` is called later.

        A process that leaves has no such lane: its answers end their connections, as `app.py` sees to.
        """
        if self._service.stopping.is_set():
            return None
        began, headers = time.perf_counter(), message.headers
        sale = self._sales.remembered(message.path[len(_PREFIX) : -len(_SUFFIX)])
        credential = self._keys.remembered(headers.get(_AUTHORIZATION))
        if sale is None or credential is None or sale.tenant != credential.tenant:
            return None
        try:
            wanted = decode_body(body or b"{}", order_decoder)
            customer_id = customer_of(headers, credential)
            key, quantity = idempotency_key(headers), wanted.quantity
            begun = self._begin(headers, sale, customer_id, key, quantity, ended, credential)
        except Problem:
            return None
        return self._refusal(began, begun) if isinstance(begun, Problem) else begun

    def _begin(
        self, headers: Any, sale: Sale, customer_id: str, key: str, quantity: int,
        ended: Callable[[Outcome], None], owner: Credential,
    ) -> Begun | Problem | None:  # fmt: skip
        span = tracing.begin(ACCEPT_SPAN, headers)
        if span is None:
            return self._acceptor.begin(sale, customer_id, key, quantity, ended, owner)
        with span:
            begun = self._acceptor.begin(sale, customer_id, key, quantity, _ending(span, ended), owner)
            if isinstance(begun, Problem):
                traced.set_status(span, begun.status)
                span.end()
            return begun

    def answer(self, begun: Begun, outcome: Outcome) -> bytes | None:
        """The whole response: 202, 409 (sold out) or 503. None for what the long way must say: the key was another
        order's, by another process, before."""
        if isinstance(outcome, SoldOutError) and not self._acceptor.is_accepted(begun):
            return self._refusal(begun.started, Problem(409, "sold-out", str(outcome)))
        if isinstance(outcome, IntakeUnavailableError):
            return self._refusal(begun.started, not_stored(outcome))
        accepted = self._acceptor.finish(begun)
        if accepted is None:
            return None
        counted.count(ACCEPT_SPAN, 202, begun.started)
        body = _encode(accepted)
        return (
            b"HTTP/1.1 202 Accepted\r\n%bLocation: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (self._date(), accepted.location.encode(), len(body), body)
        )

    def _refusal(self, began: float, problem: Problem) -> bytes:
        counted.count(ACCEPT_SPAN, problem.status, began, problem.kind)
        return problem.raw(self._date())

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
        status = 202 if isinstance(outcome, int) else 409 if isinstance(outcome, SoldOutError) else 503
        traced.set_status(span, status)
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
