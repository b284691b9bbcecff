"""Clients who press: orders at a rate, whatever comes back, and `Retry-After` is read and not honoured.

    python -m faults.flood < options.json > result.json

A process of its own, so that what it measures is not its test's own slowness. Every request is sent once. One that is
due while every connection waits for an answer is `held_back`: a flood with many of those is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from peakclip.load.http import AnswerError, Response, ResponseReader, order_requests
from peakclip.load.outcome import problem_name

_TICK_SECONDS: Final = 0.002
_OPENED_AT_ONCE: Final = 64


class Options(msgspec.Struct, frozen=True):
    url: str
    sale: str
    key: str
    run: str  # of the names of its customers and keys: `k-<run>-<number>`
    rate: float  # requests per second
    seconds: float
    connections: int
    patience: float = 30.0  # seconds after the last request; what has no answer then hangs


class Flooded(msgspec.Struct):
    """Numbers are those of the requests."""

    accepted: dict[int, str] = {}  # number -> order id
    problems: dict[str, list[int]] = {}  # "status kind" -> numbers
    bare: list[int] = []  # of 429 and 503 those without Retry-After, or without a problem's body
    lost: list[int] = []  # the connection ended before an answer
    hanging: list[int] = []
    held_back: int = 0
    sent: int = 0
    seconds: float = 0.0  # of sending
    slowest: float = 0.0  # answer, seconds
    accepted_series: list[int] = []  # in each second since the first request
    refused_series: list[int] = []


class _Connection(asyncio.Protocol):
    def __init__(self, flood: _Flood) -> None:
        self._flood = flood
        self._reader = ResponseReader()
        self.transport: asyncio.Transport | None = None
        self.number: int | None = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._flood.idle.append(self)

    def send(self, number: int, request: bytes, now: float) -> None:
        self.number, self.sent_at = number, now
        self.transport.write(request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        try:
            response = self._reader.feed(data)
        except AnswerError:
            self.transport.abort()  # type: ignore[union-attr]
            return
        if response is None:
            return
        number, self.number = self.number, None
        if number is not None:
            self._flood.answered(number, response, self.sent_at)
        if response.closes:
            self.transport.close()  # type: ignore[union-attr]
        else:
            self._flood.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        number, self.number, self.transport = self.number, None, None
        self._flood.closed(self, number)


class _Flood:
    def __init__(self, options: Options) -> None:
        self._options = options
        address = urlsplit(options.url)
        self._place = address.hostname or "", address.port or 80
        self._requests = order_requests(
            host=address.netloc, path=f"/v1/sales/{options.sale}/orders", key=options.key, run=options.run,
            count=round(options.rate * options.seconds),
        )  # fmt: skip
        self.idle: list[_Connection] = []
        self._under_way: set[int] = set()
        self.found = Flooded()
        self._problems: dict[str, list[int]] = {}
        self._began = 0.0
        self._series: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self._opening: set[asyncio.Task[None]] = set()
        self._over = False

    async def run(self) -> Flooded:
        for start in range(0, self._options.connections, _OPENED_AT_ONCE):
            many = min(_OPENED_AT_ONCE, self._options.connections - start)
            await asyncio.gather(*(self._open() for _ in range(many)))
        await self._press()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.patience):
                await self._all_answered()
        self._over = True
        self.found.hanging = sorted(self._under_way)
        self.found.problems = self._problems
        last = int(time.perf_counter() - self._began) + 1
        self.found.accepted_series, self.found.refused_series = (
            [one[second] for second in range(last)] for one in self._series
        )
        return self.found

    async def _all_answered(self) -> None:
        for number in sorted(self._under_way):
            while number in self._under_way:  # noqa: ASYNC110 - the loop looks at thousands
                await asyncio.sleep(0.05)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().create_connection(lambda: _Connection(self), *self._place)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.1)  # and then there is one fewer

    async def _press(self) -> None:
        self._began = time.perf_counter()
        following = 0
        while following < len(self._requests):
            now = time.perf_counter()
            due = min(len(self._requests), int((now - self._began) * self._options.rate))
            while following < due and self.idle:
                connection = self.idle.pop()
                if connection.transport is None:
                    continue
                self._under_way.add(following)
                connection.send(following, self._requests[following], now)
                self.found.sent += 1
                following += 1
            self.found.held_back += due - following
            following = due
            await asyncio.sleep(_TICK_SECONDS)
        self.found.seconds = time.perf_counter() - self._began

    def answered(self, number: int, response: Response, sent_at: float) -> None:
        now = time.perf_counter()
        self._under_way.discard(number)
        self.found.slowest = max(self.found.slowest, now - sent_at)
        self._series[response.status >= 300][int(now - self._began)] += 1
        if response.status < 300:
            self.found.accepted[number] = str(msgspec.json.decode(response.body)["order_id"])
            return
        name = problem_name(response.status, response.body)
        self._problems.setdefault(f"{response.status} {name}", []).append(number)
        told = b"application/problem+json" in response.head and not name.isdigit()
        if response.status in (429, 503) and not (told and response.retry_after_seconds):
            self.found.bare.append(number)

    def closed(self, connection: _Connection, number: int | None) -> None:
        if number is not None:
            self._under_way.discard(number)
            self.found.lost.append(number)
        if connection in self.idle:
            self.idle.remove(connection)
        if not self._over:
            task = asyncio.ensure_future(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)


async def flood(options: Options) -> Flooded:
    """In a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "faults.flood", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    try:
        answer, _ = await process.communicate(msgspec.json.encode(options))
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return msgspec.json.decode(answer, type=Flooded)


if __name__ == "__main__":
    gc.disable()
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Options)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_Flood(wanted).run())))
