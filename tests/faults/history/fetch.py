"""The edge: reads what `check` judges from a running system at rest, and decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from faults.history.facts import Delivery, Event, Facts, Notification, Queued, Review
from faults.system import Data
from receivers import Call

from peakclip import topology
from peakclip.audit import RateLimit
from peakclip.audit.events import read_event
from peakclip.audit.fetch import gather_facts, read_stream
from peakclip.jetstream import StoredMessage
from peakclip.messages import decode_order

NOTIFICATIONS: Final = """
select n.event_id, n.audience, n.user_id, n.kind, extract(epoch from n.created_at)::float8 as at,
       d.delivery_id::text as webhook
from notifications n left join deliveries d on d.notification_id = n.notification_id and d.channel = 'webhook'
order by n.notification_id"""
PRICES: Final = "select sale_id, price_cents from sales"
_REVIEWS: Final = "select review_id, order_id::text, replied_at is not null as replied from reviews"


class _Body(msgspec.Struct, frozen=True):
    order_id: str
    at: datetime
    version: int | None = None
    status: str | None = None


_decode: Final = msgspec.json.Decoder(_Body).decode


async def read_facts(
    data: Data, *, rate: RateLimit | None = None, deliveries: Iterable[Delivery] | None = None
) -> Facts:
    """Nothing may be under way, as after `Data.audit`. `deliveries`: see `delivery`."""
    audited = await gather_facts(data.database, data.js, accepted=None, rate=rate, at_rest=True)
    events: list[Event] = []
    state = await data.js.stream_state(topology.EVENTS)

    def note(message: StoredMessage) -> None:
        if message.subject != topology.retry_subject(topology.EFFECTS_POOL):
            events.append(event_of(message))

    await read_stream(data.js, topology.EVENTS, ">", 1, note)
    line: list[Queued] = []

    def note_order(message: StoredMessage) -> None:
        if is_first_attempt(message):
            line.append(queued_of(message))

    # Of all subjects: of some of them the end would never be seen when the last message is of another.
    await read_stream(data.js, topology.SECKILL, ">", 1, note_order)
    return Facts(
        orders=audited.orders,
        sales=audited.sales,
        counters=audited.counters,
        prices=dict(await data.database.fetch(PRICES)),
        payments=audited.payments,
        line=tuple(line),
        events=tuple(events),
        events_complete=state.first_seq <= 1,
        effects=audited.effects,
        reviews=tuple([Review(*row) for row in await data.database.fetch(_REVIEWS)]),
        notifications=tuple([Notification(*row) for row in await data.database.fetch(NOTIFICATIONS)]),
        deliveries=None if deliveries is None else tuple(deliveries),
        dead_letters=audited.dead_letters,
        dropped=audited.dropped,
        rate=rate,
    )


def event_of(message: StoredMessage) -> Event:
    event_id, calls_for = read_event(message.subject, message.payload)
    body = _decode(message.payload)
    return Event(
        message.seq, event_id, message.subject, body.order_id, body.version, body.status, body.at.timestamp(),
        message.at, calls_for, message.headers.get("Nats-Msg-Id", event_id),
    )  # fmt: skip


def is_first_attempt(message: StoredMessage) -> bool:
    """In the line: nobody has given it back yet."""
    return message.subject != topology.retry_subject(topology.ORDERS_POOL)


def queued_of(message: StoredMessage) -> Queued:
    frame = message.headers[topology.FRAME_HEADER]
    return Queued(message.seq, frame, decode_order(message.payload).order_id, message.at)


def delivery(call: Call) -> Delivery:
    """A webhook as the receiver got it."""
    told: Mapping[str, Any] = call.event["data"]["data"]
    kind: str = call.event["type"]
    subject = told.get("review_id" if kind.startswith("review.") else "order_id")
    return Delivery(call.key, kind, call.event["subject"], subject, call.at)
