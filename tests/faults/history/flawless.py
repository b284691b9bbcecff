"""A system without a flaw, in memory, with clients who record what they are told: what the checker is tested on.

`answer` says what the client learns: `ok` what the system says, `late` the same, when `arrive` is called; `lost`
nothing although it was done, `open` not even that it will learn nothing, `unsent` nothing, and nothing was done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from faults.history.facts import Delivery, Event, Facts, Notification, Queued, Review
from faults.history.payments import payment_id
from faults.history.record import History, Kind
from faults.history.transitions import REACHES

from peakclip.audit.facts import ACTIVE, SOLD, OrderRow, Payment, RateLimit, SaleRow
from peakclip.messages import order_id as named_by

Answer: TypeAlias = Literal["ok", "lost", "open", "unsent", "late"]
Said: TypeAlias = (
    tuple[str, bool] | str | None
)  # a problem and whether a payment was given back; a status; or nothing

PRICE = 100  # cents
EFFECTS = ("audit", "notify-customer")
_FROM = {
    Kind.ACCEPT: {"created", "paid"},
    Kind.START: {"accepted"},
    Kind.COMPLETE: {"started"},
    Kind.CANCEL: {"created", "pending_payment", "paid", "accepted"},
}


@dataclass
class Flawless:
    stock: int = 3
    limit: int = 2
    now: float = 1_000.0
    rows: dict[str, OrderRow] = field(default_factory=dict)
    payments: dict[tuple[str, str], Payment] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    reviews: dict[str, Review] = field(default_factory=dict)
    under_way: list[tuple[int, str, Said]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.history = History("t", self.tick)

    def tick(self) -> float:
        self.now += 0.125
        return self.now

    # -- what clients do -----------------------------------------------------------------------------------

    def purchase(self, key: str, customer: str = "ada", quantity: int = 1, answer: Answer = "ok") -> str:
        order_id = named_by("t", key)
        attempt = self.history.invoke(Kind.PURCHASE, key=key, customer=customer, sale="s", quantity=quantity)
        self._end(attempt, order_id, answer, lambda: self._bought(order_id, customer, quantity))
        return order_id

    def order(self, key: str, customer: str = "ada", answer: Answer = "ok") -> str:
        order_id = named_by("t", key)
        attempt = self.history.invoke(Kind.ORDER, key=key, customer=customer)
        self._end(attempt, order_id, answer, lambda: self._placed(order_id, customer))
        return order_id

    def act(self, kind: Kind, order_id: str, key: str | None = None, answer: Answer = "ok") -> None:
        attempt = self.history.invoke(kind, order_id=order_id, key=key)
        self._end(attempt, order_id, answer, lambda: self._acted(kind, order_id, key))

    def read(self, order_id: str, answer: Answer = "ok") -> None:
        row = self.rows.get(order_id)
        attempt = self.history.invoke(Kind.READ, order_id=order_id)
        said: Said = row.status if row is not None else ("order-not-found", False)
        self._end(attempt, order_id, answer, lambda: said)

    def review(self, order_id: str, key: str, answer: Answer = "ok", kind: Kind = Kind.REVIEW) -> None:
        attempt = self.history.invoke(kind, order_id=order_id, key=key)
        self._end(attempt, order_id, answer, lambda: self._reviewed(kind, order_id))

    def expire(self, order_id: str) -> None:
        row = self.rows[order_id]
        if row.status == "pending_payment":
            self.now = max(self.now, row.expires_at or 0.0)
            self._moved(
                row, "order.cancelled", status="cancelled", reason="expired", cancelled_at=self.tick()
            )

    def arrive(self) -> None:
        """All answers that are late, the newest first."""
        while self.under_way:
            self._answer(*self.under_way.pop())

    # -- what the system does ------------------------------------------------------------------------------

    def _end(self, attempt: int, order_id: str, answer: Answer, do: Callable[[], Said]) -> None:
        said = None if answer == "unsent" else do()
        if answer == "late":
            self.under_way.append((attempt, order_id, said))
        elif answer in ("lost", "unsent"):
            self.history.unknown(attempt, "connection-lost")
        elif answer == "ok":
            self._answer(attempt, order_id, said)

    def _answer(self, attempt: int, order_id: str, said: Said) -> None:
        if isinstance(said, tuple):
            self.history.refused(attempt, said[0], refunded=said[1])
        else:
            self.history.ok(attempt, order_id, said, review_id=None if said else f"r-{order_id}")

    def _held(self, *, by: str | None = None) -> int:
        active = [row for row in self.rows.values() if row.sale_id is not None and row.status in ACTIVE]
        return sum(row.quantity for row in active if by in (None, row.customer_id))

    def _bought(self, order_id: str, customer: str, quantity: int) -> Said:
        if order_id in self.rows:
            return "queued"
        if self._held() + quantity > self.stock:
            return "sold-out", False
        if self._held(by=customer) + quantity > self.limit:
            return "limit-reached", False
        row = OrderRow(
            order_id, "t", customer, "s", quantity, "pending_payment", self.now, self.tick(), version=0,
            expires_at=self.now + 60, amount_cents=PRICE * quantity,
        )  # fmt: skip
        self._moved(row, "order.created")
        return "queued"

    def _placed(self, order_id: str, customer: str) -> Said:
        if order_id not in self.rows:
            row = OrderRow(
                order_id,
                "t",
                customer,
                None,
                1,
                "created",
                self.now,
                None,
                False,
                version=0,
                amount_cents=PRICE,
            )
            self._moved(row, "order.created")
        return "created"

    def _acted(self, kind: Kind, order_id: str, key: str | None) -> Said:
        row = self.rows.get(order_id)
        if row is None:
            return "order-not-found", False
        if kind is Kind.PAY:
            return self._paid(row, payment_id("t", order_id, key))
        if row.status not in _FROM[kind]:
            return "illegal-transition", False
        if kind is Kind.CANCEL and row.payment_id is not None:
            self._pay_row(row.payment_id, "refund", row)
        cancelled = {"cancelled_at": self.now} if kind is Kind.CANCEL else {}
        return self._moved(row, f"order.{REACHES[kind]}", status=REACHES[kind], **cancelled)

    def _paid(self, row: OrderRow, named: str) -> Said:
        if row.payment_id == named:
            return row.status
        late = row.status == "pending_payment" and self.now >= (row.expires_at or 0.0)
        known = (named, "payment") in self.payments
        self._pay_row(named, "payment", row)
        if known or late or row.payment_id is not None or row.status in ("cancelled", "rejected"):
            self._pay_row(named, "refund", row)
            return "illegal-transition", True
        status = "paid" if row.status in ("created", "pending_payment") else row.status
        return self._moved(row, "order.paid", status=status, payment_id=named, paid_at=self.now)

    def _pay_row(self, named: str, kind: str, order: OrderRow) -> None:
        self.payments.setdefault((named, kind), Payment(named, kind, order.order_id, order.amount_cents))

    def _reviewed(self, kind: Kind, order_id: str) -> Said:
        row, review_id = self.rows.get(order_id), f"r-{order_id}"
        if row is None or row.status != "completed":
            return "illegal-transition", False
        there = self.reviews.get(review_id)
        if (kind is Kind.REVIEW and there) or (kind is Kind.REPLY and (there is None or there.replied)):
            return "already-reviewed", False
        self.reviews[review_id] = Review(review_id, order_id, replied=kind is Kind.REPLY)
        what = "created" if kind is Kind.REVIEW else "replied"
        self._told(f"{review_id}:{what}", f"review.{what}", order_id, None, None)
        return None

    def _moved(self, row: OrderRow, subject: str, **changes: object) -> str:
        row = replace(row, version=row.version + 1, **changes)  # type: ignore[arg-type]
        self.rows[row.order_id] = row
        self._told(f"{row.order_id}:{row.version}", subject, row.order_id, row.version, row.status)
        return row.status

    def _told(
        self, event_id: str, subject: str, order_id: str, version: int | None, status: str | None
    ) -> None:
        at = self.tick()
        calls_for = frozenset(EFFECTS if version is not None else EFFECTS[:1])
        self.events.append(
            Event(len(self.events) + 1, event_id, subject, order_id, version, status, at, at, calls_for)
        )

    def facts(self) -> Facts:
        rows = self.rows.values()
        sold = sum(row.quantity for row in rows if row.sale_id is not None and row.status in SOLD)
        held = self._held()
        told = [
            Notification(
                event.event_id, "customer", self.rows[event.order_id].customer_id, event.subject, event.at + 0.1,
                f"w-{event.event_id}",
            )
            for event in self.events if event.version is not None
        ]  # fmt: skip
        return Facts(
            orders=tuple(rows),
            sales=(SaleRow("s", self.stock, self.stock - held, held - sold, sold, self.limit),),
            counters={"s": self.stock - held},
            prices={"s": PRICE},
            payments=tuple(self.payments.values()),
            line=tuple(
                Queued(number, f"f-{row.order_id}", row.order_id, row.accepted_at)
                for number, row in enumerate(rows, start=1)
                if row.sale_id is not None
            ),
            events=tuple(self.events),
            effects={event.event_id: tuple(sorted(event.calls_for)) for event in self.events},
            reviews=tuple(self.reviews.values()),
            notifications=tuple(told),
            deliveries=tuple(
                Delivery(one.webhook or "", one.kind, one.user, one.event_id.rpartition(":")[0], one.at + 0.1)
                for one in told
            ),
            rate=RateLimit(20.0, 1),
        )
