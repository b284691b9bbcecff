"""The statements of an order's life as the migrations have them, one step of the model for each step of PostgreSQL.

`pay`, `cancel`, `expire` and `drain` follow `pay_order`, `transition_order`, `expire_orders` and `drain_seckill`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

from simulation.rows import (
    Change,
    Emit,
    Insert,
    Key,
    Program,
    Read,
    Seen,
    Sight,
    Step,
    Take,
    View,
    always,
    find,
    hold,
    update,
    write,
)


class Order(NamedTuple):
    """Due from the moment at which the clock shows `expires`."""

    sale: str = "s"
    quantity: int = 1
    status: str = "pending_payment"
    reason: str = ""
    expires: int = 1
    paid_at: int | None = None
    cancelled_at: int | None = None
    payment: str = ""
    version: int = 1


class Sale(NamedTuple):
    initial: int
    available: int
    reserved: int = 0
    sold: int = 0


Body = Generator[Step, Any, str]

WITHOUT_DEADLINE = ("created", "accepted", "started", "completed")
CANCELLABLE = ("created", "pending_payment", "paid", "accepted")


def order_key(name: str) -> Key:
    return ("order", name)


def sale_key(name: str) -> Key:
    return ("sale", name)


def event(name: str, order: Order) -> Emit:
    return Emit((f"event {name}:{order.version}",))


def can_pay(order: Order, now: int) -> bool:
    in_time = order.status == "pending_payment" and now < order.expires
    return order.paid_at is None and (order.status in WITHOUT_DEADLINE or in_time)


def is_due(order: Order, now: int) -> bool:
    return order.status == "pending_payment" and now >= order.expires


def paid(payment: str) -> Change:
    def change(order: Order, now: int) -> Order:
        status = "paid" if order.status in ("created", "pending_payment") else order.status
        return order._replace(status=status, paid_at=now, payment=payment, version=order.version + 1)

    return change


def cancelled(reason: str) -> Change:
    def change(order: Order, now: int) -> Order:
        return order._replace(status="cancelled", reason=reason, cancelled_at=now, version=order.version + 1)

    return change


def moved(*, available: int = 0, reserved: int = 0, sold: int = 0) -> Change:
    """Units of a sale, added to what is there."""

    def change(sale: Sale, now: int) -> Sale:
        return Sale(sale.initial, sale.available + available, sale.reserved + reserved, sale.sold + sold)

    return change


def pay(name: str, payment: str) -> Program:
    """pay_order: the lock first, so that who comes second is judged by what the first has done."""

    def body() -> Body:
        order = yield hold(order_key(name))
        if order.payment == payment:
            return "repeated"
        known, now = yield Read("judge", lambda rows, now: (("payment", payment) in rows, now))
        if known or not can_pay(order, now):
            return (yield from lose(name, payment))
        return (yield from win(name, payment, (yield write(order_key(name), paid(payment)))))

    return body


def win(name: str, payment: str, order: Order) -> Body:
    yield Insert(("payment", payment), name)
    yield write(sale_key(order.sale), moved(reserved=-order.quantity, sold=order.quantity))
    yield event(name, order)
    return "done"


def lose(name: str, payment: str) -> Body:
    yield Insert(("payment", payment), name, or_nothing=True)
    yield Insert(("refund", payment), name, or_nothing=True)
    return "lost"


def cancel(name: str) -> Program:
    """transition_order(…, 'cancel', …)"""

    def body() -> Body:
        order = yield from update(
            order_key(name), lambda row, now: row.status in CANCELLABLE, cancelled("cancelled-by-customer")
        )
        if order is None:
            yield from find(order_key(name), always)
            return "illegal"
        if order.payment:
            yield Insert(("refund", order.payment), name)
        yield from return_stock(name, order)
        yield event(name, order)
        return "done"

    return body


def return_stock(name: str, order: Order) -> Generator[Step, Any, None]:
    held = {"reserved" if order.paid_at is None else "sold": -order.quantity}
    yield write(sale_key(order.sale), moved(available=order.quantity, **held))
    yield Emit((f"stock c-{name} {order.quantity}",))


def expire(*names: str) -> Program:
    """expire_orders"""

    def body() -> Body:
        due = yield from lock_due(names)
        for sale in sorted({order.sale for order in due.values()}):
            yield hold(sale_key(sale))
        return (yield from expire_all(due))

    return body


def lock_due(names: Sequence[str]) -> Generator[Step, Any, dict[str, Order]]:
    """`select … order by order_id for update`: one snapshot, then row by row."""

    def look(rows: View, now: int) -> tuple[tuple[str, Sight], ...]:
        found = ((name, rows.get(order_key(name))) for name in sorted(set(names)))
        return tuple(
            (name, Sight(*seen, now)) for name, seen in found if seen is not None and is_due(seen.row, now)
        )

    due = {}
    for name, sight in (yield Read("find what is due", look)):
        order = yield Take(f"lock {name}", order_key(name), sight, is_due)
        if order is not None:
            due[name] = order
    return due


def expire_all(due: Mapping[str, Order]) -> Body:
    """One statement, on rows that are all locked."""
    units: Counter[str] = Counter()
    for name, order in due.items():
        gone = yield write(order_key(name), cancelled("expired"))
        yield event(name, gone)
        units[order.sale] += order.quantity
    for sale, quantity in units.items():
        first = min(name for name, order in due.items() if order.sale == sale)
        yield write(sale_key(sale), moved(available=quantity, reserved=-quantity))
        yield Emit((f"stock x-{first} {quantity}",))
    return f"expired {len(due)}"


def drain(name: str, sale: str, quantity: int = 1) -> Program:
    """drain_seckill, of one order: the sale's lock first, then one statement; it never locks an order."""

    def look(rows: View, now: int) -> tuple[bool, Seen]:
        return order_key(name) in rows, rows[sale_key(sale)]

    def body() -> Body:
        yield hold(sale_key(sale))
        known, seen = yield Read("judge", look)
        if known:
            return "repeated"
        left = seen.row.available
        status = "pending_payment" if quantity <= left else "rejected"
        order = Order(sale, quantity, status, expires=9)
        if not (yield Insert(order_key(name), order, or_nothing=True)):
            return "repeated"
        yield event(name, order)
        if status == "rejected":
            yield Emit((f"stock b-{name} {left}",) if left > 0 else ())
            return "rejected"
        yield write(sale_key(sale), moved(available=-quantity, reserved=quantity))
        return "created"

    return body


def opening(*orders: str, stock: int = 3) -> dict[Key, Any]:
    """Orders of one sale that await payment, of one unit each."""
    rows: dict[Key, Any] = {order_key(name): Order() for name in orders}
    return {**rows, sale_key("s"): Sale(stock, stock - len(orders), len(orders))}
