"""The edge of the auditor: reads JetStream and PostgreSQL into `Facts`, and decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from peakclip import messages, topology
from peakclip.audit.database import read_database
from peakclip.audit.events import read_event
from peakclip.audit.facts import (
    Event,
    EventLog,
    Facts,
    Frame,
    Intake,
    Movement,
    Offer,
    Queue,
    QueuedOrder,
    RateLimit,
    complete_from,
)
from peakclip.errors import RefusedError, UnavailableError
from peakclip.jetstream import JetStream, StoredMessage

_SILENCE_SECONDS: Final = 2.0  # a stream that is read sends this often, or has nothing more
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError)


async def gather_facts(
    pool: Any,
    js: JetStream,
    *,
    accepted: Mapping[str, int | None] | None,
    rate: RateLimit | None,
    at_rest: bool,
) -> Facts:
    """Reads in the direction in which orders move (see `facts`). One snapshot of the database."""
    offer = await _read_offer(js)
    relayed = await _finished(js, topology.INTAKE, topology.RELAY)
    frames = _Frames()
    await read_stream(js, topology.INTAKE, "intake.>", 1, frames.add)
    finished = await _finished(js, topology.SECKILL, topology.ORDERS_POOL)
    queue: list[QueuedOrder] = []
    queued_to = await read_stream(js, topology.SECKILL, ">", 1, lambda m: queue.append(_queued(m)))
    effected = await _finished(js, topology.EVENTS, topology.EFFECTS_POOL)
    events: list[Event] = []
    events_to = await read_stream(js, topology.EVENTS, ">", 1, lambda m: events.append(_event(m)))
    found = await read_database(pool)
    # What had no row yet, and was not in hand, waits for another attempt, or came back from there a moment ago.
    delayed_orders, delayed_events = await _read_delayed(js)
    returned: list[QueuedOrder] = []
    await read_stream(js, topology.SECKILL, ">", queued_to + 1, lambda m: returned.append(_queued(m)))
    effects_again: list[Event] = []
    await read_stream(js, topology.EVENTS, ">", events_to + 1, lambda m: effects_again.append(_event(m)))
    delayed_events.update(event.message_id for event in effects_again if event.comes_again)
    delayed_orders.update(order.order_id for order in returned if order.order_id is not None)
    movements = await last_movements(js, [sale.sale_id for sale in found.sales])
    last_seq = await read_stream(js, topology.INTAKE, "intake.>", frames.next_seq, frames.add)
    return Facts(
        orders=found.orders,
        sales=found.sales,
        payments=found.payments,
        dead_letters=found.dead_letters,
        dropped=found.dropped,
        effects=found.effects,
        sums=found.sums,
        outbox_rows=found.outbox_rows,
        intake=Intake(tuple(frames.found), relayed, complete_from(last_seq, frames.seen)),
        queue=Queue(tuple(queue), finished, frozenset(delayed_orders)),
        log=EventLog(tuple(events), effected, frozenset(delayed_events)),
        offer=offer,
        counters={sale_id: value for sale_id, (value, _) in movements.items()},
        accepted=accepted,
        rate=rate,
        at_rest=at_rest,
    )


async def read_stream(
    js: JetStream, stream: str, subject: str, start_seq: int, take: Callable[[StoredMessage], None]
) -> int:
    """Hands over every message from `start_seq` to the newest one of now, and returns that one's sequence."""
    state = await js.stream_state(stream)
    last_seq = state.last_seq
    reached = asyncio.Event()
    heard = start_seq - 1

    async def received(message: StoredMessage) -> None:
        nonlocal heard
        heard = message.seq
        if message.seq <= last_seq:
            take(message)
        if message.seq >= last_seq:
            reached.set()

    if last_seq < max(start_seq, state.first_seq):  # nothing new, or all of it purged
        return last_seq
    subscription = await js.follow(stream, start_seq, received, subject=subject)
    try:
        await _until(reached, js, stream, lambda: heard, last_seq)
    finally:
        await subscription.unsubscribe()
    return last_seq


async def _until(
    reached: asyncio.Event, js: JetStream, stream: str, heard: Callable[[], int], last_seq: int
) -> None:
    """Waits for the last message; a silence is accepted only where the rest of the stream has been purged."""
    while not reached.is_set():
        before = heard()
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await reached.wait()
        except TimeoutError:
            state = await js.stream_state(stream)
            if state.first_seq > last_seq:
                return
            if heard() == before:
                raise UnavailableError(f"{stream} fell silent after message {before} of {last_seq}") from None


