"""Payments: each is named by its order and its key, so it is known which one a customer was told of."""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from faults.history.finding import Case, Damage, Finding, twice, words
from faults.history.record import Kind, Operation, Refusal

from peakclip.audit.facts import CLOCK_MARGIN_SECONDS, OrderRow, Payment

_PAYMENTS: Final = uuid.UUID(
    "6f1c3d6e-3f3e-4c0a-9d51-1f3f5b0f8f0a"
)  # namespace of their ids, as the API has it
_NO: Final = frozenset({"illegal-transition", "order-not-found"})  # what a payment may be refused with


def payment_id(tenant: str, order_id: str, key: str | None) -> str:
    """One key is one payment, or without a key one order."""
    return str(uuid.uuid5(_PAYMENTS, f"{tenant}\0{order_id}" + ("" if key is None else f"\0{key}")))


def payments(case: Case) -> Iterator[Finding]:
    by_order: defaultdict[str, list[Payment]] = defaultdict(list)
    for payment in case.facts.payments:
        by_order[payment.order_id].append(payment)
    paid = {row.order_id for row in case.rows.values() if row.payment_id is not None}
    asked = {operation.first.order_id for operation in case.operations if operation.first.kind is Kind.PAY}
    for order_id in sorted(paid.union(asked, by_order)):
        yield from _of_order(case, order_id, by_order[order_id])
        yield from _denied(case, order_id)
    for (named, kind), times in twice((one.payment_id, one.kind) for one in case.facts.payments):
        yield Finding(Damage.DUPLICATED, (named,), f"{times} rows of this {kind}")


def _of_order(case: Case, order_id: str, rows: Sequence[Payment]) -> Iterator[Finding]:
    made = {one.payment_id for one in rows if one.kind == "payment"}
    refunded = {one.payment_id for one in rows if one.kind == "refund"}
    order = case.rows.get(order_id)
    won = None if order is None else order.payment_id
    asked = case.asked(order_id, Kind.PAY)
    here = f"paid {sorted(made)}, given back {sorted(refunded)}, won by {won}; {words(asked)}"
    if order is None:
        yield from _by_number(order_id, made, refunded, asked, here)
    else:
        named = {payment_id(order.tenant, order_id, one.first.key): one for one in asked}
        yield from _by_name(order, made | refunded, named, here)
        for one in rows:
            if one.amount_cents != order.amount_cents:
                evidence = f"{one.kind} of {one.amount_cents} cents for {order.amount_cents}; {here}"
                yield Finding(Damage.WRONG, (order_id, one.payment_id), evidence)
    if baseless := refunded - made:
        yield Finding(Damage.EXTRA, (order_id, *sorted(baseless)), f"refunds without a payment; {here}")
    if won is not None and won not in made | refunded:
        yield Finding(Damage.LOST, (order_id, won), f"the payment that won has no row; {here}")
    yield from _winners(order, order_id, made - refunded, refunded, here)


def _by_number(
    order_id: str, made: Collection[str], refunded: set[str], asked: Collection[Operation], here: str
) -> Iterator[Finding]:
    """Without a row nobody knows the tenant, and without that no name."""
    lost_by_answer = [one for one in asked if _was_refunded(one)]
    possible = [one for one in asked if one.may_have_happened or _was_refunded(one)]
    if len(made) > len(possible):
        yield Finding(Damage.EXTRA, (order_id,), f"more payments than could have been made; {here}")
    if len(refunded.union(made)) < len(lost_by_answer):
        yield Finding(Damage.LOST, (order_id,), f"payments that lost have no row; {here}")
    if len([one for one in asked if one.oks]) > 1:
        yield Finding(Damage.TWO_WINNERS, (order_id,), f"two payments were told that they won; {here}")


def _by_name(
    order: OrderRow, there: set[str], asked: Mapping[str, Operation], here: str
) -> Iterator[Finding]:
    lost_by_answer = {named for named, one in asked.items() if _was_refunded(one)}
    possible = {named for named, one in asked.items() if one.may_have_happened} | lost_by_answer
    won = order.payment_id
    if strangers := there.union({won} if won else ()) - possible:
        evidence = f"payments that nobody can have made; {here}"
        yield Finding(Damage.EXTRA, (order.order_id, *sorted(strangers)), evidence)
    if gone := lost_by_answer - there - {won}:
        yield Finding(Damage.LOST, (order.order_id, *sorted(gone)), f"payments that lost have no row; {here}")
    # If none has won, then the order says unpaid: that is found by what was acknowledged.
    if won is not None and (told := {named for named, one in asked.items() if one.oks} - {won}):
        evidence = f"told that they won, and another has; {here}"
        yield Finding(Damage.TWO_WINNERS, (order.order_id, *sorted(told)), evidence)
    if won in lost_by_answer:
        yield Finding(Damage.TWO_WINNERS, (order.order_id, won or ""), f"won, and was told no; {here}")


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


def _denied(case: Case, order_id: str) -> Iterator[Finding]:
    """A payment may be refused when the order was paid by another, cancelled, or due by then, and never before."""
    order = case.rows.get(order_id)
    if order is None or order.status == "rejected":
        return
    since = case.there_since(order_id) + CLOCK_MARGIN_SECONDS
    for operation in case.asked(order_id, Kind.PAY):
        named = payment_id(order.tenant, order_id, operation.first.key)
        for no in operation.refusals:
            # Who was refunded has paid an order that was there.
            if (no.refunded or no.asked > since) and _may_be_paid(order, named, no):
                evidence = (
                    f"refused {no.problem} at {no.at:.3f}, and nothing was in its way; {operation.words}"
                )
                yield Finding(Damage.MISORDERED, (order_id, named), evidence)
                break


def _may_be_paid(order: OrderRow, named: str, no: Refusal) -> bool:
    """Until after this answer; or it had won before it was asked for, whatever became of the order since."""
    won = named == order.payment_id
    if not (no.refunded or no.problem in _NO) or (no.refunded and won):
        return False  # the latter is found by its name
    paid = math.inf if order.paid_at is None else order.paid_at
    if won and no.asked > paid + CLOCK_MARGIN_SECONDS:
        return True
    cancelled = (
        math.inf if order.status != "cancelled" else order.cancelled_at or 0.0
    )  # without a time: at any
    ends = (cancelled, order.expires_at or math.inf, math.inf if won else paid)
    return no.at + CLOCK_MARGIN_SECONDS < min(ends)
