"""What a worker holds: one background task and one question, "may I start?".

    limiter = Limiter(js, "orders")
    service.spawn("limiter", limiter.run())
    start = await limiter.acquire(len(messages))   # only with messages in hand
    # start.count of them start now, at start.at

It fails closed. Without a look at the pace and at the server's clock in the last second nothing starts, and a
counter that does not answer costs windows. It never adds: what was not used in its time is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

import msgspec
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError, RefusedError
from peakclip.jetstream import STREAM_NOT_FOUND, JetStream, StreamState
from peakclip.limiter import grid
from peakclip.limiter.clock import ServerClock, local_time
from peakclip.limiter.cursor import Ask, Cursor, Ticket, Verdict, verdict
from peakclip.limiter.pace import STALE_SECONDS, Pace, Segment, read_pace, segment_at, segments
from peakclip.limiter.sliding import SlidingSecond
from peakclip.limiter.waits import WaitMeter
from peakclip.streams import ensure_tickets

log = structlog.get_logger()

_POLL_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.1
_LOOK_TIMEOUT_SECONDS: Final = 0.8
_TICKET_TIMEOUT_SECONDS: Final = 0.5
# New counters begin at 0 and would hand out numbers that others hold from the old ones. After this time every
# worker has seen that the counters are new, and has thrown its old tickets away, or has stopped.
_NEW_COUNTERS_SECONDS: Final = STALE_SECONDS + 0.1

_Counters = tuple[float, int]  # which stream: when it was created, how often it lost its content


@dataclass(frozen=True, slots=True)
class Start:
    """`count` messages start now."""

    count: int
    at: float  # epoch seconds, the server's clock


@dataclass(frozen=True, slots=True)
class _Look:
    """What the last look at the server showed."""

    at: float  # local time at which it began
    generation: int  # of the connection
    pace: Pace | None
    schedule: tuple[Segment, ...]


class Limiter:
    """Start `run()` as a side task, then `acquire()`. Several acquires at once wait in turn."""

    def __init__(self, js: JetStream, pool: str, local_time: Callable[[], float] = local_time) -> None:
        self._js = js
        self._pool = pool
        self._local_time = local_time
        self._clock = ServerClock()
        self._cursor = Cursor()
        self._look: _Look | None = None
        self._news = asyncio.Event()  # replaced after every look
        self._turn = asyncio.Lock()
        self._counters: _Counters = (0.0, 0)
        self._last_seq = 0
        self._not_before = 0.0  # epoch seconds
        self._held: tuple[Ticket, _Counters] | None = None  # survives the cancellation of acquire()
        self._second = SlidingSecond()
        self._waits = WaitMeter()
        self._closed: str | None = "starting"

    # -- what others may read ------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """True while someone has paused the pool. Not knowing the pace is not a pause."""
        return self._look is not None and self._look.pace is not None and self._look.pace.paused

    @property
    def chunk(self) -> int:
        """How many starts to ask for at once: R/100, so about 100 batches per second whatever the rate."""
        now = self._clock.at(self._local_time())
        segment = None if self._look is None or now is None else segment_at(self._look.schedule, now)
        return grid.chunk(segment.rate, segment.burst) if segment is not None and segment.rate else 1

    @property
    def wait_seconds_total(self) -> float:
        """Time spent in `acquire`, waits that go on included; of several at once each counts."""
        return self._waits.total(self._local_time())

    @property
    def starts_max_sliding_second(self) -> int:
        """Most starts of this worker in any sliding second since it began."""
        return self._second.most

    # -- looking -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks at the server's clock and at the pace for ever. Without it nothing starts."""
        while True:
            begin = self._local_time()
            seen = await self._try_to_look()
            self._tell_state()
            news, self._news = self._news, asyncio.Event()
            news.set()
            pause = _POLL_SECONDS - (self._local_time() - begin) if seen else _RETRY_SECONDS
            await asyncio.sleep(max(pause, _RETRY_SECONDS))

    async def _try_to_look(self) -> bool:
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT_SECONDS):
                await self._look_once()
            return True
        except RefusedError as exc:
            if exc.code == STREAM_NOT_FOUND:
                await self._create_tickets()
            else:
                log.warning("limiter_refused", pool=self._pool, error=str(exc))
        except msgspec.DecodeError as exc:  # ValidationError is one
            self._look = None
            log.error("pace_unreadable", pool=self._pool, error=str(exc))
        except (PeakclipError, TimeoutError):
            pass  # not reachable: `_tell_state` says so once
        return False

    async def _create_tickets(self) -> None:
        """They live in memory: after a restart of a server that is alone their stream is gone."""
        try:
            await ensure_tickets(self._js)
        except PeakclipError as exc:
            log.warning("tickets_not_created", error=str(exc))

    async def _look_once(self) -> None:
        generation = self._js.generation
        seen_seq = self._last_seq  # before asking: a ticket may be taken while the answer is on its way
        sent = self._local_time()
        state = await self._js.stream_state(topology.TICKETS)
        self._clock.add(sent, state.server_time, self._local_time())
        found = await read_pace(self._js, self._pool)
        pace = None if found is None else found[0]
        if self._look is not None and pace != self._look.pace:
            log.info("pace_changed", pool=self._pool, pace=pace and msgspec.to_builtins(pace))
        self._note_counters(state, seen_seq)
        self._look = _Look(sent, generation, pace, () if pace is None else segments(pace))

    def _note_counters(self, state: StreamState, seen_seq: int) -> None:
        created, losses = self._counters
        if state.created != created:
            self._counters = (state.created, 0)
            self._skip_until(state.created + _NEW_COUNTERS_SECONDS)
        elif state.last_seq < seen_seq:  # the same stream on a server that had lost its memory
            self._counters = (created, losses + 1)
            self._skip_until(state.server_time + _NEW_COUNTERS_SECONDS)
        else:
            self._last_seq = max(self._last_seq, state.last_seq)
            return
        self._last_seq = state.last_seq

    def _skip_until(self, time: float) -> None:
        """No window that begins before this time (epoch seconds)."""
        whole = grid.window_start(ceil(time / grid.WINDOW_SECONDS))
        self._not_before = max(self._not_before, whole)

    def _seen(self) -> _Look | None:
        """The last look, if it is young enough to act on."""
        look = self._look
        if (
            look is None
            or look.generation != self._js.generation
            or self._local_time() - look.at > STALE_SECONDS
        ):
            return None
        return look

    def _tell_state(self) -> None:
        reason = self._closed_because()
        if reason == self._closed:
            return
        self._closed = reason
        if reason is None:
            log.info("limiter_open", pool=self._pool)
        else:
            log.warning("limiter_closed", pool=self._pool, reason=reason)

    def _closed_because(self) -> str | None:
        look = self._seen()
        if look is None:
            return "the server has not been seen for a second"
        if look.pace is None:
            return "no rate is set"
        now, error = self._now()
        segment = segment_at(look.schedule, now)
        if segment is not None and segment.rate and grid.tolerance(segment.rate, segment.burst, error) < 0:
            return "the clock is too uncertain for so small a burst: the way to the server is too slow"
        return None

    def _now(self) -> tuple[float, float]:
        """The server's time and by how much it may be wrong. Only after a look."""
        local = self._local_time()
        return self._clock.at(local) or 0.0, self._clock.error(local)

    # -- starting ------------------------------------------------------------------------------------------

    async def acquire(self, most: int) -> Start:
        """Waits until between 1 and `most` starts are due now. Ask only with `most` messages in hand.

        Cancelling it is safe: a ticket already taken is kept for the next call, and burnt if that is late.
        """
        self._waits.begin(self._local_time())
        try:
            async with self._turn:
                while True:
                    if self._held is None:
                        self._held = await self._take(most)
                    start = await self._when_due(most, *self._held)
                    self._held = None
                    if start is not None:
                        self._second.add(start.at, start.count)
                        return start
        finally:
            self._waits.end(self._local_time())

    async def _take(self, most: int) -> tuple[Ticket, _Counters]:
        while True:
            look = self._seen()
            if look is None:
                await self._news_or(inf)
                continue
            now, error = self._now()
            ask = self._cursor.next(look.schedule, now, most, not_before=self._not_before, clock_error=error)
            if isinstance(ask, float):
                await self._news_or(ask - now)
                continue
            counters = self._counters
            value = await self._add(ask)
            if value is None:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            ticket = self._cursor.answered(ask, value, self._now()[0])
            if ticket is not None and counters == self._counters:
                return ticket, counters

    async def _add(self, ask: Ask) -> int | None:
        """The counter after the addition; None if it did not answer, or is not the one that was looked at."""
        subject = topology.ticket_subject(self._pool, ask.segment.rate, ask.window)
        counters, seen_seq = self._counters, self._last_seq
        try:
            ack = await self._js.increment(subject, ask.add, timeout_seconds=_TICKET_TIMEOUT_SECONDS)
        except PeakclipError as exc:
            log.debug("ticket_failed", pool=self._pool, error=str(exc))
            self._skip_until(self._now()[0] + grid.WINDOW_SECONDS)
            return None
        if counters != self._counters:
            return None
        if ack.seq <= seen_seq:  # the stream began anew since the last look: look first
            self._look = None
            return None
        self._last_seq = max(self._last_seq, ack.seq)
        return ack.value

    async def _when_due(self, most: int, ticket: Ticket, counters: _Counters) -> Start | None:
        """None if the ticket is worth nothing any more."""
        while True:
            now, error = self._now()
            look = self._seen()
            if look is None:
                left = ticket.due + grid.LATE_TOLERANCE_SECONDS - now
                if left <= 0:
                    return None
                await self._news_or(left)
                continue
            if counters != self._counters:
                return None
            judged = verdict(ticket, look.schedule, now, error)
            if judged is Verdict.START:
                return Start(min(most, len(ticket.slots)), now)
            if judged is not Verdict.WAIT:
                return None
            await self._news_or(ticket.due - now)

    async def _news_or(self, seconds: float) -> None:
        """Until the next look, but no longer than `seconds` (at least a tick of the event loop's clock)."""
        try:
            async with asyncio.timeout(max(0.0005, min(seconds, 1.0))):
                await self._news.wait()
        except TimeoutError:
            pass
