"""Invariant 4: payment against expiry has one winner, and whoever loses gets the money back."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from peakclip.audit.facts import Facts, OrderRow
from peakclip.audit.result import CheckResult, violations


def check_payments(facts: Facts) -> CheckResult:
    """4: a payment stands or has its refund. One stands for each paid order that is not cancelled, and none else."""
    kinds = Counter((payment.payment_id, payment.kind) for payment in facts.payments)
    refunded = {payment_id for payment_id, kind in kinds if kind == "refund"}
    standing: defaultdict[str, set[str]] = defaultdict(set)
    for payment in facts.payments:
        if payment.kind == "payment" and payment.payment_id not in refunded:
            standing[payment.order_id].add(payment.payment_id)
    orders = {order.order_id: order for order in facts.orders}
    found = violations(
        4,
        (
            "a payment or a refund twice",
            [{"payment_id": i, "kind": kind, "rows": n} for (i, kind), n in kinds.items() if n > 1],
            None,
        ),
        (
            "refunds without a payment",
            [{"payment_id": i} for i in sorted(refunded) if (i, "payment") not in kinds],
            None,
        ),
        ("refunds of another amount or order than their payment", _other_amounts(facts), None),
        ("paid orders without the one payment that won", _without_winner(facts, standing), None),
        ("payments that lost, or of cancelled orders, without a refund", _kept(orders, standing), None),
        ("paid too late", [_row(order) for order in facts.orders if _too_late(order)], None),
        ("expired too early", [_row(order) for order in facts.orders if _too_early(order)], None),
        ("paid and unpaid at once", [_row(order) for order in facts.orders if _contradicts(order)], None),
    )
    paid = sum(order.payment_id is not None for order in facts.orders)
    detail = f"{len(kinds) - len(refunded)} payments, {len(refunded)} refunds, {paid} orders that were paid"
    return CheckResult(4, "payment against expiry", detail, found)


def _other_amounts(facts: Facts) -> list[dict[str, Any]]:
    payments = {one.payment_id: one for one in facts.payments if one.kind == "payment"}
    return [
        {"payment_id": refund.payment_id, "order_id": refund.order_id, "amount_cents": refund.amount_cents}
        for refund in facts.payments
        if refund.kind == "refund"
        and (paid := payments.get(refund.payment_id)) is not None
        and (paid.order_id, paid.amount_cents) != (refund.order_id, refund.amount_cents)
    ]


def _without_winner(facts: Facts, standing: defaultdict[str, set[str]]) -> list[dict[str, Any]]:
    return [
        {**_row(order), "standing": sorted(standing.get(order.order_id, ()))}
        for order in facts.orders
        if order.payment_id is not None
        and order.status != "cancelled"
        and standing.get(order.order_id) != {order.payment_id}
    ]


def _kept(orders: dict[str, OrderRow], standing: defaultdict[str, set[str]]) -> list[dict[str, Any]]:
    """Money that somebody is owed."""
    kept = []
    for order_id, payments in standing.items():
        order = orders.get(order_id)
        won = order.payment_id if order is not None and order.status != "cancelled" else None
        status = order.status if order is not None else None
        kept += [
            {"payment_id": payment, "order_id": order_id, "status": status}
            for payment in sorted(payments - {won})
        ]
    return kept


def _too_late(order: OrderRow) -> bool:
    return order.paid_at is not None and order.expires_at is not None and order.paid_at >= order.expires_at


def _too_early(order: OrderRow) -> bool:
    if order.reason != "expired":
        return False
    return order.expires_at is None or order.cancelled_at is None or order.cancelled_at < order.expires_at


def _contradicts(order: OrderRow) -> bool:
    """A sale's order is served only when it is paid; and who is paid says by what."""
    served = order.sale_id is not None and order.status in ("accepted", "started", "completed")
    if (order.payment_id is None) != (order.paid_at is None):
        return True
    if order.payment_id is None:
        return order.status == "paid" or served
    return order.status in ("created", "pending_payment", "rejected")


def _row(order: OrderRow) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "status": order.status,
        "payment_id": order.payment_id,
        "paid_at": order.paid_at,
        "expires_at": order.expires_at,
    }
