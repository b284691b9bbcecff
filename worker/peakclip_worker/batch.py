"""What becomes of a batch, for every pool: committed as a whole, or taken apart until only the bad message suffers.

    a batch fails ─▶ each message alone, at once ─▶ who fails alone waits for its next attempt as a schedule
                                                └▶ after the third attempt: a dead letter, then the acknowledgement
    a worker dies ─▶ what it had in hand, each message alone ─▶ who ends its worker again and again: a dead letter

A message that waits is acknowledged: it holds no place in flight, it is counted as delayed, and it comes back on the
pool's retry subject. A database that is away is nobody's fault: then the batch is held until it answers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import asyncpg
import msgspec
import structlog

from peakclip import telemetry, topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import InMessage, JetStream
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT
from peakclip_worker.consumer import BatchResult
from peakclip_worker.dead_letters import attempt_id, first_message_id, first_subject, write_dead_letter
from peakclip_worker.suspects import ALONE_FROM, MOST_BEGUN, Record, in_turn

log = structlog.get_logger()

MAX_ATTEMPTS: Final = 3
BACKOFF_SECONDS: Final = (1.0, 5.0)  # before the second and the third attempt
LONGEST_HOLD_SECONDS: Final = 2.0

_T = TypeVar("_T")


class Work(Protocol[_T]):
    """What a pool does. `commit` is once-only: a repeat of an item changes nothing."""

    def read(self, message: InMessage) -> _T:
        """Raises msgspec.MsgspecError for what can never be read."""

    async def commit(self, items: Sequence[tuple[_T, InMessage]], started_at: float) -> None:
        """All or nothing. Raises what asyncpg raises, or anything else for a message that cannot be worked on."""


def attempt_of(headers: Mapping[str, str]) -> int:
    """Which attempt a message is on: 1 unless it has waited as a schedule."""
    text = headers.get(topology.ATTEMPT_HEADER, "1")
    return int(text) if text.isdecimal() else 1


def retry_headers(message: InMessage, attempt: int, due: float, pool: str) -> dict[str, str]:
    """Headers of the schedule that brings a message back at `due` (epoch seconds) for its next attempt."""
    kept = {key: value for key, value in message.headers.items() if not key.startswith("Nats-")}
    at = datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = {
        **kept,
        topology.ATTEMPT_HEADER: str(attempt),
        topology.MESSAGE_ID_HEADER: first_message_id(message),
        topology.SUBJECT_HEADER: first_subject(message),
        "Nats-Schedule": f"@at {at}",
        "Nats-Schedule-Target": topology.due_subject(pool),
    }
    return {**headers, "Nats-Msg-Id": attempt_id(headers)}


def schedule_name(headers: Mapping[str, str]) -> str:
    """One for each attempt: an earlier one that is given out again after a crash of the server must not take the place
    of a later one, to be dropped then as one that is known."""
    return hashlib.blake2b(headers["Nats-Msg-Id"].encode(), digest_size=12).hexdigest()


class BatchPool(Generic[_T]):
    """A `Pool` for `Drain` around some `Work`."""

    def __init__(
        self,
        name: str,
        js: JetStream,
        database: Any,
        work: Work[_T],
        backoff_seconds: Sequence[float] = BACKOFF_SECONDS,
        gather_seconds: float = 0.0,
    ) -> None:
        self._name = name
        self._js = js
        self._database = database
        self._work = work
        self._backoff = backoff_seconds
        self.gather_seconds = gather_seconds
        self._record = Record(database, name)
        telemetry.FAILED.labels(name)  # 0 from the start: from nothing to 1 would be no increase
        self._failures: dict[int, int] = {}  # stream sequence -> failed attempts in this process
        self._holds = 0  # in a row, without a commit in between

    def arranged(self, messages: Sequence[InMessage]) -> list[InMessage]:
        """What has just come to hand, suspects last: they may end this worker."""
        fresh = [message for message in messages if not self._is_suspect(message)]
        return [*fresh, *in_turn([message for message in messages if self._is_suspect(message)])]

    def batch_of(self, messages: Sequence[InMessage], most: int) -> Sequence[InMessage]:
        """Which of the messages in hand go together: suspects go alone, so that they delay nobody else."""
        for number, message in enumerate(messages[:most]):
            if self._is_suspect(message):
                return messages[: max(1, number)]
        return messages[:most]

    def _is_suspect(self, message: InMessage) -> bool:
        failed_before = message.seq in self._failures or attempt_of(message.headers) > 1
        return failed_before or message.delivered >= ALONE_FROM

    async def process(self, batch: Sequence[InMessage], started_at: float) -> BatchResult:
        if len(batch) > 1:
            return await self._process(batch, started_at)
        (message,) = batch
        try:
            if await self._record.begin(message) > MOST_BEGUN:
                cause = f"its worker ended {MOST_BEGUN} times while it worked on this message alone"
                await self._bury(message, cause, max(MOST_BEGUN, attempt_of(message.headers)))
                result = BatchResult(batch, [], 1)
            else:
                result = await self._process(batch, started_at)
            if result.finished:
                await self._record.end(message)
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            return await self._hold(batch, exc)
        return result

    async def _process(self, batch: Sequence[InMessage], started_at: float) -> BatchResult:
        items: list[tuple[_T, InMessage]] = []
        unreadable: list[tuple[InMessage, str]] = []
        for message in batch:
            try:
                items.append((self._work.read(message), message))
            except msgspec.MsgspecError as exc:
                unreadable.append((message, f"unreadable: {exc}"))
        try:
            for message, cause in unreadable:
                await self._bury(message, cause, attempt_of(message.headers))
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            return await self._hold(batch, exc)
        buried = [message for message, _ in unreadable]
        result = await self._commit(items, started_at) if items else BatchResult([], [])
        return replace(result, finished=[*buried, *result.finished], failed=result.failed + len(buried))

    async def _commit(self, items: Sequence[tuple[_T, InMessage]], started_at: float) -> BatchResult:
        batch = [message for _, message in items]
        try:
            await self._work.commit(items, started_at)
        # First, since the driver's DataError is an InterfaceError too: that is no lost connection.
        except ValueError as exc:
            return await self._isolate(batch, exc)
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            return await self._hold(batch, exc)
        except asyncpg.PostgresError as exc:
            return await self._isolate(batch, exc)
        except Exception as exc:  # noqa: BLE001 - a defect that one message meets must not end every worker in turn
            return await self._isolate(batch, exc)
        self._holds = 0
        self._forget(batch)
        return BatchResult(batch, [])

    def _forget(self, batch: Sequence[InMessage]) -> None:
        for message in batch:
            self._failures.pop(message.seq, None)

    async def _isolate(self, batch: Sequence[InMessage], cause: Exception) -> BatchResult:
        """A batch that is refused is tried again one by one; who fails alone waits, or is set aside."""
        telemetry.FAILED.labels(self._name).inc(len(batch))
        for message in batch:
            self._failures[message.seq] = self._failures.get(message.seq, 0) + 1
        if len(batch) > 1:
            log.warning("batch_refused", pool=self._name, messages=len(batch), error=repr(cause))
            return BatchResult([], batch, len(batch))
        (message,) = batch
        attempts = attempt_of(message.headers) - 1 + self._failures[message.seq]
        log.error("message_failed", pool=self._name, seq=message.seq, attempts=attempts, error=repr(cause))
        try:
            if attempts < MAX_ATTEMPTS:
                await self._delay(message, attempts)
            else:
                await self._bury(message, repr(cause), attempts)
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            self._failures[message.seq] -= 1
            return await self._hold(batch, exc)
        except PeakclipError as exc:  # nothing was stored, or nobody knows: the same again with the same id
            log.warning("retry_not_scheduled", seq=message.seq, error=repr(exc))
            self._failures[message.seq] -= 1
            await asyncio.sleep(0.2)
            return BatchResult([], batch, 1)
        self._forget(batch)
        return BatchResult(batch, [], 1)

    async def _delay(self, message: InMessage, attempts: int) -> None:
        pause = self._backoff[min(attempts, len(self._backoff)) - 1]
        # By the clock that the schedule goes by: a worker's own that is an hour ahead would let it wait for an hour.
        now = (await self._js.stream_state(topology.TIMERS)).server_time
        headers = retry_headers(message, attempts + 1, now + pause, self._name)
        subject = topology.delayed_subject(self._name, schedule_name(headers))
        await self._js.publish(subject, message.payload, headers=headers)

    async def _bury(self, message: InMessage, cause: str, attempts: int) -> None:
        await write_dead_letter(self._database, self._js, self._name, message, cause, attempts)

    async def _hold(self, batch: Sequence[InMessage], cause: Exception) -> BatchResult:
        """Keeps the messages until the database answers: they cannot be worked on by anybody else either."""
        log.warning("database_away", pool=self._name, error=repr(cause), messages=len(batch))
        delay = min(LONGEST_HOLD_SECONDS, 0.1 * 2 ** min(self._holds, 10))  # it may answer and still refuse
        self._holds += 1
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            await asyncio.sleep(delay)
            try:
                await self._database.fetchval("select 1")
                return BatchResult([], batch, 0, loop.time() - since)
            except (*DATABASE_AWAY, *DATABASE_UNFIT):
                delay = min(1.0, delay * 2)
