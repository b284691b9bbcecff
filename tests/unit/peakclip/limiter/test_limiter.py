"""What a limiter looks at, how often, and what it says of itself. Behind the port a server that is told what to say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest

from peakclip.errors import RefusedError, UnavailableError
from peakclip.jetstream import JetStream, PubAck, StoredMessage, StreamState
from peakclip.limiter import grid, limiter
from peakclip.limiter.limiter import Limiter
from peakclip.limiter.pace import Pace, Step

NOW = 1_000_000.0
STEADY = Pace(100.0, 5, False, (Step(NOW - 100.0, 100.0),))


class Server(JetStream):
    """On a clock of its own, that of the test."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), 2.0)
        self.now = NOW
        self.way = 0.0004  # seconds that an answer takes
        self.pace: Pace | bytes | None = STEADY
        self.trouble: Exception | None = None
        self.tickets: list[tuple[str, int, float | None]] = []
        self.looks = 0

    async def stream_state(self, stream: str) -> StreamState:
        self.looks += 1
        self.now += self.way
        if self.trouble is not None:
            raise self.trouble
        return StreamState(0, 0, 1, len(self.tickets), self.now, {}, created=NOW - 50.0)

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        if self.pace is None:
            return None
        body = self.pace if isinstance(self.pace, bytes) else msgspec.json.encode(self.pace)
        return StoredMessage(1, subject, body, {}, NOW - 99.0)

    async def increment(
        self,
        subject: str,
        by: int,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> PubAck:
        self.tickets.append((subject, by, timeout_seconds))
        if self.trouble is not None:
            raise self.trouble
        return PubAck(len(self.tickets), value=by)


class Looking:
    """A limiter whose pauses take no time but on the test's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = Server()
        self.limiter = Limiter(self.server, "orders", lambda: self.server.now)
        self.pauses: list[float] = []
        self._left = 0
        self._sleep = asyncio.sleep
        monkeypatch.setattr(limiter.asyncio, "sleep", self._pause)
        self.said: list[str] = []
        monkeypatch.setattr(limiter, "log", self)

    def _note(self, event: str, **told: Any) -> None:
        self.said.append(str(told.get("reason", event)))

    debug = info = warning = error = _note

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.server.now += seconds
        self._left -= 1
        if self._left <= 0:
            raise asyncio.CancelledError
        await self._sleep(0)

    async def looks(self, count: int) -> list[str]:
        """What it says during so many looks: its words for open and closed."""
        self._left = count
        self.said.clear()
        with pytest.raises(asyncio.CancelledError):
            await self.limiter.run()
        return self.said[:]


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Looking:
    return Looking(monkeypatch)


async def test_it_says_once_that_it_is_open(looking: Looking) -> None:
    assert await looking.looks(3) == ["limiter_open"]
    assert await looking.looks(2) == []


async def test_it_looks_twice_a_second_and_ten_times_where_nobody_answers(looking: Looking) -> None:
    await looking.looks(2)
    assert looking.pauses == [pytest.approx(0.5 - 0.0004)] * 2
    looking.server.trouble = UnavailableError("away")
    await looking.looks(3)
    assert looking.pauses[2:] == [0.1] * 3
    looking.server.trouble = None
    looking.server.way = 0.45
    await looking.looks(1)
    assert looking.pauses[-1] == pytest.approx(0.1)


async def test_it_says_why_it_is_closed_once_for_each_reason(looking: Looking) -> None:
    server = looking.server
    assert await looking.looks(1) == ["limiter_open"]
    server.trouble = UnavailableError("away")
    assert await looking.looks(12) == ["the server has not been seen for a second"]
    server.trouble = None
    server.pace = None
    assert await looking.looks(2) == ["pace_changed", "no rate is set"]
    server.pace = STEADY
    assert await looking.looks(2) == ["pace_changed", "limiter_open"]


async def test_a_way_that_is_too_slow_for_so_small_a_burst_closes_it(looking: Looking) -> None:
    looking.server.pace = Pace(1_000.0, 12, False, (Step(NOW - 100.0, 1_000.0),))
    looking.server.way = 0.2
    (said,) = await looking.looks(2)
    assert said.startswith("the clock is too uncertain for so small a burst")


async def test_a_pace_that_cannot_be_read_closes_it_at_once(looking: Looking) -> None:
    await looking.looks(1)
    looking.server.pace = b"{}"
    assert await looking.looks(1) == ["pace_unreadable", "the server has not been seen for a second"]
    assert looking.limiter.chunk == 1


async def test_a_refusal_is_said_and_asked_again(looking: Looking) -> None:
    looking.server.trouble = RefusedError(10_999, "no")
    said = await looking.looks(2)
    assert said.count("limiter_refused") == 2
    assert looking.pauses == [0.1, 0.1]


async def test_a_ticket_is_waited_for_half_a_second_and_one_that_fails_costs_its_window(
    looking: Looking,
) -> None:
    server = looking.server
    await looking.looks(1)
    server.trouble = UnavailableError("away")
    looking._left = 2
    with pytest.raises(asyncio.CancelledError):
        await looking.limiter.acquire(1)
    windows = [int(subject.rpartition(".")[2]) for subject, _, _ in server.tickets]
    assert {seconds for _, _, seconds in server.tickets} == {0.5}
    first = grid.window_at(NOW + 0.5)
    assert windows[0] == first
    assert windows[1] >= first + 2  # what is under way now and what it might have been asked for
