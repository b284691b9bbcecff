"""The drain loop of every pool: pull, wait for the limiter, process, acknowledge; and the way out on SIGTERM.

A ticket is taken only for messages in hand, so none is spent on nothing; a retry goes through the limiter again.
Acknowledgements follow the commit, so what dies in between comes again and is recognised by the database.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from peakclip import telemetry, topology, tracing
from peakclip.errors import PeakclipError, UnavailableError
from peakclip.jetstream import InMessage, JetStream, PullConsumer
from peakclip.limiter.limiter import Limiter, Start
from peakclip.messages import DatabaseWord, WorkerTelemetry, encode
from peakclip.pull import ack_or_let_go
from peakclip.service import Service

log = structlog.get_logger()

CHUNKS_PER_SECOND: Final = 100  # the limiter's chunk is R/100
MOST_GATHERED: Final = 256
FETCH_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 15.0  # below the usual 30 s of grace before SIGKILL
TELEMETRY_SECONDS: Final = 1.0
MOST_STARTS_KEPT: Final = 1_000  # untold, while NATS is away: ten seconds at a hundred batches a second


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch: `finished` are to be acknowledged, `again` go through the limiter once more."""

    finished: Sequence[InMessage]
    again: Sequence[InMessage]
    failed: int = 0  # attempts that ended in an error
    waited_seconds: float = 0.0  # for what others do, the database for one: a worker that waits is not slow


class Pool(Protocol):
    """What a pool does with messages whose start has come."""

    gather_seconds: float  # how long starts are gathered into one batch; 0: each chunk is worked on at once

    def arranged(self, messages: Sequence[InMessage]) -> list[InMessage]: ...

    def batch_of(self, messages: Sequence[InMessage], most: int) -> Sequence[InMessage]: ...

    async def process(self, batch: Sequence[InMessage], started_at: float) -> BatchResult: ...


