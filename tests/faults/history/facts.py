"""What the system holds after a run, at rest: plain values, judged by `check`. `fetch` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peakclip.audit.facts import DeadLetter, Dropped, OrderRow, Payment, RateLimit, SaleRow


@dataclass(frozen=True, slots=True)
class Queued:
    """An order in the line, as the relay took it out of a frame. One in two frames was admitted twice, and may be."""

    seq: int
    frame: str
    order_id: str
    stored_at: float  # by the broker's clock


@dataclass(frozen=True, slots=True)
class Event:
    """A message of EVENTS, without the repeats of Peakclip's own effects."""

    seq: int
    event_id: str
    subject: str
    order_id: str
    version: int | None  # None: of a review
    status: str | None
    at: float  # of the transition, by the database's clock
    stored_at: float  # by the broker's clock
    calls_for: frozenset[str] = frozenset()
    message_id: str = ""  # as a dead letter names it


@dataclass(frozen=True, slots=True)
class Review:
    review_id: str
    order_id: str
    replied: bool = False


@dataclass(frozen=True, slots=True)
class Notification:
    event_id: str
    audience: str
    user: str
    kind: str  # subject of the event
    at: float  # by the database's clock
    webhook: str | None = None  # id of its delivery, if the user has a webhook


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as its receiver got it. The same id again is no second side effect."""

    delivery_id: str
    kind: str
    user: str
    subject: str | None  # the order or review it is about
    at: float  # by the receiver's clock


@dataclass(frozen=True, slots=True)
class Facts:
    orders: tuple[OrderRow, ...] = ()
    sales: tuple[SaleRow, ...] = ()
    counters: Mapping[str, int] = field(
        default_factory=dict
    )  # units on offer at the admission; absent: no counter
    prices: Mapping[str, int] = field(default_factory=dict)  # sale id -> cents of a unit, where that is known
    payments: tuple[Payment, ...] = ()
    line: tuple[Queued, ...] = ()  # in the order of the stream
    events: tuple[Event, ...] = ()  # in the order of the stream
    events_complete: bool = True  # nothing has been purged
    effects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # event id -> what it brought about
    reviews: tuple[Review, ...] = ()
    notifications: tuple[Notification, ...] = ()
    deliveries: tuple[Delivery, ...] | None = None  # None: nobody listened
    dead_letters: tuple[DeadLetter, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    rate: RateLimit | None = None

    @property
    def letters(self) -> tuple[DeadLetter | Dropped, ...]:
        return (*self.dead_letters, *self.dropped)

    @property
    def set_aside(self) -> frozenset[str]:
        """Ids of messages that are dead letters, or were."""
        return frozenset(one.message_id for one in self.letters)