async def last_movements(js: JetStream, sale_ids: Iterable[str]) -> dict[str, tuple[int, float]]:
    """Value of each sale's admission counter, and when it changed last; absent: there is no counter."""
    found = {}
    for sale_id in sale_ids:
        message = await js.last_message(topology.STOCK, topology.stock_subject(sale_id))
        if message is not None:
            found[sale_id] = (int(msgspec.json.decode(message.payload)["val"]), message.at)
    return found


class _Frames:
    """Collects INTAKE over both looks at it."""

    def __init__(self) -> None:
        self.found: list[Frame] = []
        self.seen: list[tuple[int, float]] = []  # fences included: they are no gap

    @property
    def next_seq(self) -> int:
        return self.seen[-1][0] + 1 if self.seen else 1

    def add(self, message: StoredMessage) -> None:
        self.seen.append((message.seq, message.at))
        if message.headers.get(topology.FRAME_ORDERS_HEADER) == "0":
            return
        try:
            ids = tuple(order.order_id for order in messages.decode_frame(message.payload))
        except _UNREADABLE:
            self.found.append(Frame(message.seq, _message_id(message), None))
        else:
            self.found.append(Frame(message.seq, _message_id(message), ids))


def _message_id(message: StoredMessage) -> str:
    """As dead letters name it: the id of its first attempt, else its place."""
    headers = message.headers
    named = headers.get(topology.MESSAGE_ID_HEADER) or headers.get("Nats-Msg-Id")
    return named or f"{message.subject}:{message.seq}"


def _queued(message: StoredMessage) -> QueuedOrder:
    message_id = _message_id(message)
    try:
        return QueuedOrder(message.seq, message_id, messages.decode_order(message.payload).order_id)
    except _UNREADABLE:
        return QueuedOrder(message.seq, message_id, None)


def _event(message: StoredMessage) -> Event:
    comes_again = message.subject == topology.retry_subject(topology.EFFECTS_POOL)
    subject = message.headers.get(topology.SUBJECT_HEADER, message.subject)
    try:
        event_id, calls_for = read_event(subject, message.payload)
    except _UNREADABLE:
        return Event(message.seq, _message_id(message), None, comes_again=comes_again)
    return Event(message.seq, _message_id(message), event_id, calls_for, comes_again)


async def _read_delayed(js: JetStream) -> tuple[set[str], set[str]]:
    """Orders, and message ids of events, that wait in TIMERS for another attempt, or are due and not yet moved back."""
    orders = await _read_timers(js, topology.ORDERS_POOL)
    events = await _read_timers(js, topology.EFFECTS_POOL)
    known = {order_id for order_id in (_queued(message).order_id for message in orders) if order_id}
    return known, {_message_id(message) for message in events}


async def _read_timers(js: JetStream, pool: str) -> list[StoredMessage]:
    """One by one: a stream that forgets a schedule when it fires cannot be followed to its end."""
    found: list[StoredMessage] = []
    seq = 1
    while message := await js.message_from(topology.TIMERS, seq, topology.delayed_subject(pool, ">")):
        found.append(message)
        seq = message.seq + 1
    seq = (await _finished(js, topology.TIMERS, topology.RELAY) or 0) + 1
    while message := await js.message_from(topology.TIMERS, seq, topology.due_subject(pool)):
        found.append(message)
        seq = message.seq + 1
    return found


async def _read_offer(js: JetStream) -> Offer:
    """STOCK, whole: it is never purged."""
    movements: list[Movement] = []
    seen = 0

    def note(message: StoredMessage) -> None:
        nonlocal seen
        seen += 1
        message_id = message.headers.get("Nats-Msg-Id", "")
        units = int(message.headers.get("Nats-Incr", "0"))
        movements.append(Movement(message_id, message.subject.partition(".")[2], units))

    last_seq = await read_stream(js, topology.STOCK, "stock.*", 1, note)
    return Offer(tuple(movements), complete=seen == last_seq)


async def _finished(js: JetStream, stream: str, consumer: str) -> int | None:
    """Up to which sequence nothing is left to do. What the server gave up on does not hold up those behind it."""
    try:
        state = await js.consumer_state(stream, consumer)
    except RefusedError:
        return None
    return max(state.ack_floor_seq, state.delivered_seq if state.ack_pending == 0 else 0)
