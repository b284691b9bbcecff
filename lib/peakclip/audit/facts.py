"""What an audit knows: plain values, read once, in an order in which a moving order is never overlooked.

    order   INTAKE → SECKILL → table orders          event   outbox → EVENTS → table effects
                      ↑ ↓ for another attempt                          ↑ ↓
                     TIMERS                                           TIMERS

The facts are read in the direction of the arrows, so what moves meanwhile is seen twice, never not at all. After the
database a second look goes to TIMERS, and then to what came back from there; the last one goes to INTAKE, so that the
frame of every row is seen. STOCK's history is read before the database: what it holds has been committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

RESERVED: frozenset[str] = frozenset(
    {"pending_payment"}
)  # statuses in which an order of a sale holds its units
SOLD: frozenset[str] = frozenset({"paid", "accepted", "started", "completed"})
ACTIVE: frozenset[str] = RESERVED | SOLD

# A row's `accepted_at` is the API's clock, a message's time the server's: they may differ by this much.
CLOCK_MARGIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class OrderRow:
    order_id: str
    tenant: str
    customer_id: str
    sale_id: str | None  # None: an ordinary order
    quantity: int
    status: str
    accepted_at: float  # epoch seconds, as are all times here
    started_at: float | None  # None: written at once, without waiting in line
    in_line: bool = True  # it came in a frame
    version: int = 1  # grows with every transition
    reason: str | None = None
    amount_cents: int = 0
    expires_at: float | None = None
    paid_at: float | None = None
    cancelled_at: float | None = None
    payment_id: str | None = None  # the payment that won


@dataclass(frozen=True, slots=True)
class SaleRow:
    sale_id: str
    initial: int
    available: int
    reserved: int
    sold: int
    per_customer_limit: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    message_id: str
    pool: str
    cause: str
    attempts: int
    order_ids: tuple[str, ...] = ()  # the orders inside, as far as the message can be read
    units: tuple[tuple[str, str, int], ...] = ()  # what they were admitted for: order, sale, quantity


@dataclass(frozen=True, slots=True)
class Dropped:
    """A dead letter that somebody gave up on purpose."""

    message_id: str
    order_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Payment:
    payment_id: str
    kind: str  # payment or refund
    order_id: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Event:
    """A message of EVENTS; `event_id` None: unreadable."""

    seq: int
    message_id: str  # of its first attempt
    event_id: str | None
    calls_for: frozenset[str] = frozenset()  # effects
    comes_again: bool = False  # it is another attempt


@dataclass(frozen=True, slots=True)
class Sum:
    """A number that effects keep by increments, beside the same number counted anew."""

    of: str  # for example `figures of 2026-06-01: revenue_cents`
    kept: int
    counted: int


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of an admission counter."""

    message_id: str
    sale_id: str
    units: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of INTAKE. Fences (frames of no orders) are left out; `order_ids` None: unreadable."""

    seq: int
    message_id: str
    order_ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class QueuedOrder:
    """A message of SECKILL; `order_id` None: unreadable."""

    seq: int
    message_id: str  # of its first attempt
    order_id: str | None


@dataclass(frozen=True, slots=True)
class Intake:
    frames: tuple[Frame, ...] = ()
    finished_through: int | None = None  # the relay has done every frame up to here; None: no such consumer
    complete_from: float = 0.0  # frames stored from this moment on are all here


@dataclass(frozen=True, slots=True)
class Queue:
    orders: tuple[QueuedOrder, ...] = ()
    finished_through: int | None = None  # workers have done every order up to here; None: no such consumer
    delayed: frozenset[str] = frozenset()  # orders that wait for another attempt


@dataclass(frozen=True, slots=True)
class EventLog:
    events: tuple[Event, ...] = ()
    finished_through: int | None = None
    delayed: frozenset[str] = frozenset()  # message ids of events that wait for another attempt


@dataclass(frozen=True, slots=True)
class Offer:
    """The history of the admission counters."""

    movements: tuple[Movement, ...] = ()
    complete: bool = True  # nothing has been purged


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The bound of invariant 7: at most `per_second + burst` starts in any second from `since` on."""

    per_second: float
    burst: int
    since: float = 0.0  # earlier starts had another limit and are not judged
    source: str = "given"


@dataclass(frozen=True, slots=True)
class Facts:
    orders: tuple[OrderRow, ...] = ()
    sales: tuple[SaleRow, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    payments: tuple[Payment, ...] = ()
    effects: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # event id → what it has brought about
    sums: tuple[Sum, ...] = ()
    outbox_rows: int = 0
    intake: Intake = field(default_factory=Intake)
    queue: Queue = field(default_factory=Queue)
    log: EventLog = field(default_factory=EventLog)
    offer: Offer = field(default_factory=Offer)
    counters: Mapping[str, int] = field(default_factory=dict)  # units on offer per sale; absent: no counter
    accepted: Mapping[str, int | None] | None = None  # order id → quantity as the clients know it
    rate: RateLimit | None = None
    at_rest: bool = False

    @property
    def set_aside(self) -> set[str]:
        """First ids of the messages that are dead letters, or were."""
        letters = {letter.message_id for letter in self.dead_letters}
        return letters.union(dropped.message_id for dropped in self.dropped)


def complete_from(last_seq: int, seen: Iterable[tuple[int, float]]) -> float:
    """From which moment on a stream that may be purged at any time was read without a gap.

    `seen`: sequence and time of the messages read, ascending; `last_seq`: the newest that ever was. Seen
    5 6 9 10 of 10: 1 to 4 are gone and so are 7 and 8, hence complete from message 9 on: `time(9) + margin`.
    Nothing seen of 10: infinity. A stream that never had a message is complete from the beginning.
    """
    if last_seq == 0:
        return 0.0
    before, start = 0, 0.0
    for seq, at in seen:
        if seq != before + 1:
            start = at + CLOCK_MARGIN_SECONDS
        before = seq
    return start if before >= last_seq else float("inf")
