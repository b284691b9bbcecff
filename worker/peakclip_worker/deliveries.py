"""The sender: notifications that wait in the table `deliveries` go to their far sides, beside the drain of a worker.

A row is leased in a transaction of its own, sent while none is open, and settled in another; so a worker that dies in
between leaves a lease that runs out, and the same delivery is sent again under the same id. Once-only is as good as the
far side's memory for that id. After the last attempt the row is dead, and its dead letter is written with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from peakclip import telemetry
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query
from peakclip_worker.channels.port import (
    Channel,
    Delivery,
    DeliveryError,
    DeliveryFailedError,
    DeliveryRefusedError,
)

log = structlog.get_logger()

BACKOFF_SECONDS: Final = (1.0, 5.0)  # before the second and the third attempt; there is no fourth
LONGEST_WAIT_SECONDS: Final = 60.0  # whatever the far side asks for
AT_ONCE: Final = 32
PER_LANE: Final = 4
LEASE_SECONDS: Final = 30.0
POLL_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 2.0  # between attempts to reach the database
FINISH_SECONDS: Final = 12.0  # on SIGTERM: longer than any attempt, shorter than the time before SIGKILL
SETTLE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery: `state` as in its row, and why."""

    state: str  # sent; pending: another attempt; dead
    error: str | None = None
    wait_seconds: float | None = (
        None  # before that attempt, by the database's clock: from when this is written
    )

    @property
    def outcome(self) -> str:
        """As the metric says it."""
        return "again" if self.state == "pending" else self.state


def after(
    attempt: int,
    outcome: DeliveryError | None,
    backoff_seconds: Sequence[float] = BACKOFF_SECONDS,
) -> Verdict:
    """What follows from how an attempt ended; `outcome` is None if the far side has it.

    The wait before the next attempt is the backoff, or what the far side asked for if that is longer, up to a minute.
    """
    if outcome is None:
        return Verdict("sent")
    if isinstance(outcome, DeliveryRefusedError) or attempt > len(backoff_seconds):
        return Verdict("dead", printable(str(outcome)))
    asked = outcome.retry_after_seconds if isinstance(outcome, DeliveryFailedError) else None
    wait = min(max(backoff_seconds[attempt - 1], asked or 0.0), LONGEST_WAIT_SECONDS)
    return Verdict("pending", printable(str(outcome)), wait)


def printable(text: str) -> str:
    """A far side's words as one line that PostgreSQL and a log can hold.

    >>> printable("no\\x00 such\\r\\nuser\\udcff")
    'no? such??user?'
    """
    return "".join(c if c.isprintable() else "?" for c in text[:500])


