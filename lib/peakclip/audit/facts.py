"""What an audit knows: plain values, read once, in an order in which a moving order is never overlooked.

An order moves INTAKE → SECKILL → table orders. The facts are read in that same direction, so an order that
moves meanwhile is seen twice, never not at all; the last look goes back to INTAKE, so that the frame of every
row is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ACTIVE: frozenset[str] = frozenset({"pending_payment", "paid"})  # statuses that hold units of a sale

# A row's `accepted_at` is the API's clock, a message's time the server's: they may differ by this much.
CLOCK_MARGIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class OrderRow:
    order_id: str
    tenant: str
    customer_id: str
    sale_id: str | None  # None: an order without a sale, which does not pass through INTAKE
    quantity: int
    status: str
    accepted_at: float  # epoch seconds, as are all times here
    started_at: float


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
    message_id: str
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
    outbox_rows: int = 0
    intake: Intake = field(default_factory=Intake)
    queue: Queue = field(default_factory=Queue)
    counters: Mapping[str, int] = field(default_factory=dict)  # units on offer per sale; absent: no counter
    accepted: Mapping[str, int | None] | None = None  # order id → quantity as the clients know it
    rate: RateLimit | None = None
    at_rest: bool = False


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
