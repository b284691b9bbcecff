"""What was done with orders: accepted, started, completed, cancelled, paid and given back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from faults.history.finding import Case, Damage, Finding, can_become, twice, words
from faults.history.record import PLACES, Kind, Operation

from peakclip.audit.facts import OrderRow, Payment

REACHES: Final = {
    Kind.ACCEPT: "accepted",
    Kind.START: "started",
    Kind.COMPLETE: "completed",
    Kind.CANCEL: "cancelled",
}
_ASKED_BY: Final = {status: kind for kind, status in REACHES.items()}


def transitions(case: Case) -> Iterator[Finding]:
    for operation in case.operations:
        if operation.first.kind in (*REACHES, Kind.PAY) and operation.oks:
            yield from _acknowledged(case, operation)
    done = {(event.order_id, event.status) for event in case.events.values() if event.subject != "order.paid"}
    done.update((row.order_id, row.status) for row in case.rows.values())
    for order_id, status in sorted((order_id, status) for order_id, status in done if status in _ASKED_BY):
        row = case.rows.get(order_id)
        if status == "cancelled" and row is not None and row.reason == "expired":
            continue
        found = case.asked(order_id, _ASKED_BY[status])
        if not any(operation.may_have_happened for operation in found):
            yield Finding(Damage.EXTRA, (order_id,), f"{status}; {words(found)}")


def _acknowledged(case: Case, operation: Operation) -> Iterator[Finding]:
    order_id, kind = operation.first.order_id, operation.first.kind
    row = case.rows.get(order_id)
    if row is None:
        known = any(one.oks for one in case.asked(order_id, *PLACES))  # then the order itself is what is lost
        if not known and order_id not in case.aside:
            yield Finding(Damage.LOST, (order_id,), f"no row; {operation.words}")
        return
    told = [one.status for one in operation.oks if one.status is not None]
    needed = [*told, *([REACHES[kind]] if kind in REACHES else [])]
    if kind is Kind.PAY and row.payment_id is None:
        damage = Damage.TWO_WINNERS if row.reason == "expired" else Damage.LOST
        yield Finding(
            damage, (order_id,), f"the row is {row.status}, {row.reason}, and not paid; {operation.words}"
        )
    elif not all(can_become(status, row.status) for status in needed):
        yield Finding(Damage.LOST, (order_id,), f"the row is {row.status}; {operation.words}")


def payments(case: Case) -> Iterator[Finding]:
    by_order: defaultdict[str, list[Payment]] = defaultdict(list)
    for payment in case.facts.payments:
        by_order[payment.order_id].append(payment)
    paid = {row.order_id for row in case.rows.values() if row.payment_id is not None}
    asked = {operation.first.order_id for operation in case.operations if operation.first.kind is Kind.PAY}
    for order_id in sorted(paid.union(asked, by_order)):
        yield from _of_order(case, order_id, by_order[order_id])
    for (payment_id, kind), times in twice((one.payment_id, one.kind) for one in case.facts.payments):
        yield Finding(Damage.DUPLICATED, (payment_id,), f"{times} rows of this {kind}")


def _of_order(case: Case, order_id: str, rows: Sequence[Payment]) -> Iterator[Finding]:
    made = {one.payment_id for one in rows if one.kind == "payment"}
    refunded = {one.payment_id for one in rows if one.kind == "refund"}
    order = case.rows.get(order_id)
    won = None if order is None else order.payment_id
    asked = case.asked(order_id, Kind.PAY)
    here = f"paid {sorted(made)}, given back {sorted(refunded)}, won by {won}; {words(asked)}"
    subjects = (order_id,)
    lost_by_answer = [one for one in asked if _was_refunded(one)]
    possible = [one for one in asked if one.may_have_happened or _was_refunded(one)]
    if len(made) > len(possible):
        yield Finding(Damage.EXTRA, subjects, f"more payments than could have been made; {here}")
    if baseless := refunded - made:
        yield Finding(Damage.EXTRA, (order_id, *sorted(baseless)), f"refunds without a payment; {here}")
    if won is not None and won not in made | refunded:
        yield Finding(Damage.LOST, (order_id, won), f"the payment that won has no row; {here}")
    if len((made | refunded) - {won}) < len(lost_by_answer):
        yield Finding(Damage.LOST, subjects, f"payments that lost have no row; {here}")
    yield from _winners(order, order_id, made - refunded, refunded, here)
    if len([one for one in asked if one.oks]) > 1:
        yield Finding(Damage.TWO_WINNERS, subjects, f"two payments were told that they won; {here}")


def _was_refunded(operation: Operation) -> bool:
    return any(getattr(end, "refunded", False) for end in operation.ends)


def _winners(
    order: OrderRow | None, order_id: str, standing: set[str], refunded: set[str], here: str
) -> Iterator[Finding]:
    alive = order is not None and order.status != "cancelled"
    won = order.payment_id if order is not None else None
    if kept := standing - ({won} if alive else set()):
        status = "no row" if order is None else f"{order.status}, {order.reason}"
        yield Finding(
            Damage.TWO_WINNERS, (order_id, *sorted(kept)), f"neither won nor given back, {status}; {here}"
        )
    if alive and won in refunded:
        yield Finding(Damage.TWO_WINNERS, (order_id,), f"won and given back; {here}")
    if (
        order is not None
        and order.paid_at is not None
        and order.paid_at >= (order.expires_at or float("inf"))
    ):
        yield Finding(Damage.TWO_WINNERS, (order_id,), f"paid at {order.paid_at}, due at {order.expires_at}")
