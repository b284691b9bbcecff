"""The limiter and the drain loop as they must not be. Each is a mistake that somebody makes, and that a sweep finds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from peakclip.errors import PeakclipError
from peakclip.limiter import grid, limiter, pace
from peakclip.limiter.cursor import Cursor, Verdict
from peakclip.limiter.limiter import Limiter
from peakclip.pull import ack_all
from peakclip_operator.simulation.events.worker import DrainMaker, ModelDrain, Result

Planted = contextlib.AbstractContextManager[DrainMaker]


@contextlib.contextmanager
def too_wide_a_tolerance() -> Iterator[DrainMaker]:
    """A fifth of a second more than the burst allows."""
    right = grid.tolerance
    with patch.object(grid, "tolerance", lambda *given: right(*given) + 0.2):
        yield ModelDrain


@contextlib.contextmanager
def late_tickets_started() -> Iterator[DrainMaker]:
    right = limiter.verdict

    def judged(*given: Any) -> Verdict:
        found = right(*given)
        return Verdict.START if found is Verdict.LATE else found

    with patch.object(limiter, "verdict", judged):
        yield ModelDrain


@contextlib.contextmanager
def no_fence() -> Iterator[DrainMaker]:
    """A change is in force as soon as it is written: who has not read it goes on at the old rate beside the others."""
    with patch.object(pace, "FENCE_SECONDS", 0.0), patch.object(pace, "_SETTLE_SECONDS", 0.0):
        yield ModelDrain


@contextlib.contextmanager
def fence_of_the_writer_only() -> Iterator[DrainMaker]:
    """The fence is not moved when the writing itself was held up."""
    with patch.object(pace, "_SETTLE_SECONDS", -60.0):
        yield ModelDrain


@contextlib.contextmanager
def old_rate_not_voided() -> Iterator[DrainMaker]:
    """A ticket of a rate that is over is started all the same."""
    right = limiter.verdict

    def judged(ticket: Any, schedule: Any, now: float, error: float) -> Verdict:
        found = right(ticket, schedule, now, error)
        if found is not Verdict.VOID:
            return found
        return Verdict.WAIT if now < ticket.due else Verdict.START

    with patch.object(limiter, "verdict", judged):
        yield ModelDrain


@contextlib.contextmanager
def idle_windows_banked() -> Iterator[DrainMaker]:
    """Windows of the last second that nobody used are still good."""

    def first(self: Cursor, rate: int, begin: float, earliest: float, not_before: float) -> int:
        front = self._fronts.get(rate)
        return max(grid.window_at(begin) - 4, 0 if front is None else front.window)

    right = grid.tolerance
    with (
        patch.object(Cursor, "_first_window", first),
        patch.object(Cursor, "_burn", lambda *_: 0),
        patch.object(grid, "tolerance", lambda *given: right(*given) + 1.25),
    ):
        yield ModelDrain


@contextlib.contextmanager
def counters_restart_without_the_skip() -> Iterator[DrainMaker]:
    with patch.object(Limiter, "_skip_until", lambda *_: None):
        yield ModelDrain


@contextlib.contextmanager
def new_counters_not_noticed() -> Iterator[DrainMaker]:
    """Tickets of the old stream are good on the new one, and its windows are at once."""
    with patch.object(Limiter, "_note_counters", lambda *_: None):
        yield ModelDrain


@contextlib.contextmanager
def stale_looks_trusted() -> Iterator[DrainMaker]:
    """It fails open."""
    with patch.object(limiter, "STALE_SECONDS", 60.0):
        yield ModelDrain


class _FreeRetries(ModelDrain):
    """What failed is tried again at once, without a ticket."""

    def __init__(self, js: Any, pull: Any, limiter: Any, pool: Any, name: str) -> None:
        super().__init__(js, pull, limiter, _Stubborn(pool, limiter), name)


class _Stubborn:
    gather_seconds = 0.0

    def __init__(self, pool: Any, limiter: Limiter) -> None:
        self._pool = pool
        self._limiter = limiter
        self.arranged, self.batch_of = pool.arranged, pool.batch_of

    async def process(self, batch: Any, started_at: float) -> Result:
        result: Result = await self._pool.process(batch, started_at)
        finished = list(result.finished)
        while result.again:
            result = await self._pool.process(result.again, self._limiter._now()[0])
            finished += result.finished
        return Result(finished, [])


class _TicketFirst(ModelDrain):
    """A ticket is taken before there is a message, so that none has to wait for one."""

    async def _work(self, service: Any) -> None:
        while not service.stopping.is_set():
            start = await self._limiter.acquire(self._limiter.chunk)
            fetched = await self._pull.fetch(start.count, 1.0)
            self._in_hand = self._pool.arranged(fetched)
            if fetched:
                result = await self._pool.process(fetched, start.at)
                await ack_all(result.finished)
                self._in_hand = list(result.again)


class _AckFirst(ModelDrain):
    """Acknowledged before the commit: who dies in between loses messages."""

    def __init__(self, js: Any, pull: Any, limiter: Any, pool: Any, name: str) -> None:
        super().__init__(js, pull, limiter, _Hasty(pool, limiter), name)


class _Hasty(_Stubborn):
    async def process(self, batch: Any, started_at: float) -> Result:
        with contextlib.suppress(PeakclipError):
            await ack_all(batch)
        result: Result = await self._pool.process(batch, self._limiter._now()[0])
        return result


class _Forgetful(ModelDrain):
    """It gives nothing back, tells nobody that it still has it, and acknowledges what it has not worked on."""

    async def _give_back(self) -> None:
        await ack_all(self._in_hand)


FAULTS: dict[str, Callable[[], Planted]] = {
    "too wide a tolerance": too_wide_a_tolerance,
    "late tickets started": late_tickets_started,
    "no fence": no_fence,
    "old rate not voided": old_rate_not_voided,
    "idle windows banked": idle_windows_banked,
    "counters restart without the skip": counters_restart_without_the_skip,
    "new counters not noticed": new_counters_not_noticed,
    "stale looks trusted": stale_looks_trusted,
    "retries are free": lambda: contextlib.nullcontext(_FreeRetries),
    "ticket before message": lambda: contextlib.nullcontext(_TicketFirst),
    "acknowledged before the commit": lambda: contextlib.nullcontext(_AckFirst),
    "acknowledged instead of given back": lambda: contextlib.nullcontext(_Forgetful),
    "fence of the writer only": fence_of_the_writer_only,
}
