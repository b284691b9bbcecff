"""What the workers of a pool say of themselves on Core NATS, once a second each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import nats.errors
import structlog

from peakclip import topology
from peakclip.errors import UnavailableError
from peakclip.jetstream import JetStream
from peakclip.limiter.sliding import SlidingSecond
from peakclip.messages import WorkerTelemetry
from peakclip_operator.plan import Totals
from peakclip_operator.ports import Telemetry, WorkerSample

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = structlog.get_logger()

SILENT_SECONDS = 5.0  # a worker not heard for this long is gone
_LATE_SECONDS = 12.0  # after an outage of NATS a worker tells of its last ten seconds
_RECENT_SECONDS = 60.0
_STRETCH_SECONDS = 5.0
_REMEMBERED = 1000  # names of gone workers whose totals are still known, should one of them speak again

_decoder = msgspec.json.Decoder(WorkerTelemetry)


class WorkersHeard:
    """Newest word per worker, and totals that only grow: what the dead have finished stays counted."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[float, WorkerTelemetry]] = {}  # received at (our clock), word
        self._finished = 0
        self._failed = 0
        self._busy_seconds = 0.0
        self._starts = PoolStarts()
        self._most_at_once: int | None = None  # of the newest word: workers of a pool are alike

    def hear(self, word: WorkerTelemetry, now: float) -> None:
        """Adds what is new since the worker's last word. Smaller totals mean a new process of that name."""
        _, last = self._newest.pop(word.worker, (0.0, None))
        if last is None or word.pid != last.pid or word.finished < last.finished:
            finished, failed, busy = word.finished, word.failed, word.busy_seconds
        else:
            finished = word.finished - last.finished
            failed = word.failed - last.failed
            busy = word.busy_seconds - last.busy_seconds
        self._finished += finished
        self._failed += max(0, failed)
        self._busy_seconds += max(0.0, busy)
        self._starts.add(word.starts)
        self._most_at_once = word.most_at_once
        self._newest[word.worker] = (now, word)  # moves to the end: the dictionary is in order of hearing
        if len(self._newest) > _REMEMBERED:
            del self._newest[next(iter(self._newest))]

    def report(self, now: float) -> Telemetry:
        workers = [
            WorkerSample(
                worker=word.worker,
                pid=word.pid,
                at=at,
                in_flight=word.in_flight,
                draining=word.draining,
            )
            for at, word in self._newest.values()
            if now - at <= SILENT_SECONDS
        ]
        return Telemetry(
            totals=Totals(self._finished, self._failed, self._busy_seconds),
            workers=workers,
            starts_max_sliding_second=self._starts.most(),
            most_at_once=self._most_at_once,
            starts_recent_most=self._starts.recent_most(now),
        )


class PoolStarts:
    """The most starts in any sliding second over all workers, from what each of them tells of its own.

    Words come late and in any order, so the last seconds are looked at again each time. A lost word makes the
    number smaller, never larger: what it shows did happen.
    """

    def __init__(self) -> None:
        self._recent: list[tuple[float, int]] = []
        self._most: int | None = None
        self._by_stretch: dict[int, int] = {}  # the most, by when it was seen, in stretches of time

    def add(self, starts: Sequence[tuple[float, int]]) -> None:
        self._recent.extend(starts)

    def most(self) -> int | None:
        """None until a worker has told of a start."""
        if not self._recent:
            return self._most
        self._recent.sort()
        most = _most(self._recent)
        self._most = max(most, self._most or 0)
        newest, first = self._recent[-1][0], self._recent[0][0]
        self._recent = [start for start in self._recent if start[0] >= newest - _LATE_SECONDS]
        lately = most if first >= newest - _RECENT_SECONDS else _most(self._recent)  # after a silence
        stretch = int(newest // _STRETCH_SECONDS)
        self._by_stretch[stretch] = max(lately, self._by_stretch.get(stretch, 0))
        return self._most

    def recent_most(self, now: float) -> int | None:
        """Of the last minute and a little more: at another rate, what was at the one before says nothing."""
        oldest = (now - _LATE_SECONDS - _RECENT_SECONDS) // _STRETCH_SECONDS
        self._by_stretch = {at: most for at, most in self._by_stretch.items() if at >= oldest}
        return max(self._by_stretch.values(), default=0) if self._most is not None else None


def _most(starts: Sequence[tuple[float, int]]) -> int:
    second = SlidingSecond()
    for at, count in starts:
        second.add(at, count)
    return second.most


class NatsTelemetry:
    """Listens for the life of the connection; the subscription survives a restart of the server."""

    def __init__(self, js: JetStream, pool: str, *, clock: Callable[[], float] = time.time) -> None:
        self._js = js
        self._subject = f"{topology.WORKER_TELEMETRY}.{pool}.*"
        self._clock = clock
        self._heard = WorkersHeard()
        self._subscription: Any = None

    async def listen(self) -> None:
        """Raises UnavailableError while disconnected."""
        try:
            self._subscription = await self._js.subscribe_core(self._subject, self._received)
        except (nats.errors.Error, OSError) as exc:
            raise UnavailableError from exc

    async def close(self) -> None:
        """Stops listening."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            # While disconnected the client drops it before it fails, and so does not bring it back.
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def read(self, now: float) -> Telemetry:
        return self._heard.report(now)

    async def _received(self, msg: Msg) -> None:
        try:
            word = _decoder.decode(msg.data)
        except msgspec.MsgspecError as exc:
            log.warning("telemetry_unreadable", subject=msg.subject, error=str(exc))
            return
        self._heard.hear(word, self._clock())
