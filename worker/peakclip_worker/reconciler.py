"""Returns the units that an API process reserved and never sold, because it died in between (docs/adr/0006).

Every reservation on STOCK names its frame. Once a reservation is older than any group may get, the frame either
exists or must never come to exist: where there is none, an empty frame (a fence) is created on the frame's own
subject, which a late API process cannot overwrite. Then, for each sale,

    correction = -(units the frame holds + sum of the group's movements)

for example -(0 + (-64)) = +64 when the process died before it published a frame of 64.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError, RefusedError
from peakclip.jetstream import WRONG_LAST_SEQUENCE, InMessage, JetStream, StoredMessage
from peakclip.messages import decode_frame
from peakclip.pull import ack_all
from peakclip.service import Service
from peakclip_worker.stock_log import StockLog

log = structlog.get_logger()

MOST_HELD: Final = 10_000
MOST_LOGS: Final = 16  # sales whose movements are remembered
FETCH: Final = 256
LOOK_SECONDS: Final = 1.0


@dataclass(slots=True)
class Movements:
    """What one group did to one sale's counter, in the order of the stream."""

    frame_id: str
    sale_id: str
    seen_at: float  # epoch seconds, when the first of them reached this process
    by_seq: dict[int, InMessage] = field(default_factory=dict)

    @property
    def since(self) -> float:
        return min(message.stored_at for message in self.by_seq.values())

    def due(self, grace_seconds: float) -> float:
        """When all that was made in time is surely here.

        Not by the age alone: after an absence of the relay an old group may come in two fetches, or, left by a
        process that died, in two redeliveries; its first half would return what the second has returned already.
        """
        return max(self.since, self.seen_at) + grace_seconds

    def late(self, grace_seconds: float) -> list[InMessage]:
        return [
            message
            for message in self.by_seq.values()
            if is_late(message.headers, message.stored_at, grace_seconds)
        ]

    def units(self, grace_seconds: float) -> int:
        """The sum of what was made in time."""
        late = sum(units_of(message) for message in self.late(grace_seconds))
        return sum(units_of(message) for message in self.by_seq.values()) - late

    @property
    def reservation(self) -> InMessage | None:
        for message in self.by_seq.values():
            if message.headers.get("Nats-Msg-Id", "").startswith(f"{topology.RESERVATION}-"):
                return message
        return None


def units_of(message: InMessage) -> int:
    return int(message.headers["Nats-Incr"])


def correction(movements: int, in_frame: int) -> int:
    """Units to add so that the group's sum equals what its frame sells.

    >>> correction(movements=-64, in_frame=0), correction(movements=-64 + 4, in_frame=60)
    (64, 0)
    """
    return -(in_frame + movements)


def is_late(headers: Mapping[str, str], stored_at: float, grace_seconds: float) -> bool:
    """A return that was made when its group may have been settled already. It never counts in a settlement and is
    cancelled by itself, so that it makes no difference which of the two comes first, or whether one is repeated."""
    reserved_at = float(headers.get(topology.RESERVED_AT_HEADER, stored_at))
    return stored_at - reserved_at >= grace_seconds


