"""The parser: whatever way the network cuts an answer, the same answer comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.load.http import AnswerError, Response, ResponseReader, order_requests, parse_response

STATUS = st.sampled_from([200, 202, 404, 409, 410, 425, 429, 500, 503])
BODY = st.binary(max_size=300)
CASE = st.sampled_from([str.lower, str.upper, str.title])


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, bytes, bytes]:
    """(status, body, bytes on the wire): with a length or in chunks, headers in any case and order."""
    status, body, case = draw(STATUS), draw(BODY), draw(CASE)
    headers = [case("Date") + ": now", case("X-Length") + ": 7"]
    if draw(st.booleans()):
        headers.append(f"{case('Content-Length')}:{draw(st.sampled_from(['', ' ']))}{len(body)}")
        content = body
    else:
        headers.append(case("Transfer-Encoding") + ": chunked")
        content, rest = b"", body
        while rest:
            size = draw(st.integers(1, len(rest)))
            content += b"%x;note=1\r\n%b\r\n" % (size, rest[:size])
            rest = rest[size:]
        content += b"0\r\n" + (b"Trailer: x\r\n" if draw(st.booleans()) else b"") + b"\r\n"
    lines = "".join(f"{line}\r\n" for line in draw(st.permutations(headers)))
    early = b"HTTP/1.1 100 Continue\r\n\r\n" if draw(st.booleans()) else b""
    return status, body, early + f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + content


@given(st.lists(answers(), min_size=1, max_size=3), st.data())
def test_answers_cut_anywhere_are_read_whole(
    sent: list[tuple[int, bytes, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(raw for _, _, raw in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    reader, got = ResponseReader(), []
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        response = reader.feed(wire[start:stop])
        while response is not None:
            got.append((response.status, response.body))
            response = reader.feed(b"")
    assert got == [(status, body) for status, body, _ in sent]
    assert reader.is_clean


@given(answers())
def test_every_strict_prefix_is_incomplete(sent: tuple[int, bytes, bytes]) -> None:
    wire = sent[2].removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert all(parse_response(wire[:length]) is None for length in range(len(wire)))
    assert parse_response(wire) is not None


@given(st.binary(max_size=400))
def test_rubbish_raises_nothing_but_answer_error(rubbish: bytes) -> None:
    reader = ResponseReader()
    try:
        reader.feed(rubbish)
        reader.feed(b"\r\n\r\n")
    except AnswerError:
        pass


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_refused(wire: bytes) -> None:
    with pytest.raises(AnswerError):
        ResponseReader().feed(wire)


def head(*lines: str) -> Response:
    return Response(503, ("HTTP/1.1 503 No\r\n" + "".join(f"{line}\r\n" for line in lines)).encode(), b"")


def test_headers_that_matter_only_sometimes() -> None:
    assert head("retry-after: 3").retry_after_seconds == 3.0
    assert head("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT").retry_after_seconds is None
    assert head("X-Retry-After: 3").retry_after_seconds is None
    assert head("Connection: Close").closes
    assert not head("Connection: keep-alive").closes


def test_requests_are_complete_and_all_different() -> None:
    requests = order_requests(host="h:1", path="/v1/sales/s/orders", key="pk_1", run="r", count=50)
    assert len(set(requests)) == 50
    first, _, body = requests[0].partition(b"\r\n\r\n")
    lines = first.split(b"\r\n")
    assert lines[0] == b"POST /v1/sales/s/orders HTTP/1.1"
    assert b"Authorization: Bearer pk_1" in lines
    assert b"Peakclip-Customer: c-r-0" in lines
    assert b"Idempotency-Key: k-r-0" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert body == b'{"quantity":1}'
