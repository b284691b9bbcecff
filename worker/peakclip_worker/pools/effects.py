"""The pool `effects`: what an event brings about, a batch in one transaction.

    audit trail · figures of the day · statistics of the provider · ticket · notifications and their deliveries

`apply_effects` in the database makes each effect happen once for an event, however often and in whatever order events
come. Only what has just been committed is pushed, so a push is made at most once; who missed it finds it in the table.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import structlog

from peakclip import telemetry, topology
from peakclip.errors import UnavailableError
from peakclip.jetstream import InMessage, JetStream
from peakclip.notifications import Notification, OrderVersion, encode_notification, encode_trail
from peakclip.store import query
from peakclip_worker.batch import attempt_of
from peakclip_worker.dead_letters import first_subject

log = structlog.get_logger()

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Cents = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What effects need to know of an order's event; its body may say more."""

    order_id: uuid.UUID
    tenant: _Name
    customer_id: _Name
    version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    status: Literal[
        "created", "pending_payment", "paid", "accepted", "started", "completed", "cancelled", "rejected"
    ]
    at: _Time
    reason: str | None = None
    amount_cents: _Cents = 0
    refunded_cents: _Cents = 0
    provider_id: _Name | None = None
    sale_id: str | None = None
    expires_at: _Time | None = None
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)] | None = None

    def event_id(self, subject: str) -> str:
        return f"{self.order_id}:{self.version}"


class ReviewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The same of a review's event."""

    review_id: _Name
    tenant: _Name
    order_id: uuid.UUID
    customer_id: _Name
    provider_id: _Name
    rating: Annotated[int, msgspec.Meta(ge=1, le=5)]
    at: _Time

    def event_id(self, subject: str) -> str:
        return f"{self.review_id}:{subject.removeprefix('review.')}"


_orders: Final = msgspec.json.Decoder(OrderEvent)
_reviews: Final = msgspec.json.Decoder(ReviewEvent)
_DECODERS: Final = {
    subject: _orders if subject.startswith("order.") else _reviews
    for subject in topology.STREAMS[topology.EVENTS]["subjects"]
    if not subject.startswith("retry.")
}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event as `apply_effects` takes it."""

    event_id: str
    subject: str
    attempts: int
    data: msgspec.Raw  # the body as it came: the audit trail keeps what this version does not know


class Applied(msgspec.Struct, frozen=True):
    """What `apply_effects` answers."""

    applied: int
    repeated: int
    notifications: list[Notification]


_applied: Final = msgspec.json.Decoder(Applied)


class ApplyEffects:
    """Needs a database pool and a connection; `wake_senders` is told when there may be deliveries."""

    def __init__(self, database: Any, js: JetStream, wake_senders: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._js = js
        self._wake_senders = wake_senders

    def read(self, message: InMessage) -> tuple[Event, OrderVersion | None]:
        """The event, and the transition if it is an order's.

        Its id is made from the body: an event that was published again under another message id is still the same.
        """
        subject = first_subject(message)
        decoder = _DECODERS.get(subject)
        if decoder is None:
            raise msgspec.ValidationError(f"no event has the subject {subject!r}")
        body = decoder.decode(message.payload)
        if not _is_text(message.payload):
            raise msgspec.DecodeError("the body is not UTF-8")
        event = Event(
            event_id=body.event_id(subject),
            subject=subject,
            attempts=attempt_of(message.headers) - 1 + message.delivered,
            data=msgspec.Raw(message.payload),
        )
        return event, (str(body.order_id), body.version) if isinstance(body, OrderEvent) else None

    async def commit(
        self, items: Sequence[tuple[tuple[Event, OrderVersion | None], InMessage]], started_at: float
    ) -> None:
        events = msgspec.json.encode([event for (event, _), _ in items]).decode()
        done = _applied.decode(await self._database.fetchval(query("apply_effects"), events))
        for outcome, number in (("applied", done.applied), ("repeated", done.repeated)):
            if number:
                telemetry.PROCESSED.labels(topology.EFFECTS_POOL, outcome).inc(number)
        if done.notifications:
            self._wake_senders()
        await self._tell(done.notifications, [version for (_, version), _ in items if version is not None])

    async def _tell(self, notifications: Sequence[Notification], versions: Sequence[OrderVersion]) -> None:
        """After the commit, so it fails nothing: what is not told is found in the tables."""
        try:
            for notification in notifications:
                subject = topology.push_subject(notification.user_id)
                await self._js.publish_core(subject, encode_notification(notification))
            if versions:
                await self._js.publish_core(topology.TRAIL, encode_trail(versions))
        except UnavailableError as exc:
            log.warning("pushes_lost", notifications=len(notifications), error=repr(exc))


def _is_text(body: bytes) -> bool:
    """Fields that nobody asked for are passed over while decoding, whatever is in them."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
