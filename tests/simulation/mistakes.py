"""Statements as they must not be. Each is a mistake that somebody makes, and that the exploration has to find."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from simulation.rows import Emit, Insert, Program, Read, Step, always, find, hold, lock, update, write
from simulation.statements import (
    CANCELLABLE,
    Body,
    Order,
    can_pay,
    cancelled,
    event,
    expire_all,
    is_due,
    lock_due,
    lose,
    moved,
    order_key,
    paid,
    return_stock,
    sale_key,
    win,
)


def pay_without_a_lock(name: str, payment: str) -> Program:
    """Who has not won reads the order without waiting for who is about to win."""

    def body() -> Body:
        won = yield from update(order_key(name), can_pay, paid(payment))
        if won is not None:
            return (yield from win(name, payment, won))
        order = (yield from find(order_key(name), always)).row
        return "repeated" if order.payment == payment else (yield from lose(name, payment))

    return body


def pay_judged_before_the_lock(name: str, payment: str) -> Program:
    def body() -> Body:
        if (yield from find(order_key(name), can_pay)) is None:
            return (yield from lose(name, payment))
        return (yield from win(name, payment, (yield write(order_key(name), paid(payment)))))

    return body


def pay_without_a_deadline(name: str, payment: str) -> Program:
    """Whoever finds the order unpaid may pay it: the reaper has not been there yet."""

    def body() -> Body:
        order = yield hold(order_key(name))
        if order.payment == payment:
            return "repeated"
        if order.status != "pending_payment":
            return (yield from lose(name, payment))
        return (yield from win(name, payment, (yield write(order_key(name), paid(payment)))))

    return body


def lose_without_a_refund(name: str, payment: str) -> Program:
    def body() -> Body:
        order = yield hold(order_key(name))
        won, now = yield Read("judge", lambda rows, now: (order.payment == payment, now))
        if won or not can_pay(order, now):
            yield Insert(("payment", payment), name, or_nothing=True)
            return "repeated" if won else "lost"
        return (yield from win(name, payment, (yield write(order_key(name), paid(payment)))))

    return body


def cancel_that_returns_stock_in_any_case(name: str) -> Program:
    def body() -> Body:
        before = (yield from find(order_key(name), always)).row
        order = yield from take_back(name)
        if order is not None and order.payment:
            yield Insert(("refund", order.payment), name)
        yield from return_stock(name, order or before)
        return "done"

    return body


def cancel_without_a_refund(name: str) -> Program:
    def body() -> Body:
        order = yield from take_back(name)
        if order is None:
            return "illegal"
        yield from return_stock(name, order)
        return "done"

    return body


def cancel_that_writes_what_it_has_read(name: str) -> Program:
    """The new count comes from an earlier read, as it would from an object in the application's memory."""

    def body() -> Body:
        sale = (yield from find(sale_key("s"), always)).row
        order = yield from take_back(name)
        if order is None or order.paid_at is not None:
            return "illegal"
        change = moved(available=order.quantity, reserved=-order.quantity)
        yield write(sale_key("s"), lambda row, now: change(sale, now))
        yield Emit((f"stock c-{name} {order.quantity}",))
        yield event(name, order)
        return "done"

    return body


def take_back(name: str) -> Generator[Step, Any, Order | None]:
    order: Order | None = yield from update(
        order_key(name), lambda row, now: row.status in CANCELLABLE, cancelled("cancelled-by-customer")
    )
    return order


def expire_whatever_has_become_of_it(*names: str) -> Program:
    """What was due when the batch was read is cancelled."""

    def body() -> Body:
        due = {}
        for name in names:
            if (seen := (yield from find(order_key(name), is_due))) is not None:
                due[name] = seen.row
        return (yield from expire_all(due))

    return body


def expire_without_a_look_at_the_clock(*names: str) -> Program:
    """The message says that it is time; but a schedule may come early, and the clocks differ."""

    def body() -> Body:
        due = {}
        for name in names:
            order = yield from lock(order_key(name), lambda row, now: row.status == "pending_payment")
            if order is not None:
                due[name] = order
        return (yield from expire_all(due))

    return body


def expire_sales_first(*names: str) -> Program:
    def body() -> Body:
        yield hold(sale_key("s"))
        return (yield from expire_all((yield from lock_due(names))))

    return body


def expire_in_the_order_of_the_batch(*names: str) -> Program:
    def body() -> Body:
        due = {}
        for name in names:
            if (order := (yield from lock(order_key(name), is_due))) is not None:
                due[name] = order
        return (yield from expire_all(due))

    return body


def drain_that_looks_before_it_locks(name: str) -> Program:
    def body() -> Body:
        left = yield Read("judge", lambda rows, now: rows[sale_key("s")].row.available)
        if left < 1:
            return "rejected"
        yield hold(sale_key("s"))
        yield Insert(order_key(name), Order(expires=9))
        yield write(sale_key("s"), moved(available=-1, reserved=1))
        return "created"

    return body