class Reconciler:
    """Settles every reservation once it is `grace_seconds` old."""

    def __init__(self, js: JetStream, grace_seconds: float) -> None:
        self._js = js
        self._grace = grace_seconds
        self._pull = js.pull(topology.STOCK, "reconciler")
        self._open: dict[tuple[str, str], Movements] = {}
        self._logs: dict[str, StockLog] = {}  # by subject; who was asked last is the last
        self.settled_until = 0.0  # epoch seconds: every reservation made before has been settled

    async def run(self, service: Service) -> None:
        """Looks once in a while: nothing here is urgent, and accepting must not pay for it."""
        while not service.stopping.is_set():
            try:
                while len(self._open) < MOST_HELD:
                    messages = await self._pull.fetch(FETCH, 0.05)
                    if messages:
                        await self._take_in(messages, await self._server_time())
                    if len(messages) < FETCH:
                        break
                now = await self._server_time()
                await self._settle_due(now)
                await self._note_progress(now)
            except PeakclipError as exc:
                log.warning("reconciler_retries", error=repr(exc))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_SECONDS, self._grace / 2)):
                    await service.stopping.wait()

    async def _server_time(self) -> float:
        """Epoch seconds by the clock that stamps the movements. With an own one that is ahead, groups would be settled
        before their returns have come, and these be added once more."""
        return (await self._js.stream_state(topology.STOCK)).server_time

    async def _take_in(self, messages: Sequence[InMessage], now: float) -> None:
        others = []
        for message in messages:
            frame_id = message.headers.get(topology.FRAME_HEADER)
            if (
                frame_id is None
            ):  # stock of a new sale, units from the outbox, a correction: nothing to settle
                others.append(message)
                continue
            sale_id = message.subject.partition(".")[2]
            key = (frame_id, sale_id)
            self._open.setdefault(key, Movements(frame_id, sale_id, now)).by_seq[message.seq] = message
        await ack_all(others)

    async def _settle_due(self, now: float) -> None:
        for key, movements in list(self._open.items()):
            if now < movements.due(self._grace):
                return  # in the order in which they came: the others are younger
            await self._settle(movements)
            del self._open[key]

    async def _note_progress(self, now: float) -> None:
        """Reservations come in the order of the stream; those of a relay that died come again after ack_wait."""
        if self._open:
            oldest = min(movements.since for movements in self._open.values())
        elif (await self._js.consumer_state(topology.STOCK, "reconciler")).pending == 0:
            oldest = now
        else:
            return
        self.settled_until = oldest - 2 * topology.RECONCILER_ACK_WAIT_SECONDS

    async def _settle(self, movements: Movements) -> None:
        """The reservation is acknowledged first and surely: without it, what is left of a group changes nothing."""
        reservation = movements.reservation
        rest = [message for message in movements.by_seq.values() if message is not reservation]
        if reservation is not None:
            in_frame = await self._units_in_frame(movements.frame_id, movements.sale_id)
            units = correction(movements.units(self._grace), in_frame)
            if units:
                units = correction(await self._units_in_log(reservation, movements.frame_id), in_frame)
            await self._correct(movements.sale_id, units, f"{topology.RECONCILED}-{movements.frame_id}")
            await reservation.ack()
        for message in movements.late(self._grace):
            await self._correct(movements.sale_id, -units_of(message), f"{topology.RECONCILED}-{message.seq}")
        await ack_all(rest)

    async def _units_in_log(self, reservation: InMessage, frame_id: str) -> int:
        """`Movements.units`, from the stream itself: a return may have been given to a process that died, or to this
        one while the reservation was with another, and then it was ended without being counted."""
        end = reservation.stored_at + 2 * self._grace  # whatever the clock of who made a return says
        movements = await self._log_of(reservation.subject).between(reservation.seq, end)
        return sum(one.units for one in movements if one.frame_id == frame_id)

    def _log_of(self, subject: str) -> StockLog:
        log = self._logs.pop(subject, None) or StockLog(self._js, subject, self._in_time)
        self._logs[subject] = log
        if len(self._logs) > MOST_LOGS:
            del self._logs[next(iter(self._logs))]
        return log

    def _in_time(self, message: StoredMessage) -> int:
        """Units of a movement; those of a late one do not count."""
        late = is_late(message.headers, message.at, self._grace)
        return 0 if late else int(message.headers["Nats-Incr"])

    async def _correct(self, sale_id: str, units: int, message_id: str) -> None:
        if units == 0:
            return
        log.warning("stock_reconciled", sale=sale_id, units=units)
        subject = topology.stock_subject(sale_id)
        await self._js.increment(subject, units, message_id=f"{message_id}-{sale_id}")

    async def _units_in_frame(self, frame_id: str, sale_id: str) -> int:
        """What the frame sells of this sale; a frame that does not exist is fenced off for ever first."""
        subject = topology.frame_subject(frame_id)
        frame = await self._js.last_message(topology.INTAKE, subject)
        if frame is None:
            try:
                fence = {topology.FRAME_ORDERS_HEADER: "0"}
                await self._js.publish(subject, b"", create_only=True, headers=fence)
                return 0
            except RefusedError as exc:
                if exc.code != WRONG_LAST_SEQUENCE:
                    raise
            frame = await self._js.last_message(topology.INTAKE, subject)
        if frame is None or frame.headers.get(topology.FRAME_ORDERS_HEADER) == "0":
            return 0
        try:
            orders = decode_frame(frame.payload)
        except msgspec.MsgspecError as exc:  # a dead letter of the relay: it sells nothing
            log.error("frame_unreadable", frame=frame_id, error=str(exc))
            return 0
        return sum(order.quantity for order in orders if order.sale_id == sale_id)
