"""Connections that each carry one request at a time, and the driver that hands them orders.

Why no pipelining and no more than one request per connection: it is what real customers do, and a server that
answers a pipeline in one write would look better here than it is.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult

from peakclip.load.http import AnswerError, Response, ResponseReader
from peakclip.load.outcome import Answer, LoadOptions, Progress, problem_name

_RETRY_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF_FIRST: Final = 0.05  # seconds; doubles with each attempt of the same order
_BACKOFF_MOST: Final = 1.0
_TICK_CLOSED: Final = 0.02  # seconds between looks at retries and time-outs in a burst
_TICK_OPEN: Final = 0.001  # with a rate: how late an order may be handed out

_clock = time.perf_counter  # uvloop's own clock has whole milliseconds only


class Connection(asyncio.Protocol):
    """One keep-alive connection. `job` is the order under way, or None."""

    __slots__ = ("_driver", "_reader", "_transport", "closing", "job", "sent_at")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None
        self.job: int | None = None
        self.sent_at = 0.0
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._reader.reset()
        self.closing = False

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def send(self, job: int, request: bytes, now: float) -> None:
        self.job = job
        self.sent_at = now
        self._transport.write(request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        try:
            response = self._reader.feed(data)
        except AnswerError:
            self.drop("not-http")
            return
        if response is None:
            return
        job, self.job = self.job, None
        if job is None or not self._reader.is_clean:
            self.drop("answer-without-request")
        elif response.closes:
            self.closing = True
            self._transport.close()  # type: ignore[union-attr]
        if job is not None:
            self._driver.answered(self, job, response)

    def drop(self, cause: str) -> None:
        """Ends the connection at once; the order under way is sent again on another."""
        if self.closing:
            return
        self.closing = True
        self._driver.causes[cause] += 1
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        job, self.job = self.job, None
        self._transport = None
        self._driver.lost(self, job, counted=self.closing)

    def close(self) -> None:
        self.closing = True
        if self._transport is not None:
            self._transport.abort()


class Driver:
    """State of one run. Everything happens on the event loop, so there are no locks."""

    def __init__(self, options: LoadOptions, address: SplitResult, requests: list[bytes]) -> None:
        self._options = options
        self._address = address
        self._tls = ssl.create_default_context() if address.scheme == "https" else None
        self._requests = requests
        self.answers: list[Answer | None] = [None] * len(requests)
        self._first_sent = [0.0] * len(requests)  # or due, when there is a rate
        self.attempts: Counter[int] = Counter()  # how often each request was sent again
        self._retry: list[tuple[float, int]] = []  # heap of (when, order)
        self._idle: list[Connection] = []
        self._connections: list[Connection] = []
        self._reconnecting: set[asyncio.Task[None]] = set()
        self._next = 0
        self._left = len(requests)
        self._accepted = 0
        self._start = 0.0
        self._running = False
        self._swept = 0.0
        self.causes: Counter[str] = Counter()
        self.retries = 0
        self.started_at = 0.0  # epoch seconds
        self._finished = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    # -- life ----------------------------------------------------------------------------------------------

    @property
    def _place(self) -> tuple[str, int]:
        return self._address.hostname or "", self._address.port or (443 if self._tls else 80)

    async def open(self) -> None:
        """Opens every connection. Raises OSError if one of them cannot be had in time."""
        # A name that does not exist is known at once, and told once, not by every connection.
        await asyncio.get_running_loop().getaddrinfo(*self._place)
        self._connections = [
            Connection(self) for _ in range(min(self._options.connections, len(self._requests)))
        ]
        deadline = _clock() + self._options.connect_within
        for start in range(0, len(self._connections), 64):  # a listen queue is finite
            await asyncio.gather(
                *(self._open_one(c, deadline) for c in self._connections[start : start + 64])
            )

    async def _open_one(self, connection: Connection, deadline: float) -> None:
        delay = _BACKOFF_FIRST
        while True:
            try:
                await self._connect(connection)
                return
            except OSError:
                if _clock() >= deadline:
                    raise
            await asyncio.sleep(delay)
            delay = min(_BACKOFF_MOST, delay * 2)

    async def _connect(self, connection: Connection) -> None:
        host, port = self._place
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(5):
                await loop.create_connection(lambda: connection, host, port, ssl=self._tls)
        except TimeoutError as exc:
            raise ConnectionError(f"{host}:{port} does not answer") from exc

    async def run(self, progress: Callable[[Progress], None] | None, every: float = 0.25) -> None:
        """From the first byte to the last answer, or to the deadline."""
        self._running = True
        self.started_at = time.time()
        self._start = self._swept = _clock()
        for connection in self._connections:
            if connection.connected:
                self._assign(connection)
            else:  # it ended while the others were being opened
                self.lost(connection, None, counted=False)
        self._tick()
        due = self._due(len(self._requests) - 1) if self._options.rate else 0.0
        deadline = self._start + due + self._options.deadline
        try:
            while self._left and (wait := deadline - _clock()) > 0:
                await asyncio.wait((self._finished,), timeout=min(wait, every))
                if progress:
                    progress(self.progress())
        finally:
            await self._close()

    def progress(self) -> Progress:
        refused = len(self._requests) - self._left - self._accepted
        return Progress(
            len(self._requests),
            self._accepted,
            refused,
            len(self._retry),
            _clock() - self._start if self._start else 0.0,
        )

    async def _close(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._reconnecting:
            task.cancel()
        await asyncio.gather(*self._reconnecting, return_exceptions=True)
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)

    # -- handing out ---------------------------------------------------------------------------------------

    def _due(self, order: int) -> float:
        """Seconds after the start at which an order is due."""
        return order / self._options.rate if self._options.rate else 0.0

    def _assign(self, connection: Connection) -> None:
        """Gives a free connection the next order, or lets it wait for one."""
        if not connection.connected:
            return  # it ended as soon as it was open, and is being opened again
        now = _clock()
        if self._retry and self._retry[0][0] <= now:
            connection.send(job := heapq.heappop(self._retry)[1], self._requests[job], now)
            return
        job = self._next
        if job < len(self._requests) and (self._options.rate is None or self._start + self._due(job) <= now):
            self._next = job + 1
            self._first_sent[job] = now if self._options.rate is None else self._start + self._due(job)
            connection.send(job, self._requests[job], now)
        else:
            self._idle.append(connection)

    def _tick(self) -> None:
        """Wakes idle connections for what is due, and drops those that wait too long for an answer."""
        if not self._running:
            return
        now = _clock()
        while self._idle and self._has_due(now):
            self._assign(self._idle.pop())
        if now - self._swept >= 0.25:
            self._swept = now
            late = now - self._options.answer_timeout
            for connection in self._connections:
                if connection.job is not None and connection.sent_at < late:
                    connection.drop("timeout")
        interval = _TICK_OPEN if self._options.rate else _TICK_CLOSED
        self._timer = asyncio.get_running_loop().call_later(interval, self._tick)

    def _has_due(self, now: float) -> bool:
        if self._retry and self._retry[0][0] <= now:
            return True
        return self._next < len(self._requests) and self._start + self._due(self._next) <= now

    # -- judging -------------------------------------------------------------------------------------------

    def answered(self, connection: Connection, job: int, response: Response) -> None:
        status = response.status
        if status in _RETRY_STATUS:
            self.causes[problem_name(status, response.body)] += 1
            self._again(job, response.retry_after_seconds)
        else:
            now = _clock()
            self.answers[job] = Answer(status, response.body, now - self._start, now - self._first_sent[job])
            self._accepted += status < 300
            self._left -= 1
            if not self._left and not self._finished.done():
                self._finished.set_result(None)
                return
        if not connection.closing and self._running:
            self._assign(connection)

    def _again(self, job: int, retry_after: float | None) -> None:
        """The same bytes, so the same idempotency key, after a back-off with jitter."""
        attempt = self.attempts[job]
        self.attempts[job] = attempt + 1
        delay = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
        if retry_after is not None:
            delay = max(delay, min(retry_after, self._options.retry_after_most))
        self.retries += 1
        heapq.heappush(self._retry, (_clock() + delay, job))

    def lost(self, connection: Connection, job: int | None, *, counted: bool) -> None:
        """A connection ended, on purpose or not: its order is sent again, and it is opened again."""
        if not self._running:
            return
        if not counted:
            self.causes["connection-lost"] += 1
        if job is not None:
            self._again(job, None)
        if connection in self._idle:
            self._idle.remove(connection)
        task = asyncio.get_running_loop().create_task(self._reopen(connection))
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    async def _reopen(self, connection: Connection) -> None:
        await self._open_one(connection, deadline=float("inf"))
        if self._running:
            self._assign(connection)