class Sender:
    """Sends what is due until the service stops. `channels` by name; rows of other channels wait.

    `backoff_seconds` holds one wait per further attempt. At most `at_once` attempts run side by side, and `per_lane` of
    them to one host, so that a far side that hangs holds up its own deliveries only. An attempt gets half of the lease.
    """

    def __init__(
        self,
        database: Any,
        channels: Mapping[str, Channel],
        *,
        backoff_seconds: Sequence[float] = BACKOFF_SECONDS,
        at_once: int = AT_ONCE,
        per_lane: int = PER_LANE,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._channels = channels
        self._backoff = tuple(backoff_seconds)
        self._at_once = at_once
        self._per_lane = per_lane
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self.wake = asyncio.Event()  # to be set by whoever has committed new rows
        self._attempts: dict[asyncio.Task[None], str] = {}  # under way, with their lanes
        self._limited = False  # whether the last look may have left something for want of a place
        self._after = ""  # the lane after which the next look begins, so that each has its turn
        self._verdicts: list[tuple[Delivery, Verdict]] = []  # not yet written
        self._judged = asyncio.Event()

    async def run(self, service: Service) -> None:
        """Sends until asked to stop, then finishes what is under way. Survives outages of the database."""
        if not self._channels:
            await service.stopping.wait()
            return
        stop = asyncio.create_task(self._wake_to_stop(service), name="stop")
        settle = asyncio.create_task(self._settle_for_ever(), name="settle")
        settle.add_done_callback(lambda _: self.wake.set())
        pause = 0.0
        try:
            while not service.stopping.is_set():
                self.wake.clear()
                if settle.done():
                    settle.result()  # raises: without it nothing that is sent would ever be known to be
                try:
                    await self._start_some()
                    pause = 0.0
                except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                    pause = min(LONGEST_PAUSE_SECONDS, 2 * pause or 0.1)
                    log.warning("deliveries_retry", error=repr(exc))
                await self._until_wake(pause or self._poll_seconds)
            if self._attempts:
                await asyncio.wait(self._attempts, timeout=FINISH_SECONDS)
        finally:
            await _end([stop, settle, *self._attempts])
        # What cannot be written is sent again when the lease has run out.
        with contextlib.suppress(*DATABASE_AWAY, *DATABASE_UNFIT):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settle()

    async def _wake_to_stop(self, service: Service) -> None:
        await service.stopping.wait()
        self.wake.set()

    async def _until_wake(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()

    async def _start_some(self) -> None:
        """Claims what is due and has room, lane by lane in turn, once around."""
        self._limited = True  # until known better: a place that becomes free meanwhile is worth another look
        limited = False
        while (room := self._at_once - len(self._attempts) - len(self._verdicts)) > 0:
            lanes = Counter(self._attempts.values())
            began = self._after
            rows = await self._database.fetch(
                query("claim_deliveries"),
                [*self._channels], [*lanes], [*lanes.values()], self._per_lane, began, room, self._lease_seconds,
            )  # fmt: skip
            for row in rows:
                task = asyncio.create_task(self._deliver(delivery_of(row)), name="delivery")
                self._attempts[task] = row["lane"]
                task.add_done_callback(self._ended)
            lanes.update(row["lane"] for row in rows)
            limited = limited or len(rows) == room or max(lanes.values(), default=0) >= self._per_lane
            self._after = max(row["lane"] for row in rows) if len(rows) == room else ""
            if not began:
                self._limited = limited
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._place_is_free()
        if not task.cancelled() and (failure := task.exception()):
            # Its lease runs out, and the attempt has been counted.
            log.error("delivery_died", exc_info=failure)

    def _place_is_free(self) -> None:
        if self._limited:
            self.wake.set()

    async def _deliver(self, delivery: Delivery) -> None:
        if delivery.attempt > len(self._backoff) + 1:
            # Not sent once more: it may be what ended them.
            verdict = Verdict("dead", "the workers that made the last attempts ended before it was known how")
        else:
            began = time.perf_counter()
            outcome = await self._attempt(delivery)
            telemetry.DELIVERY.labels(delivery.channel).observe(time.perf_counter() - began)
            verdict = after(delivery.attempt, outcome, self._backoff)
        telemetry.DELIVERIES.labels(delivery.channel, verdict.outcome).inc()
        if verdict.state != "sent":
            log.warning(
                "delivery_" + verdict.outcome, delivery_id=delivery.delivery_id, channel=delivery.channel,
                attempt=delivery.attempt, error=verdict.error,
            )  # fmt: skip
        self._verdicts.append((delivery, verdict))
        self._judged.set()

    async def _attempt(self, delivery: Delivery) -> DeliveryError | None:
        try:
            async with asyncio.timeout(self._lease_seconds / 2):
                await self._channels[delivery.channel].send(delivery)
        except DeliveryError as exc:
            return exc
        except TimeoutError:
            return DeliveryFailedError("it took too long")
        except Exception as exc:  # not foreseen by an adapter: concerns one delivery, not the worker
            log.error("delivery_unforeseen", delivery_id=delivery.delivery_id, exc_info=exc)
            return DeliveryFailedError(repr(exc))
        return None

    async def _settle_for_ever(self) -> None:
        pause = 0.0
        while True:
            await self._judged.wait()
            self._judged.clear()
            try:
                await self._settle()
                pause = 0.0
            except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                pause = min(LONGEST_PAUSE_SECONDS, 2 * pause or 0.1)
                log.warning("deliveries_unsettled", deliveries=len(self._verdicts), error=repr(exc))
                await asyncio.sleep(pause)
                self._judged.set()

    async def _settle(self) -> None:
        """Writes all verdicts that wait, in one statement: while it runs the next ones gather."""
        verdicts = self._verdicts.copy()
        if not verdicts:
            return
        await self._database.execute(
            query("settle_deliveries"),
            [delivery.delivery_id for delivery, _ in verdicts],
            [delivery.attempt for delivery, _ in verdicts],
            [verdict.state for _, verdict in verdicts],
            [verdict.wait_seconds for _, verdict in verdicts],
            [verdict.error for _, verdict in verdicts],
            [msgspec.json.encode(one) if verdict.state == "dead" else None for one, verdict in verdicts],
        )
        del self._verdicts[: len(verdicts)]
        self._place_is_free()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def delivery_of(row: Any) -> Delivery:
    """A row of `deliveries` that has been claimed."""
    ours = {
        "delivery_id": str(row["delivery_id"]),
        "attempt": row["attempts"],
        "data": msgspec.Raw(row["data"].encode()),
    }
    return Delivery(**ours, **{name: row[name] for name in Delivery.__struct_fields__ if name not in ours})


async def redrive(database: Any, delivery_id: str) -> bool:
    """Sends a dead delivery once more, with all its attempts, and removes its dead letter; whether there was one."""
    return bool(await database.fetchval(query("redrive_delivery"), delivery_id))


async def drop(database: Any, delivery_id: str) -> bool:
    """Gives a dead delivery up for good and removes its dead letter; whether there was one."""
    return bool(await database.fetchval(query("drop_delivery"), delivery_id))
