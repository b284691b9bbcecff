"""What clients may hold: how many connections, for how long a request may arrive, and for how long an answer may leave.

A process has so many connections and no more. One more than that ends one that is idle, as nginx does: first those that
have never asked for anything, then the one that has been idle for longest. If all are busy, it is told 503. Who sends
or reads byte by byte is looked at once a second, a few connections at a time, so that thousands of them are no pause
for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peakclip import telemetry
from peakclip_api.problems import Problem, retry_later

if TYPE_CHECKING:
    from peakclip_api.guarded import GuardedConnection

ROUND_SECONDS: Final = 1.0  # in which each connection is looked at once
_SLICES: Final = 20
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_LAST: Final = b"Connection: close\r\n"
_REASONS: Final = ("slow_request", "slow_reader", "idle", "too_many", "too_much")
_MOST_REFUSED: Final = 256  # connections that are open only to be told that there are too many


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes. Their reasons are in `settings.py`."""

    connections: int = 10_000
    receive: float = 10.0  # a request, from its first byte to its last
    send: float = 30.0  # an answer
    head: int = 16_384  # request line and headers
    # Of all requests that have begun to arrive, and so much again of answers not yet read.
    unfinished: int = 32 << 20


class SlowRequestError(Problem, TimeoutError):
    """The body did not arrive in time. A TimeoutError for aiohttp, which then ends the connection without a word."""


def too_slow(seconds: float) -> SlowRequestError:
    detail = f"The request did not arrive within {seconds:g} s."
    return SlowRequestError(408, "request-timeout", detail, closes=True)


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection whose answers nobody reads: closed in order, the kernel would keep them and try for minutes."""
    one = transport.get_extra_info("socket")
    if one is not None:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


class Guard:
    """What the connections of a process share."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._loop = asyncio.get_running_loop()
        self._open: dict[GuardedConnection, asyncio.Transport] = {}
        self._refused: dict[GuardedConnection, asyncio.Transport] = {}
        self._overdue: list[asyncio.Transport] = []  # refused before the last round began
        self.arriving = 0  # bytes of requests that are not complete, or wait behind others
        self._idle: deque[GuardedConnection] = deque()  # of the last round, as they have to go
        for reason in _REASONS:
            telemetry.HTTP_ENDED.labels(reason)  # 0 from the start: from nothing to 1 would be no increase
        self.too_many = retry_later("too-busy", "Too much comes at the same time; retry.").raw(_LAST)
        self.too_slow = too_slow(self.limits.receive).raw(_LAST)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, one: GuardedConnection, transport: asyncio.Transport) -> bool:
        """Whether there is room for a new connection. If not, it stays only for as long as it takes to say so."""
        if len(self._open) < self.limits.connections or self._ends_an_idle_one():
            self._open[one] = transport
            return True
        telemetry.HTTP_ENDED.labels("too_many").inc()
        self._refused[one] = transport
        if len(self._refused) > _MOST_REFUSED:
            oldest = next(iter(self._refused))
            self._refused.pop(oldest).abort()
        return False

    def _ends_an_idle_one(self) -> bool:
        while self._idle:
            one = self._idle.popleft()
            transport = self._open.get(one)
            # One that has not read its last answer would not be closed before it has, and be looked at no more.
            if transport is not None and one.is_idle and not transport.get_write_buffer_size():
                del self._open[one]
                telemetry.HTTP_ENDED.labels("idle").inc()
                one.force_close()
                return True
        return False

    def left(self, one: GuardedConnection) -> None:
        self._open.pop(one, None)
        self._refused.pop(one, None)

    async def run(self) -> None:
        """For the life of the process."""
        while True:
            await self.look_at_all(ROUND_SECONDS)

    async def look_at_all(self, seconds: float) -> None:
        """One round over all connections, spread over so many seconds."""
        telemetry.HTTP_CONNECTIONS.set(len(self._open))
        for transport in self._overdue:
            transport.abort()  # it was told, or has said nothing for a round
        self._overdue = [*self._refused.values()]
        everybody = [*self._open.items()]
        end = self._loop.time() + seconds
        many = -(-len(everybody) // _SLICES) or 1
        idle: list[tuple[bool, float, int, GuardedConnection]] = []
        unsent: list[tuple[int, int, asyncio.Transport]] = []
        for start in range(0, len(everybody), many):
            now = self._loop.time()
            for number, (one, transport) in enumerate(everybody[start : start + many], start):
                if waits := one.look(now, transport):
                    unsent.append((waits, number, transport))
                elif one.is_idle:
                    idle.append((one.has_asked, one.last_request, number, one))
            await asyncio.sleep(seconds / _SLICES)
        self._idle = deque(one for *_, one in sorted(idle))
        self._end_the_heaviest(unsent)
        await asyncio.sleep(max(0.0, end - self._loop.time()))

    def _end_the_heaviest(self, unsent: list[tuple[int, int, asyncio.Transport]]) -> None:
        """Of those whose answers nobody reads, until what is left is not too much."""
        left = sum(size for size, _, _ in unsent)
        for size, _, transport in sorted(unsent, reverse=True):
            if left <= self.limits.unfinished:
                return
            left -= size
            telemetry.HTTP_ENDED.labels("too_much").inc()
            reset(transport)
