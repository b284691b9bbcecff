"""The edge of the auditor: reads PostgreSQL and JetStream into `Facts`, and decides nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from peakclip import messages, topology
from peakclip.audit.facts import (
    DeadLetter,
    Facts,
    Frame,
    Intake,
    OrderRow,
    Queue,
    QueuedOrder,
    RateLimit,
    SaleRow,
    complete_from,
)
from peakclip.errors import RefusedError, UnavailableError
from peakclip.jetstream import JetStream, StoredMessage
from peakclip.store import query

_SILENCE_SECONDS: Final = 2.0  # a stream that is read sends this often, or has nothing more
_UNREADABLE: Final = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError)


async def gather_facts(
    pool: Any,
    js: JetStream,
    *,
    accepted: Mapping[str, int | None] | None,
    rate: RateLimit | None,
    at_rest: bool,
) -> Facts:
    """Reads in the direction in which orders move (see `facts`). One snapshot of the database."""
    relayed = await _ack_floor(js, topology.INTAKE, "relay")
    frames = _Frames()
    await read_stream(js, topology.INTAKE, "intake.>", 1, frames.add)
    finished = await _ack_floor(js, topology.SECKILL, topology.ORDERS_POOL)
    queue: list[QueuedOrder] = []
    await read_stream(js, topology.SECKILL, "order.seckill.created.*", 1, lambda m: queue.append(_queued(m)))
    orders, sales, letters, outbox_rows = await _read_database(pool)
    movements = await last_movements(js, [sale.sale_id for sale in sales])
    last_seq = await read_stream(js, topology.INTAKE, "intake.>", frames.next_seq, frames.add)
    return Facts(
        orders=orders,
        sales=sales,
        dead_letters=letters,
        outbox_rows=outbox_rows,
        intake=Intake(tuple(frames.found), relayed, complete_from(last_seq, frames.seen)),
        queue=Queue(tuple(queue), finished),
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
    """As dead letters name it: its own id, else its place."""
    return message.headers.get("Nats-Msg-Id") or f"{message.subject}:{message.seq}"


def _queued(message: StoredMessage) -> QueuedOrder:
    message_id = _message_id(message)
    try:
        return QueuedOrder(message.seq, message_id, messages.decode_order(message.payload).order_id)
    except _UNREADABLE:
        return QueuedOrder(message.seq, message_id, None)


async def _ack_floor(js: JetStream, stream: str, consumer: str) -> int | None:
    try:
        return (await js.consumer_state(stream, consumer)).ack_floor_seq
    except RefusedError:
        return None


async def _read_database(
    pool: Any,
) -> tuple[tuple[OrderRow, ...], tuple[SaleRow, ...], tuple[DeadLetter, ...], int]:
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        sales = tuple(SaleRow(*row) for row in await connection.fetch(query("audit_sales")))
        # A cursor: a million rows at once would be held twice, and outlast the time allowed to a command.
        orders = tuple(
            [_order(row) async for row in connection.cursor(query("audit_orders"), prefetch=5_000)]
        )
        letters = tuple(_letter(row) for row in await connection.fetch(query("audit_dead_letters")))
        outbox_rows = await connection.fetchval("select count(*) from outbox")
    return orders, sales, letters, outbox_rows


def _order(row: Any) -> OrderRow:
    sale_id = row["sale_id"]
    return OrderRow(
        order_id=row["order_id"],
        tenant=sys.intern(row["tenant"]),
        customer_id=row["customer_id"],
        sale_id=None if sale_id is None else sys.intern(sale_id),
        quantity=row["quantity"],
        status=sys.intern(row["status"]),
        accepted_at=row["accepted_at"],
        started_at=row["started_at"],
    )


def _letter(row: Any) -> DeadLetter:
    try:
        order_ids = tuple(order.order_id for order in messages.decode_frame(row["payload"]))
    except _UNREADABLE:
        order_ids = ()
    return DeadLetter(row["message_id"], row["pool"], row["cause"], row["attempts"], order_ids)
