"""Group commit: many waiting orders become one durable message, admitted by one counter operation per sale.

    submit(order) ─▶ waiting ─▶ reserve units (STOCK -k) ─▶ publish the frame (INTAKE, one fsync) ─▶ answer all

The frame in flight is the linger: what arrives meanwhile makes up the next frame, and a lone order is a frame of
one. An order is accepted when its frame is stored, and never before.

Who owns what when something dies: a reservation names its frame; if no such frame was stored, the reconciler puts
a fence in the frame's place and returns the units (docs/adr/0006). That is why a group is never published later
than `GROUP_DEADLINE_SECONDS` after its reservation, and why an unknown outcome is left to the reconciler.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from peakclip import telemetry, topology
from peakclip.errors import OutcomeUnknownError, PeakclipError, RefusedError, UnavailableError
from peakclip.jetstream import WRONG_LAST_SEQUENCE, JetStream
from peakclip.messages import Order, encode_frame
from peakclip.outcomes import (
    BusyError,
    InDoubtError,
    IntakeUnavailableError,
    Outcome,
    SoldOutError,
    Waiting,
    tell,
)
from peakclip.storing import StoringPace

__all__ = ["BusyError", "Intake", "IntakeUnavailableError", "Outcome", "SoldOutError", "tell"]

log = structlog.get_logger()

GROUP_DEADLINE_SECONDS: Final = 5.0
FRAMES_IN_FLIGHT: Final = 2
WELL_FILLED: Final = topology.MAX_ORDERS_PER_FRAME // 2
SOLD_OUT_PROBE_SECONDS: Final = 1.0
# An order that finds so many before it that it would be stored later than this is refused at once, where that is
# known; and where it was not, as soon as it has waited for longer than that.
EXPECTED_WAIT_SECONDS: Final = 3.0
LONGEST_WAIT_SECONDS: Final = 5.0
LEAST_PLACES: Final = 4 * topology.MAX_ORDERS_PER_FRAME  # two groups under way, and the next two


@dataclass(frozen=True, slots=True)
class _Group:
    frame_id: str
    reserved_at: float  # epoch seconds
    deadline: float  # loop time


def grant(quantities: list[int], units: int) -> list[bool]:
    """First come, first served: who gets what they asked for out of `units`, each all or nothing.

    >>> grant([1, 2, 1], 2)
    [True, False, True]
    """
    granted = []
    for quantity in quantities:
        granted.append(quantity <= units)
        if granted[-1]:
            units -= quantity
    return granted


def may_start(waiting: int, flying: int) -> bool:
    """Whether to commit what waits now, or to wait for company until a frame in flight has landed.

    The first frame goes at once. Another beside it is worth its two fsyncs only when it is well filled.

    >>> may_start(1, 0), may_start(40, 1), may_start(128, 1)
    (True, False, True)
    """
    return waiting >= (WELL_FILLED if flying else 1)


def new_frame_id() -> str:
    return secrets.token_hex(10)


class Intake:
    """Accepts orders for one API process. `run()` must be running."""

    def __init__(
        self,
        js: JetStream,
        on_stored: Callable[[int, list[Order]], None],
        in_flight: int = FRAMES_IN_FLIGHT,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_frame_id,
    ) -> None:
        """`clock`: epoch seconds. `new_id` makes the id of a frame, which nobody else may ever make."""
        self._js = js
        self._on_stored = on_stored  # told of every frame of ours as soon as it is stored
        self._in_flight = in_flight
        self._clock = clock
        self._new_id = new_id
        self._waiting: deque[Waiting] = deque()
        self._flying = 0  # groups being committed
        self._wake = asyncio.Event()
        self._sold_out_until: dict[str, float] = {}  # sale -> loop time of the next probe
        self._side_work: set[asyncio.Task[None]] = set()
        self._pace = StoringPace()
        self._loop = asyncio.get_running_loop()  # asking for it is a system call on Python 3.11

    def submit(self, order: Order, ended: Callable[[Outcome], None]) -> None:
        """Puts an order into the next group. `ended` is called once, later, when the order is on disk or refused.

        Raises SoldOutError at once while the sale is known to be.
        """
        now = self._loop.time()
        if self._sold_out_until and now < self._sold_out_until.get(order.sale_id, 0.0):
            raise SoldOutError
        self._waiting.append(Waiting(order, ended, now))
        self._wake.set()

    def places(self) -> int:
        """How many orders may be under way at the moment, so that the last of them is stored soon."""
        at_once = self._in_flight * topology.MAX_ORDERS_PER_FRAME
        soon = self._pace.orders_within(EXPECTED_WAIT_SECONDS, at_once, self._loop.time())
        return int(min(max(LEAST_PLACES, soon), sys.maxsize))

    async def run(self) -> None:
        """Commits group after group, `in_flight` at a time, until cancelled; then nothing is left unanswered."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._in_flight):
                    tasks.create_task(self._commit_groups(), name=f"intake-{number}")
        finally:
            self._refuse(list(self._waiting), IntakeUnavailableError("The API is shutting down."))
            self._waiting.clear()

    async def _commit_groups(self) -> None:
        while True:
            while not may_start(len(self._waiting), self._flying):
                self._wake.clear()
                await self._wake.wait()
            group = self._next_group()
            if not group:
                continue
            began = self._loop.time()
            self._pace.begin(began)
            self._flying += 1
            try:
                await self._commit(group)
            except PeakclipError as exc:
                log.warning("group_not_accepted", orders=len(group), error=repr(exc))
            finally:  # whatever happened, nobody is left waiting
                self._flying -= 1
                self._pace.end(began, self._loop.time())
                self._refuse(group, IntakeUnavailableError())

    def _next_group(self) -> list[Waiting]:
        """Those who have waited for longest, without those who have waited for too long: they are refused."""
        waiting, latest = self._waiting, self._loop.time() - LONGEST_WAIT_SECONDS
        while waiting and waiting[0].since < latest:
            waiting.popleft().end(BusyError())
        return [waiting.popleft() for _ in range(min(len(waiting), topology.MAX_ORDERS_PER_FRAME))]

    @staticmethod
    def _refuse(group: list[Waiting], error: SoldOutError | IntakeUnavailableError) -> None:
        for waiting in group:
            waiting.end(error)

    async def _commit(self, group: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        frame = _Group(self._new_id(), self._clock(), loop.time() + GROUP_DEADLINE_SECONDS)
        by_sale: dict[str, list[Waiting]] = {}
        for waiting in group:
            by_sale.setdefault(waiting.order.sale_id, []).append(waiting)
        admitted_by_sale = await asyncio.gather(
            *(self._reserve(frame, sale_id, part) for sale_id, part in by_sale.items())
        )
        admitted = [waiting for part in admitted_by_sale for waiting in part]
        if not admitted:
            return
        orders = [waiting.order for waiting in admitted]
        try:
            seq = await self._store(frame, orders)
        except (RefusedError, UnavailableError):
            # Certainly not stored and never to be: nobody will look for this frame, so the units go back now.
            self._give_back(frame, orders)
            raise
        except OutcomeUnknownError:
            self._refuse(admitted, InDoubtError())
            raise
        telemetry.COMMIT_BATCH.observe(len(orders))
        self._on_stored(seq, orders)
        for waiting in admitted:
            waiting.end(seq)

    async def _reserve(self, frame: _Group, sale_id: str, part: list[Waiting]) -> list[Waiting]:
        """Takes units for as many as there are units for, answers `sold out` to the others.

        An ordinary order is of no sale and takes none.
        """
        if not sale_id:
            return part
        quantities = [waiting.order.quantity for waiting in part]
        wanted = sum(quantities)
        taken = await self._js.increment(
            topology.stock_subject(sale_id),
            -wanted,
            message_id=f"{topology.RESERVATION}-{frame.frame_id}-{sale_id}",
            headers={topology.FRAME_HEADER: frame.frame_id},
        )
        value = taken.value or 0
        granted = grant(quantities, value + wanted)
        admitted = [waiting for waiting, yes in zip(part, granted, strict=True) if yes]
        overdrawn = wanted - sum(waiting.order.quantity for waiting in admitted)
        if overdrawn:
            self._return_later(frame, sale_id, overdrawn, "o")
            if value + wanted - (wanted - overdrawn) <= 0:
                self._sold_out_until[sale_id] = asyncio.get_running_loop().time() + SOLD_OUT_PROBE_SECONDS
            self._refuse([w for w, yes in zip(part, granted, strict=True) if not yes], SoldOutError())
        return admitted

    async def _store(self, frame: _Group, orders: list[Order]) -> int:
        """Publishes until the outcome is known or the deadline is past. Returns the frame's sequence."""
        loop = asyncio.get_running_loop()
        subject = topology.frame_subject(frame.frame_id)
        body = encode_frame(orders)
        headers = {topology.FRAME_ORDERS_HEADER: str(len(orders))}
        unknown: OutcomeUnknownError | None = None
        while True:
            try:
                ack = await self._js.publish(subject, body, create_only=True, headers=headers)
                return ack.seq
            except OutcomeUnknownError as exc:
                unknown = exc
            except UnavailableError:
                if loop.time() > frame.deadline and unknown is None:
                    raise
            except RefusedError as exc:
                if exc.code == WRONG_LAST_SEQUENCE:  # an earlier try of ours was stored, or it is a fence
                    unknown = unknown or OutcomeUnknownError()
                    if (seq := await self._look_up(subject)) is not None:
                        return seq
                elif unknown is None:
                    raise
            if loop.time() > frame.deadline:
                raise unknown or OutcomeUnknownError()
            await asyncio.sleep(0.05)

    async def _look_up(self, subject: str) -> int | None:
        """The sequence of the frame of this subject; None while nobody answers, which says nothing about it."""
        try:
            stored = await self._js.last_message(topology.INTAKE, subject)
        except PeakclipError:
            return None
        if stored is None or stored.headers.get(topology.FRAME_ORDERS_HEADER) == "0":
            raise OutcomeUnknownError("The group came too late and was fenced off.")
        return stored.seq

    def _give_back(self, frame: _Group, orders: list[Order]) -> None:
        units: dict[str, int] = {}
        for order in orders:
            if order.sale_id:
                units[order.sale_id] = units.get(order.sale_id, 0) + order.quantity
        for sale_id, count in units.items():
            self._return_later(frame, sale_id, count, "b")

    def _return_later(self, frame: _Group, sale_id: str, units: int, kind: str) -> None:
        """Puts units back on offer, off the accept path. If that fails, the reconciler finds the difference."""

        async def give_back() -> None:
            try:
                await self._js.increment(
                    topology.stock_subject(sale_id),
                    units,
                    message_id=f"{kind}-{frame.frame_id}-{sale_id}",
                    headers={
                        topology.FRAME_HEADER: frame.frame_id,
                        topology.RESERVED_AT_HEADER: str(frame.reserved_at),
                    },
                )
            except PeakclipError as exc:
                log.warning("stock_return_left_to_reconciler", frame=frame.frame_id, error=repr(exc))

        task = asyncio.create_task(give_back())
        self._side_work.add(task)
        task.add_done_callback(self._side_work.discard)
