"""The live picture of all pools: listens to the controller, answers snapshots, feeds streams.

    board = Board(js)
    await board.start()
    async for change in board.subscribe():
        ...
    await board.stop()

What is remembered and what it means is in `history.py`; this is the edge that has a clock and a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg

from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus
from peakclip.topology import POOL_STATUS
from peakclip_api.history import (
    COLUMNS,
    HISTORY_SECONDS,
    STALE_AFTER_SECONDS,
    Histories,
    NatsMetrics,
    PoolView,
    Row,
    nats_metrics,
    total_metrics,
)

log = structlog.get_logger()


def steady_clock() -> Callable[[], float]:
    """Epoch seconds that never jump: a wall clock set back must not make old news look fresh."""
    start = time.time() - time.monotonic()
    return lambda: start + time.monotonic()


class Snapshot(msgspec.Struct, frozen=True):
    """`GET /v1/status`."""

    now: float  # epoch seconds on this process; every age and row is on the same clock
    pools: dict[str, PoolView]
    stale_after_seconds: float = STALE_AFTER_SECONDS


class History(msgspec.Struct, frozen=True):
    """The first event of a stream: everything that the page needs to draw, once."""

    now: float
    pools: dict[str, PoolView]
    rows: dict[str, list[Row]]
    columns: Sequence[str] = COLUMNS
    stale_after_seconds: float = STALE_AFTER_SECONDS
    history_seconds: float = HISTORY_SECONDS


class Change(msgspec.Struct, frozen=True):
    """A new status, as it is streamed."""

    number: int  # grows with every status of every pool on this board
    arrived_at: float
    status: PoolStatus


class Subscription:
    """An iterator over changes. A reader that is slow misses old ones: at most one waits per pool."""

    def __init__(self, leave: Callable[[Subscription], None]) -> None:
        self._waiting: dict[str, Change] = {}
        self._wake = asyncio.Event()
        self._leave = leave
        self._ended = False

    def put(self, change: Change) -> None:
        self._waiting.pop(change.status.pool, None)  # so that the newest goes to the end and ids keep growing
        self._waiting[change.status.pool] = change
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while not self._waiting and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        if self._ended:
            raise StopAsyncIteration
        return self._waiting.pop(next(iter(self._waiting)))

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave(self)


class Board:
    """Create one per process; `start` after NATS is connected, `stop` before it is closed."""

    def __init__(self, js: JetStream, *, clock: Callable[[], float] | None = None) -> None:
        self._js = js
        self._clock = clock or steady_clock()
        self._histories = Histories()
        self._subscriptions: set[Subscription] = set()
        self._decoder = msgspec.json.Decoder(PoolStatus)
        self._source: Any = None
        self._number = 0
        self._ended = False

    async def start(self) -> None:
        self._source = await self._js.subscribe_core(f"{POOL_STATUS}.*", self._received)

    async def stop(self) -> None:
        self.end_streams()
        if self._source is not None and self._js.connected:
            await self._source.unsubscribe()
        self._source = None

    async def _received(self, msg: Msg) -> None:
        try:
            status = self._decoder.decode(msg.data)
        except msgspec.DecodeError as exc:
            log.warning("status_unreadable", subject=msg.subject, error=str(exc))
            return
        if msg.subject != f"{POOL_STATUS}.{status.pool}":
            log.warning("status_misaddressed", subject=msg.subject, pool=status.pool)
            return
        self.add(status)

    def add(self, status: PoolStatus) -> None:
        """Remembers a status that arrives now and tells everyone who listens."""
        now = self._clock()
        if not self._histories.add(status, now):
            log.warning("status_of_too_many_pools", pool=status.pool)
            return
        self._number += 1
        change = Change(self._number, round(now, 3), status)
        for subscription in self._subscriptions:
            subscription.put(change)

    def latest(self, pool: str) -> PoolStatus | None:
        """The newest status of a pool; None if there is none or it is too old to be believed."""
        return self._histories.latest(pool, self._clock())

    def snapshot(self) -> Snapshot:
        now = self._clock()
        return Snapshot(round(now, 3), self._histories.views(now))

    def history(self) -> History:
        now = self._clock()
        return History(round(now, 3), self._histories.views(now), self._histories.rows(now))

    def metrics(self) -> tuple[NatsMetrics, dict[str, NatsMetrics]]:
        """Over all pools, and of each."""
        pools = {name: nats_metrics(view) for name, view in self._histories.views(self._clock()).items()}
        return total_metrics(pools), pools

    @property
    def number(self) -> int:
        """Of the newest change."""
        return self._number

    @property
    def readers(self) -> int:
        """Open subscriptions."""
        return len(self._subscriptions)

    def subscribe(self) -> Subscription:
        """Every change from now on. Use it in a `with`, or it is fed for ever."""
        subscription = Subscription(self._subscriptions.discard)
        self._subscriptions.add(subscription)
        if self._ended:
            subscription.end()
        return subscription

    def end_streams(self) -> None:
        """Ends every subscription's iteration: the application is about to shut down."""
        self._ended = True
        for subscription in list(self._subscriptions):
            subscription.end()
