"""HTTP/1.1 as bytes: requests made before the clock starts, and the least parsing that is still correct.

A general client spends more on a request than the API does on accepting it; with both on two cores it would
measure itself. This one reads the status, the length and the body, and looks at other headers only on demand.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from peakclip.errors import PeakclipError

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[ \t]*\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[^\r\n]*close[ \t]*\r\n", re.IGNORECASE)
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-5]\d\d[ \r]")


class AnswerError(PeakclipError):
    """The server's answer is not HTTP/1.1 as this client knows it."""


class Response(NamedTuple):
    status: int
    head: bytes  # status line and headers, each line with its CRLF
    body: bytes

    @property
    def closes(self) -> bool:
        """The server ends the connection after this answer."""
        return self.head.startswith(b"HTTP/1.0") or _CLOSE.search(self.head) is not None

    @property
    def retry_after_seconds(self) -> float | None:
        """The header's seconds; None if it is absent or a date."""
        found = _RETRY_AFTER.search(self.head)
        return float(found.group(1)) if found else None


class ResponseReader:
    """Turns received bytes, cut anywhere, into responses."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Response | None:
        """The next response if it is complete. Call with b"" for a further one. Raises AnswerError."""
        if self._buffer:
            data = self._buffer + data
        parsed = parse_response(data)
        if parsed is None:
            self._buffer = data
            return None
        response, used = parsed
        self._buffer = data[used:] if used < len(data) else b""
        if response.status < 200:  # 100 Continue and its like announce an answer; they are none
            return self.feed(b"")
        return response

    @property
    def is_clean(self) -> bool:
        """Nothing is left over: the connection can carry the next request."""
        return not self._buffer

    def reset(self) -> None:
        self._buffer = b""


def parse_response(data: bytes) -> tuple[Response, int] | None:
    """The first response in `data` and its length in bytes; None while incomplete. Raises AnswerError."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD_BYTES or (len(data) >= 13 and not _STATUS_LINE.match(data)):
            raise AnswerError
        return None
    if not _STATUS_LINE.match(data):
        raise AnswerError
    status = int(data[9:12])
    head = data[: end + 2]
    start = end + 4
    length = _LENGTH.search(head)
    if length is not None:
        stop = start + int(length.group(1))
        if stop - start > MAX_BODY_BYTES:
            raise AnswerError("The server's answer is longer than 1 MiB.")
        return (Response(status, head, data[start:stop]), stop) if len(data) >= stop else None
    if _CHUNKED.search(head):
        chunks = _dechunk(data, start)
        return chunks and (Response(status, head, chunks[0]), chunks[1])
    if status < 200 or status in (204, 304):
        return Response(status, head, b""), start
    raise AnswerError("The server's answer has neither Content-Length nor chunks.")


def _dechunk(data: bytes, position: int) -> tuple[bytes, int] | None:
    """The body of a chunked answer and where it ends; None while incomplete. Proxies send such answers."""
    parts: list[bytes] = []
    while (line_end := data.find(b"\r\n", position)) >= 0:
        try:
            size = int(data[position:line_end].partition(b";")[0], 16)
        except ValueError as exc:
            raise AnswerError("The server's answer has a chunk without a size.") from exc
        position = line_end + 2
        if size == 0:
            return _skip_trailers(data, position, b"".join(parts))
        if size < 0 or position + size > MAX_BODY_BYTES + MAX_HEAD_BYTES:
            raise AnswerError("The server's answer is longer than 1 MiB.")
        if len(data) < position + size + 2:
            return None
        parts.append(data[position : position + size])
        position += size + 2
    return None


def _skip_trailers(data: bytes, position: int, body: bytes) -> tuple[bytes, int] | None:
    while (line_end := data.find(b"\r\n", position)) >= 0:
        if line_end == position:
            return body, line_end + 2
        position = line_end + 2
    return None


def order_requests(*, host: str, path: str, key: str, run: str, count: int, quantity: int = 1) -> list[bytes]:
    """`count` complete requests, each with its own customer and idempotency key derived from `run`."""
    body = b'{"quantity":%d}' % quantity
    before = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    ).encode()
    name = run.encode()
    return [
        b"%bPeakclip-Customer: c-%b-%d\r\nIdempotency-Key: k-%b-%d\r\n\r\n%b"
        % (before, name, i, name, i, body)
        for i in range(count)
    ]
