"""The load client against small real servers that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from peakclip.load import LoadOptions, LoadResult, Progress, run_load
from peakclip.load.run import TargetError

Answering = Callable[[str, int], Awaitable[bytes | None]]


def answer(status: int, body: dict[str, str], *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(content)}"))
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + content


class Last(bytes):
    """Sent, and then the connection is closed."""


def accepted(key: str) -> bytes:
    return answer(202, {"order_id": f"order-{key}", "status": "queued"})


class Shop:
    """Counts attempts per idempotency key; `answering(key, attempt)` says what to send, None hangs up."""

    def __init__(self, answering: Answering, hang_up_first: int = 0) -> None:
        self._answering = answering
        self._hang_up_first = hang_up_first
        self.attempts: Counter[str] = Counter()
        self.bodies: dict[str, set[bytes]] = {}
        self.connections = 0
        self.most_at_once = 0
        self._now = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.connections <= self._hang_up_first:
            writer.close()
            return
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
                key = fields["Idempotency-Key"]
                body = await reader.readexactly(int(fields["Content-Length"]))
                self.attempts[key] += 1
                self.bodies.setdefault(key, set()).add(head + body)
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                content = await self._answering(key, self.attempts[key])
                self._now -= 1
                if content is None:
                    return
                writer.write(content)
                if isinstance(content, Last):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def shop(answering: Answering, hang_up_first: int = 0) -> AsyncIterator[tuple[Shop, str]]:
    it = Shop(answering, hang_up_first)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    try:
        yield it, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.01)


async def load(url: str, **more: object) -> LoadResult:
    options: dict[str, object] = {
        "orders": 40,
        "connections": 8,
        "answer_timeout": 0.5,
        "deadline": 5.0,
        **more,
    }
    return await run_load(LoadOptions(url=url, sale="s", key="pk_t", **options))  # type: ignore[arg-type]


async def test_a_server_that_behaves() -> None:
    async def fine(key: str, _: int) -> bytes:
        return accepted(key)

    async with shop(fine) as (it, url):
        result = await load(url, orders=200)
    assert result.accepted_ids == {f"order-{key}": 1 for key in it.attempts}
    assert (result.accepted, result.errors, result.retries) == (200, 0, 0)
    assert it.connections == 8
    assert it.most_at_once <= 8
    assert result.accept_seconds is not None


async def test_lost_and_refused_answers_are_sent_again_under_the_same_key() -> None:
    async def moody(key: str, attempt: int) -> bytes | None:
        number = int(key.rsplit("-", 1)[1])
        if attempt == 1 and number % 4 == 0:
            return None  # hangs up: nobody knows whether the order was taken
        if attempt == 1 and number % 4 == 1:
            return answer(503, {"type": "https://x/unavailable"}, "Retry-After: 0")
        if attempt == 1 and number % 4 == 2:
            return answer(202, {"order_id": "?"})[:-5] if number == 2 else answer(429, {}, "Retry-After: 0")
        return accepted(key)

    async with shop(moody) as (it, url):
        result = await load(url)
    assert result.accepted_ids == {f"order-{key}": 1 for key in it.attempts}
    assert (len(it.attempts), result.errors) == (40, 0)
    assert result.retries == 30
    assert result.error_causes == {"connection-lost": 10, "unavailable": 10, "429": 9, "timeout": 1}
    assert all(len(sent) == 1 for sent in it.bodies.values()), "a retry is the same bytes"


async def test_an_answer_that_announces_the_close_loses_nothing() -> None:
    async def closing(key: str, _: int) -> bytes | None:
        return Last(accepted(key).replace(b"Content-Length: ", b"Connection: close\r\nContent-Length: "))

    async with shop(closing) as (it, url):
        result = await load(url, orders=12, connections=3)
    assert (result.accepted, result.errors, result.retries, result.error_causes) == (12, 0, 0, {})
    assert it.connections >= 12


async def test_a_connection_closed_in_the_middle_of_an_answer() -> None:
    async def half(key: str, attempt: int) -> bytes | None:
        return accepted(key) if attempt > 1 else Last(accepted(key)[:-7])

    async with shop(half) as (_, url):
        result = await load(url, orders=12, connections=3)
    assert (result.accepted, result.errors, result.retries) == (12, 0, 12)
    assert result.error_causes == {"connection-lost": 12}


async def test_connections_that_end_before_the_first_order_are_opened_again() -> None:
    async def fine(key: str, _: int) -> bytes:
        return accepted(key)

    async with shop(fine, hang_up_first=5) as (it, url):
        result = await load(
            url, orders=200, connections=130
        )  # opened in three parts: the first five end meanwhile
    assert (result.accepted, result.errors) == (200, 0)
    assert it.connections == 135


async def test_a_slow_server_is_given_up_after_the_time_out_and_errors_after_the_deadline() -> None:
    async def asleep(key: str, attempt: int) -> bytes | None:
        if key.endswith("-3"):
            await asyncio.sleep(30)
        return accepted(key)

    async with shop(asleep) as (it, url):
        result = await load(url, orders=6, connections=6, answer_timeout=0.1, deadline=1.0)
    assert (result.accepted, result.errors) == (5, 1)
    assert result.error_causes["timeout"] >= 2
    assert max(it.attempts.values()) >= 2


async def test_refusals_are_counted_by_their_type_and_never_repeated() -> None:
    async def sold_out(key: str, _: int) -> bytes:
        number = int(key.rsplit("-", 1)[1])
        return accepted(key) if number < 10 else answer(409, {"type": "https://x/sold-out"})

    async with shop(sold_out) as (it, url):
        result = await load(url)
    assert result.refused == {"sold-out": 30}
    assert (result.accepted, result.errors) == (10, 0)
    assert set(it.attempts.values()) == {1}


async def test_a_long_retry_after_is_shortened() -> None:
    async def later(key: str, attempt: int) -> bytes:
        return answer(503, {}, "Retry-After: 600") if attempt == 1 else accepted(key)

    async with shop(later) as (_, url):
        result = await load(url, orders=4, connections=2, retry_after_most=0.1)
    assert (result.accepted, result.retries) == (4, 4)


async def test_with_a_rate_latency_counts_from_the_moment_an_order_was_due() -> None:
    async def slow(key: str, _: int) -> bytes:
        await asyncio.sleep(0.05)
        return accepted(key)

    seen: list[Progress] = []
    async with shop(slow) as (_, url):
        options = LoadOptions(url=url, sale="s", key="k", orders=40, connections=1, rate=200.0)
        result = await run_load(options, progress=seen.append, every=0.1)
    assert result.accepted == 40
    # One connection does 20/s; the last order was due after 0.2 s and answered after 2 s.
    assert result.accept_max_ms is not None
    assert result.accept_max_ms > 1500
    assert result.accept_seconds is not None
    assert result.accept_seconds > 1.9
    assert seen
    assert seen[-1].accepted <= 40


async def test_a_target_that_is_none() -> None:
    with pytest.raises(TargetError, match="not an http"):
        await load("ftp://x")
    with pytest.raises(TargetError, match="cannot be reached"):
        await run_load(LoadOptions(url="http://127.0.0.1:1", sale="s", key="k", orders=1, connect_within=0.1))
