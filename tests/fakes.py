"""Stand-ins behind our own ports, for what a real server does too rarely to wait for. Real classes, no patching."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from peakclip.ingest import Outcome, SoldOutError
from peakclip.jetstream import PubAck, StoredMessage
from peakclip.messages import Order
from peakclip_api.board import Board
from peakclip_api.line import Follower, Line
from peakclip_api.sales import Sale
from peakclip_api.wait import Wait


class ScriptedJetStream:
    """What an `Intake` asks of JetStream: a counter for every subject, and frames whose storing can be told to fail.

    `publishing` holds what the next publications do, in order: an exception to raise, `(True, exception)` to store
    and then raise, or None to store. When it is empty they store. `looking` does the same for `last_message`.
    """

    def __init__(self, **units: int) -> None:
        self.counters = dict(units)  # by sale
        self.increments: list[tuple[str, int, str]] = []  # sale, units, message id
        self.frames: dict[str, StoredMessage] = {}
        self.publishing: list[Any] = []
        self.looking: list[Any] = []
        self.incrementing: list[Any] = []
        self.published = asyncio.Event()

    async def increment(
        self, subject: str, delta: int, *, message_id: str = "", headers: Mapping[str, str] | None = None
    ) -> PubAck:
        if self.incrementing and (failure := self.incrementing.pop(0)) is not None:
            raise failure
        sale_id = subject.partition(".")[2]
        self.counters[sale_id] = self.counters.get(sale_id, 0) + delta
        self.increments.append((sale_id, delta, message_id))
        return PubAck(len(self.increments), value=self.counters[sale_id])

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        create_only: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> PubAck:
        self.published.set()
        await asyncio.sleep(0)
        step = self.publishing.pop(0) if self.publishing else None
        stored, failure = step if isinstance(step, tuple) else (step is None, step)
        if stored:
            self.frames[subject] = StoredMessage(
                len(self.frames) + 1, subject, payload, dict(headers or {}), 0.0
            )
        if failure is not None:
            raise failure
        return PubAck(self.frames[subject].seq)

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        if self.looking and (failure := self.looking.pop(0)) is not None:
            raise failure
        return self.frames.get(subject)


class HeldIntake:
    """Takes orders and lets the test say what becomes of each."""

    def __init__(self) -> None:
        self.taken: list[tuple[Order, Callable[[Outcome], None]]] = []
        self.sold_out = False  # and known to be

    def submit(self, order: Order, ended: Callable[[Outcome], None]) -> None:
        if self.sold_out:
            raise SoldOutError
        self.taken.append((order, ended))


LONG_AGO, FAR_AHEAD = datetime(2020, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
SALE = Sale(
    "s1",
    "t1",
    "p",
    100,
    10,
    10,
    LONG_AGO,
    FAR_AHEAD,
    LONG_AGO.timestamp(),
    FAR_AHEAD.timestamp(),
    2,
    900,
    "f",
)


class Rumour(Follower):
    """What other processes have accepted is heard of only when somebody asks."""

    def __init__(self, line: Line) -> None:
        super().__init__(cast("Any", None), line)
        self._log = line
        self.elsewhere: list[Order] = []
        self.fails: Exception | None = None
        self.looks = 0

    async def up_to_date(self) -> None:
        self.looks += 1
        if self.fails is not None:
            raise self.fails
        if self.elsewhere:
            self._log.add_frame(1_000, self.elsewhere)


def waits(line: Line, follower: Follower) -> Wait:
    """Nobody tells how fast the line moves, and no wait is too long."""
    return Wait(line, follower, Board(cast("Any", None)), None)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def on_virtual_clock(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an asynchronous test on a `VirtualTimeLoop`: it may sleep and takes no time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


@dataclass
class ArrivedMessage:
    """A message in hand, as `InMessage` shows it."""

    subject: str
    payload: bytes
    headers: Mapping[str, str]
    seq: int = 1
    stored_at: float = 0.0
    delivered: int = 1
