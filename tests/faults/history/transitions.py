"""What was done with orders: accepted, started, completed, cancelled and paid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from faults.history.finding import Case, Damage, Finding, can_become, words
from faults.history.payments import payments
from faults.history.record import PLACES, Kind, Operation

__all__ = ["REACHES", "payments", "transitions"]

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
