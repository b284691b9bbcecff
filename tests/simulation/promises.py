"""What must hold for the model's tables: at every commit, and when everybody has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from simulation.rows import FAILED, World
from simulation.statements import Order


def check_commit(world: World) -> None:
    """At every committed instant."""
    orders: dict[str, Order] = world.rows_of("order")
    wrong = [*_stock(world, orders), *_times(orders), *_restored(world, orders), *_money(world, orders)]
    wrong += [f"told twice: {row}" for row, times in Counter(world.outbox).items() if times > 1]
    assert not wrong, "; ".join(wrong)


def _stock(world: World, orders: Mapping[str, Order]) -> Iterator[str]:
    for name, sale in world.rows_of("sale").items():
        if min(sale) < 0:
            yield f"a negative count: {sale}"
        if sale.initial != sale.available + sale.reserved + sale.sold:
            yield f"units do not add up: {sale}"
        mine = [order for order in orders.values() if order.sale == name]
        reserved = sum(order.quantity for order in mine if order.status == "pending_payment")
        sold = sum(order.quantity for order in mine if order.status in ("paid", "accepted"))
        if (sale.reserved, sale.sold) != (reserved, sold):
            yield f"not what the orders hold: {sale}"


def _times(orders: Mapping[str, Order]) -> Iterator[str]:
    for name, order in orders.items():
        if order.paid_at is not None and order.paid_at >= order.expires:
            yield f"{name} was paid too late"
        if order.reason == "expired" and (order.cancelled_at or 0) < order.expires:
            yield f"{name} expired too early"


def _restored(world: World, orders: Mapping[str, Order]) -> Iterator[str]:
    """Stock goes back once for each cancelled order: alone (c) or with its batch (x)."""
    movements = [row.split()[1:] for row in world.outbox if row.startswith("stock")]
    back = sum(int(units) for name, units in movements if name[0] in "cx")
    gone = sum(order.quantity for order in orders.values() if order.status == "cancelled")
    if back != gone:
        yield f"{gone} units of cancelled orders, and {back} returned"


def _money(world: World, orders: Mapping[str, Order]) -> Iterator[str]:
    """A payment stands or has its refund. One stands for the order that it won, while that is not cancelled."""
    payments, refunds = world.rows_of("payment"), world.rows_of("refund")
    yield from (f"a refund without a payment: {payment}" for payment in refunds.keys() - payments.keys())
    for name, order in orders.items():
        standing = {payment for payment, of in payments.items() if of == name and payment not in refunds}
        wanted = {order.payment} if order.payment and order.status != "cancelled" else set()
        if standing != wanted:
            yield f"{name} is {order.status}, paid by {order.payment!r}; standing: {sorted(standing) or 'nothing'}"


def check_end(world: World) -> None:
    """When nobody is left. Nobody may have failed: that is a customer who gets an error for nothing."""
    check_commit(world)
    failed = [process.answer for process in world.processes if process.answer == FAILED]
    assert not failed, failed[0]


def same_answer(*numbers: int) -> Callable[[World], None]:
    """The same payment again gets the same answer: who has paid is never told that it lost, nor the other way."""

    def check(world: World) -> None:
        check_end(world)
        answers = {world.processes[number].answer for number in numbers}
        assert not ({"done", "repeated"} & answers and "lost" in answers), f"two answers: {answers}"

    return check
