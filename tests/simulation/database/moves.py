"""PURE. `pay_order`, `transition_order` and `expire_orders`, as the migrations have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from simulation.database.orders import emit, order_event, shown
from simulation.database.store import PAUSE, Row, Steps, Transaction
from simulation.database.words import Record, owe

_KINDS: Final = {"accept": "accepted", "start": "started", "complete": "completed", "cancel": "cancelled"}
_STAMPS: Final = {
    "accept": "assigned_at", "start": "service_started_at", "complete": "completed_at", "cancel": "cancelled_at",
}  # fmt: skip
_WITHOUT_DEADLINE: Final = ("created", "accepted", "started", "completed")


def _answer(outcome: str, order: Row | None) -> list[Record]:
    return [Record(outcome=outcome, **shown(order))]


def _is_of(order: Row, tenant: str, customer_id: str | None) -> bool:
    return bool(order["tenant"] == tenant) and customer_id in (None, order["customer_id"])


def _pay_row(payment_id: str, kind: str, order: Row, at: float) -> Row:
    kept = {name: order[name] for name in ("order_id", "tenant", "amount_cents")}
    return {**kept, "payment_id": payment_id, "kind": kind, "at": at}


def move_units(tx: Transaction, sale_id: str | None, **units: int) -> Steps[None]:
    sale = None if sale_id is None else (yield from tx.hold("sales", sale_id))
    if sale is not None:
        tx.put("sales", sale_id, {**sale, **{name: sale[name] + more for name, more in units.items()}})


def pay_order(
    tx: Transaction, tenant: str, order_id: Any, customer_id: str | None, payment_id: Any, traceparent: str
) -> Steps[list[Record]]:
    key, payment = str(order_id), str(payment_id)
    order = tx.get("orders", key)
    if order is not None:
        order = (
            (yield from tx.take("orders", key, order, lambda row: _is_of(row, tenant, customer_id)))
            if _is_of(order, tenant, customer_id) else None
        )  # fmt: skip
    now = tx.clock()
    if order is None:
        return _answer("not-found", None)
    if order["payment_id"] == payment:
        return _answer("repeated", order)
    yield PAUSE
    in_time = order["status"] == "pending_payment" and now < order["expires_at"]
    open_ = order["paid_at"] is None and (order["status"] in _WITHOUT_DEADLINE or in_time)
    if not open_ or tx.get("payments", (payment, "payment")) is not None:
        for kind in ("payment", "refund"):
            row = _pay_row(payment, kind, order, tx.clock())
            yield from tx.insert("payments", (payment, kind), row, or_nothing=True)
        return _answer("lost", order)
    status = "paid" if order["status"] in ("created", "pending_payment") else order["status"]
    won = {"status": status, "paid_at": now, "payment_id": payment, "version": order["version"] + 1}
    order = {**order, **won}
    tx.put("orders", key, order)
    yield from tx.insert("payments", (payment, "payment"), _pay_row(payment, "payment", order, tx.clock()))
    yield PAUSE
    yield from move_units(tx, order["sale_id"], reserved=-order["quantity"], sold=order["quantity"])
    emit(tx, order, "paid", traceparent)
    return _answer("done", order)


def _provider_is_there(tx: Transaction, provider_id: str | None, tenant: str) -> bool:
    found = tx.get("providers", provider_id)
    return found is not None and found["tenant"] == tenant


def _can(tx: Transaction, order: Row, action: str, provider_id: str | None) -> bool:
    status, own = order["status"], provider_id in (None, order["provider_id"])
    match action:
        case "accept":
            return status in ("created", "paid") and _provider_is_there(tx, provider_id, order["tenant"])
        case "start":
            return status == "accepted" and own
        case "complete":
            return status == "started" and own
    return status in ("created", "pending_payment", "paid", "accepted")


def transition_order(
    tx: Transaction, tenant: str, order_id: Any, action: str, customer_id: str | None, provider_id: str | None,
    reason: str | None, key: str | None, traceparent: str | None,
) -> Steps[list[Record]]:  # fmt: skip
    own, kind, now = str(order_id), _KINDS[action], tx.clock()

    def fits(row: Row) -> bool:
        return _is_of(row, tenant, customer_id) and _can(tx, row, action, provider_id)

    order = tx.get("orders", own)
    order = (yield from tx.take("orders", own, order, fits)) if order is not None and fits(order) else None
    if order is not None:
        order = {
            **order, "status": kind, "version": order["version"] + 1, _STAMPS[action]: now,
            "transition_keys": order["transition_keys"] if key is None
            else {**(order["transition_keys"] or {}), kind: key},
            "provider_id": provider_id if action == "accept" else order["provider_id"],
            "reason": reason if action == "cancel" else order["reason"],
        }  # fmt: skip
        tx.put("orders", own, order)
        yield PAUSE
        refund = (yield from _take_back(tx, order)) if action == "cancel" else 0
        emit(tx, order, kind, traceparent, refund)
        return _answer("done", order)
    yield PAUSE
    order = tx.get("orders", own)
    if order is not None and not _is_of(order, tenant, customer_id):
        order = None
    return _answer(_why_not(tx, order, action, provider_id, tenant, key), order)


def _take_back(tx: Transaction, order: Row) -> Steps[int]:
    payment, refund = order["payment_id"], 0
    if payment is not None:
        yield from tx.insert("payments", (payment, "refund"), _pay_row(payment, "refund", order, tx.clock()))
        refund = order["amount_cents"]
    held = "reserved" if order["paid_at"] is None else "sold"
    yield from move_units(tx, order["sale_id"], **{"available": order["quantity"], held: -order["quantity"]})
    if order["sale_id"] is not None:
        headers = {"Peakclip-Order": order["order_id"]}
        owe(
            tx,
            f"c-{order['order_id']}",
            f"stock.{order['sale_id']}",
            increment=order["quantity"],
            headers=headers,
        )
    return refund


def _why_not(
    tx: Transaction, order: Row | None, action: str, provider_id: str | None, tenant: str, key: str | None
) -> str:
    if order is None:
        return "not-found"
    other = provider_id is not None and order["provider_id"] != provider_id
    anothers = order["provider_id"] is not None or order["status"] not in ("created", "paid")
    if action in ("start", "complete") and other and anothers:
        return "not-found"
    keys: Mapping[str, str] = order["transition_keys"] or {}
    known = key is not None and keys.get(_KINDS[action]) == key
    if known and (action != "accept" or order["provider_id"] == provider_id):
        return "repeated"
    if action == "accept" and not _provider_is_there(tx, provider_id, tenant):
        return "unknown-provider"
    return "illegal"


def expire_orders(tx: Transaction, order_ids: Sequence[Any]) -> Steps[list[Record]]:
    def is_due(row: Row) -> bool:
        return row["status"] == "pending_payment" and row["expires_at"] <= tx.clock()

    wanted = sorted({str(order_id) for order_id in order_ids})
    seen = [(key, row) for key in wanted if (row := tx.get("orders", key)) is not None and is_due(row)]
    due: list[Row] = []
    for key, row in seen:
        if (now := (yield from tx.take("orders", key, row, is_due))) is not None:
            due.append(now)
    yield PAUSE
    for sale_id in sorted({order["sale_id"] for order in due}):
        yield from tx.hold("sales", sale_id)
    yield PAUSE
    units: defaultdict[str, int] = defaultdict(int)
    first: dict[str, str] = {}
    for order in due:
        gone = {"status": "cancelled", "reason": "expired", "cancelled_at": tx.clock()}
        order = {**order, **gone, "version": order["version"] + 1}
        tx.put("orders", order["order_id"], order)
        units[order["sale_id"]] += order["quantity"]
        first[order["sale_id"]] = min(first.get(order["sale_id"], "~"), order["order_id"])
        payload = order_event(tx, order)
        owe(tx, f"{order['order_id']}:{order['version']}", "order.cancelled", payload=payload)
    for sale_id, count in units.items():
        yield from move_units(tx, sale_id, available=count, reserved=-count)
        owe(tx, f"x-{first[sale_id]}", f"stock.{sale_id}", increment=count)
    return [Record(expired=len(due), kept=len(wanted) - len(due))]