class Drain:
    """One worker of one pool."""

    def __init__(
        self,
        js: JetStream,
        pull: PullConsumer,
        limiter: Limiter,
        pool: Pool,
        name: str,
        *,
        most_at_once: int | None = None,
        database: Callable[[], DatabaseWord] | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.perf_counter,
        worker: str | None = None,
    ) -> None:
        """`database` tells how it answered until now. `clock`: epoch seconds; `steady`: those of one that never jumps.
        `worker`: its name, by default that of machine and process."""
        self._steady = steady
        self._most_at_once = most_at_once
        self._database = database
        self._since, self._began = clock(), steady()
        self._words = 0
        self._js = js
        self._pull = pull
        self._limiter = limiter
        self._pool = pool
        self._name = name
        self._worker = worker or f"{os.uname().nodename.split('.')[0]}-{os.getpid()}"
        self._in_hand: list[InMessage] = []
        self._finished = 0
        self._failed = 0
        self._batches = 0
        self._busy_seconds = 0.0
        self._draining = False
        self._starts: list[tuple[float, int]] = []  # since the last telemetry that was sent
        self._acquiring: asyncio.Task[Start] | None = None

    async def run(self, service: Service) -> None:
        """Drains until asked to stop, then finishes what has started and gives the rest back."""
        work = asyncio.create_task(self._work(service), name="drain")
        stop = asyncio.create_task(service.stopping.wait(), name="stop")
        keep = asyncio.create_task(self._keep_in_hand(), name="keep-in-hand")
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            self._draining = True
            if self._acquiring is not None:
                self._acquiring.cancel()  # nothing has started: what is in hand is given back
            await asyncio.wait({work}, timeout=DRAIN_SECONDS)
            if work.done() and not work.cancelled() and (failure := work.exception()):
                raise failure
        finally:
            for task in (work, stop, keep):
                task.cancel()
            await asyncio.gather(work, stop, keep, return_exceptions=True)
            await self._give_back()

    async def _work(self, service: Service) -> None:
        while not service.stopping.is_set():
            try:
                fetched = await self._pull.fetch(self._most_in_hand(), FETCH_SECONDS)
            except UnavailableError:
                await asyncio.sleep(0.1)
                continue
            self._in_hand = self._pool.arranged(fetched)
            while self._in_hand and not service.stopping.is_set():
                await self._start_some()

    async def _start_some(self) -> None:
        """Starts as many of the messages in hand as the limiter lets start now."""
        waited = self._steady()
        wanted = self._pool.batch_of(self._in_hand, len(self._in_hand))
        starts = await self._acquire(len(wanted))
        if not starts:
            return  # told to stop
        began = self._steady()
        telemetry.LIMITER_WAIT.labels(self._name).observe(began - waited)
        batch = wanted[: sum(start.count for start in starts)]
        self._starts += ((start.at, start.count) for start in starts)
        moments = (start.at for start in starts for _ in range(start.count))
        for message, at in zip(batch, moments, strict=True):
            telemetry.QUEUE_DELAY.labels(self._name).observe(max(0.0, at - message.stored_at))
        contexts = (message.headers.get(tracing.TRACEPARENT, "") for message in batch)
        with tracing.span(f"process {self._name}", kind="consumer", links=contexts) as span:
            span.set("messaging.batch.message_count", len(batch))
            result = await self._pool.process(batch, starts[0].at)
            await self._acknowledge(result.finished)
        self._in_hand = [*result.again, *self._in_hand[len(batch) :]]
        busy = self._steady() - began - result.waited_seconds
        telemetry.PROCESSING.labels(self._name).observe(busy)
        self._busy_seconds += busy
        self._finished += len(result.finished)
        self._failed += result.failed
        self._batches += len(starts)

    async def _acquire(self, most: int) -> list[Start]:
        """What may start now; for a pool that gathers, all that may start within its time. Empty: told to stop."""
        starts: list[Start] = []
        left = most
        until = self._steady() + self._pool.gather_seconds
        while left > 0:
            self._acquiring = asyncio.create_task(self._limiter.acquire(left))
            try:
                starts.append(await self._acquiring)
            except asyncio.CancelledError:
                if self._draining:
                    break  # what has started already is still worked on
                raise
            finally:
                self._acquiring = None
            left -= starts[-1].count
            if self._steady() >= until:
                break
        return starts

    def _most_in_hand(self) -> int:
        """Enough for one batch: what may start at once, or within the time in which the pool gathers."""
        chunk = self._limiter.chunk
        gathered = math.ceil(chunk * CHUNKS_PER_SECOND * self._pool.gather_seconds)
        most = max(chunk, min(MOST_GATHERED, gathered))
        return most if self._most_at_once is None else min(most, self._most_at_once)

    @staticmethod
    async def _acknowledge(messages: Sequence[InMessage]) -> None:
        try:
            await ack_or_let_go(messages)
        except PeakclipError as exc:  # they come again after ack_wait, and the database knows them
            log.warning("acks_lost", seqs=[message.seq for message in messages], error=repr(exc))

    async def _keep_in_hand(self) -> None:
        """Tells the server that what waits for the limiter is not forgotten."""
        while True:
            await asyncio.sleep(topology.ACK_WAIT_SECONDS / 3)
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
                return  # they come again by themselves after ack_wait
        self._in_hand = []

    async def publish_telemetry(self) -> None:
        subject = f"{topology.WORKER_TELEMETRY}.{self._name}.{self._worker}"
        while True:
            # Not the clock itself: it may be set while the worker lives, and its age would be wrong from then on.
            word = self.telemetry(self._since + self._steady() - self._began)
            try:
                await self._js.publish_core(subject, encode(word))
                del self._starts[: len(word.starts)]
            except UnavailableError:
                log.debug("telemetry_not_sent")
                del self._starts[:-MOST_STARTS_KEPT]
            await asyncio.sleep(TELEMETRY_SECONDS)

    def telemetry(self, now: float) -> WorkerTelemetry:
        """The next word."""
        self._words += 1
        return WorkerTelemetry(
            worker=self._worker,
            pool=self._name,
            pid=os.getpid(),
            at=now,
            finished=self._finished,
            failed=self._failed,
            busy_seconds=self._busy_seconds,
            limiter_wait_seconds=self._limiter.wait_seconds_total,
            starts_max_sliding_second=self._limiter.starts_max_sliding_second,
            in_flight=len(self._in_hand),
            draining=self._draining,
            starts=tuple(self._starts),
            most_at_once=self._most_at_once,
            since=self._since,
            batches=self._batches,
            number=self._words,
            database=None if self._database is None else self._database(),
        )
