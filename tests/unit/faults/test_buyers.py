"""What buyers note of an answer, whatever became of the requests before it."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from faults.buyers import Buyers
from faults.history.record import End, History, Kind, Ok, Refused, Unknown

from peakclip.load.outcome import Answer

YES = Answer(202, b'{"order_id":"o","status":"queued"}', 2.0, 1.0)
NO = Answer(409, b'{"type":"https://peakclip.dev/problems/sold-out"}', 2.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "asked_again", "end"),
    [
        (YES, True, Ok(attempt=1, at=102.0, order_id="o", status="queued")),
        (NO, False, Refused(attempt=1, at=102.0, problem="sold-out", asked=101.5)),
        (
            NO,
            True,
            Unknown(attempt=1, at=102.0, cause="refused when asked again", problem="sold-out", asked=101.5),
        ),
        (None, True, Unknown(attempt=1, at=7.0, cause="no final answer")),
    ],
)
def test_what_was_said_is_kept(answer: Answer | None, asked_again: bool, end: End) -> None:
    history = History("t", lambda: 7.0)
    buyers = Buyers("http://host:1", "pk", random.Random(1), history)
    attempt = history.invoke(Kind.PURCHASE, key="k", customer="c", sale="s")
    buyers._record(attempt, answer, asked_again=asked_again, asked=101.5, began=100.0)
    assert history.entries[-1] == end


async def test_a_retry_is_noted_as_of_when_it_was_sent() -> None:
    """A server that closes the first connection without an answer, and refuses the second."""
    came: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.append(time.time())
        if len(came) > 1:
            await asyncio.sleep(0.1)
            head = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % len(NO.body) + NO.body)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        buyers = Buyers(f"http://127.0.0.1:{port}", "pk", random.Random(1), History("t"))
        await buyers.wave("s", 1, again=0.0, deadline=10.0)
    end = buyers.history.entries[-1]
    assert isinstance(end, Unknown)
    assert end.problem == "sold-out"
    assert came[0] < end.asked <= came[1] + 0.01
    assert end.asked + 0.1 <= end.at + 0.01
