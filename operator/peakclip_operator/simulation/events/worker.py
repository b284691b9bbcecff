"""One worker process: the real limiter and pull consumer, a drain loop around them, and work that takes time.

The drain loop here does what that of the workers does, which this unit may not import. A `DrainMaker` puts another
one in its place: the tests run the same worlds with the workers' own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from peakclip.errors import PeakclipError, UnavailableError
from peakclip.jetstream import InMessage, JetStream, PullConsumer
from peakclip.limiter.limiter import Limiter
from peakclip.pull import ack_all
from peakclip.topology import ACK_WAIT_SECONDS
from peakclip_operator.simulation.events.kernel import Kernel
from peakclip_operator.simulation.events.record import Record

_FETCH_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 15.0
_MOST_ATTEMPTS: Final = 3
_BACKOFF_SECONDS: Final = 1.0


class Stopping(Protocol):
    """As much of a service as a drain loop needs."""

    stopping: asyncio.Event


class DrainLoop(Protocol):
    async def run(self, service: Any) -> None: ...


DrainMaker = Callable[[JetStream, PullConsumer, Limiter, Any, str], DrainLoop]


class Service:
    def __init__(self) -> None:
        self.stopping = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a batch, with the names that the workers' own drain loop reads."""

    finished: Sequence[InMessage]
    again: Sequence[InMessage]
    failed: int = 0
    waited_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How the work of a pool goes."""

    work_seconds: float  # on average, for a batch
    fail_chance: float = 0.0  # that a message is to be worked on once more; half of them at once, half later


class Work:
    """What a pool does with messages whose start has come; every start is seen here."""

    gather_seconds = 0.0

    def __init__(
        self, kernel: Kernel, record: Record, name: str, habits: Habits, chance: random.Random
    ) -> None:
        self._kernel = kernel
        self._record = record
        self._name = name
        self._habits = habits
        self._chance = chance
        self.in_hand = 0
        self.on_start: Callable[[float, int], None] | None = None

    def heal(self, most_seconds: float) -> None:
        """Quick from now on, and nothing fails."""
        self._habits = Habits(min(self._habits.work_seconds, most_seconds))

    def arranged(self, messages: Sequence[InMessage]) -> list[InMessage]:
        self.in_hand = len(messages)
        return list(messages)

    def batch_of(self, messages: Sequence[InMessage], most: int) -> Sequence[InMessage]:
        return messages[:most]

    async def process(self, batch: Sequence[InMessage], started_at: float) -> Result:
        if self.on_start is not None:
            self.on_start(started_at, len(batch))
        self._record.started(self._name, started_at, [message.seq for message in batch])
        seconds = self._habits.work_seconds * (0.5 + self._chance.random())
        await asyncio.sleep(seconds * 0.8)
        again, later = self._failing(batch)
        failed = {message.seq for message in (*again, *later)}
        done = [message for message in batch if message.seq not in failed]
        self._record.committed(self._name, [message.seq for message in done])
        await asyncio.sleep(seconds * 0.2)  # the commit's answer is on its way
        for message in later:
            try:
                await message.nak(_BACKOFF_SECONDS)
            except UnavailableError:
                break  # they come again by themselves after ack_wait
        self.in_hand -= len(batch) - len(again)
        return Result(done, again, len(failed))

    def _failing(self, batch: Sequence[InMessage]) -> tuple[list[InMessage], list[InMessage]]:
        """Those to be worked on at once again, and those that wait."""
        kinds: tuple[list[InMessage], list[InMessage]] = [], []
        if self._habits.fail_chance:
            for message in batch:
                number = self._record.attempts_of(self._name, message.seq)
                if number < _MOST_ATTEMPTS and self._chance.random() < self._habits.fail_chance:
                    kinds[self._chance.random() < 0.5].append(message)
        return kinds


class ModelDrain:
    """Pull, wait for the limiter, work, acknowledge; on the way out finish what has started, give back the rest."""

    def __init__(self, js: JetStream, pull: PullConsumer, limiter: Limiter, pool: Any, name: str) -> None:
        self._pull = pull
        self._limiter = limiter
        self._pool = pool
        self._in_hand: list[InMessage] = []
        self._acquiring: asyncio.Task[Any] | None = None
        self._draining = False

    async def run(self, service: Any) -> None:
        work = asyncio.create_task(self._work(service))
        stop = asyncio.create_task(service.stopping.wait())
        keep = asyncio.create_task(self._keep_in_hand())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            self._draining = True
            if self._acquiring is not None:
                self._acquiring.cancel()
            await asyncio.wait({work}, timeout=_DRAIN_SECONDS)
            if work.done() and not work.cancelled() and (failure := work.exception()):
                raise failure
        finally:
            for task in (work, stop, keep):
                task.cancel()
            await asyncio.gather(work, stop, keep, return_exceptions=True)
            await self._give_back()

    async def _work(self, service: Any) -> None:
        while not service.stopping.is_set():
            try:
                fetched = await self._pull.fetch(self._limiter.chunk, _FETCH_SECONDS)
            except UnavailableError:
                await asyncio.sleep(0.1)
                continue
            self._in_hand = self._pool.arranged(fetched)
            while self._in_hand and not service.stopping.is_set():
                await self._start_some()

    async def _start_some(self) -> None:
        wanted = self._pool.batch_of(self._in_hand, len(self._in_hand))
        self._acquiring = asyncio.create_task(self._limiter.acquire(len(wanted)))
        try:
            start = await self._acquiring
        except asyncio.CancelledError:
            if self._draining:
                return
            raise
        finally:
            self._acquiring = None
        batch = wanted[: start.count]
        result = await self._pool.process(batch, start.at)
        with contextlib.suppress(PeakclipError):  # they come again, and the database knows them
            await ack_all(result.finished)
        self._in_hand = [*result.again, *self._in_hand[len(batch) :]]

    async def _keep_in_hand(self) -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_SECONDS / 3)
            for message in list(self._in_hand):
                try:
                    await message.in_progress()
                except UnavailableError:
                    break

    async def _give_back(self) -> None:
        for message in [*self._in_hand, *self._pull.take_back()]:
            try:
                await message.nak()
            except UnavailableError:
                return
        self._in_hand = []
