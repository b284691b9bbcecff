"""PURE. `apply_effects`, without what depends on places and addresses: no providers nearby, and no deliveries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from simulation.database.store import PAUSE, Row, Steps, Transaction
from simulation.database.words import Record, text_of

_FIGURES: Final = ("order.created", "order.completed", "order.cancelled", "order.paid", "review.created")
_SUMS: Final = (
    "orders", "completed", "cancellations", "revenue_cents", "refunds_cents", "ratings", "rating_sum",
)  # fmt: skip
_REJECTED: Final = {
    "sold-out": "everything is sold.",
    "limit-reached": "you have as many as a customer may buy.",
    "unknown-pet": "its pet does not exist any more.",
    "unknown-package": "the service is not offered any more.",
}
_CANCELLED: Final = {
    "expired": "Your order has expired: it was not paid in time.",
    "cancelled-by-admin": "Your order was cancelled by the shop.",
}
_TITLES: Final = {
    "order.created": "Order received", "order.rejected": "Order not accepted", "order.paid": "Order paid",
    "order.accepted": "Order accepted", "order.started": "Service started",
    "order.completed": "Service completed", "order.cancelled": "Order cancelled",
}  # fmt: skip
_BODIES: Final = {
    "order.paid": "Your payment has arrived.", "order.accepted": "A provider has accepted your order.",
    "order.started": "The provider has started.",
    "order.completed": "Your order is completed. You can review it now.",
}  # fmt: skip
_Event = Mapping[str, Any]


def _called_for(subject: str, data: _Event) -> list[str]:
    """Sorted by name. Only of orders: nobody reviews anything here."""
    called = ["audit"] if subject.startswith("order.") else []
    called += ["daily-figures"] if subject in _FIGURES else []
    called += ["notify-customer"] if subject.startswith("order.") else []
    if subject == "order.cancelled" and data.get("provider_id") is not None:
        called.append("notify-provider")
    if subject == "order.completed" and data.get("provider_id") is not None:
        called.append("provider-statistics")
    return called


def apply_effects(tx: Transaction, body: str) -> Steps[list[Record]]:
    events = msgspec.json.decode(body)
    incoming: dict[str, _Event] = {}
    for event in events:
        incoming.setdefault(event["event_id"], event)
    fresh: list[tuple[str, _Event]] = []
    for event_id, event in sorted(incoming.items()):
        for effect in _called_for(event["subject"], event["data"]):
            row = {"event_id": event_id, "effect": effect, "attempts": event["attempts"], "at": tx.clock()}
            if (yield from tx.insert("effects", (event_id, effect), row, or_nothing=True)):
                fresh.append((effect, event))
    order = [event["event_id"] for event in events]
    fresh.sort(key=lambda one: (order.index(one[1]["event_id"]), one[0]))
    yield PAUSE
    yield from _audit(tx, [event for effect, event in fresh if effect == "audit"])
    yield PAUSE
    told = yield from _notify(tx, fresh)
    yield PAUSE
    yield from _figures(tx, [event for effect, event in fresh if effect == "daily-figures"])
    applied = len({event["event_id"] for _, event in fresh})
    answer = {
        "applied": applied,
        "repeated": len(incoming) - applied,
        "notifications": [_pushed(one) for one in told],
    }
    return [Record(apply_effects=msgspec.json.encode(answer).decode())]


def _pushed(row: Row) -> Row:
    named = ("number", "tenant", "audience", "user_id", "kind", "title", "body", "data")
    shown = {name: row[name] for name in named}
    return {"notification_id": row["notification_id"], **shown, "at": text_of(row["created_at"])}


def _audit(tx: Transaction, events: Sequence[_Event]) -> Steps[None]:
    def key(event: _Event) -> tuple[str, int]:
        return event["data"]["order_id"], event["data"]["version"]

    for event in sorted(events, key=key):
        data = event["data"]
        row = {
            "order_id": data["order_id"], "version": data["version"], "tenant": data["tenant"],
            "event": event["subject"], "status": data["status"], "data": data,
        }  # fmt: skip
        yield from tx.insert("order_history", key(event), row, or_nothing=True)


def _notify(tx: Transaction, fresh: Sequence[tuple[str, _Event]]) -> Steps[list[Row]]:
    wanted: defaultdict[tuple[str, str, str], list[_Event]] = defaultdict(list)
    for effect, event in fresh:
        if effect in ("notify-customer", "notify-provider"):
            audience = effect.removeprefix("notify-")
            user = event["data"]["customer_id" if audience == "customer" else "provider_id"]
            wanted[event["data"]["tenant"], audience, user].append(event)
    rows: list[Row] = []
    newest: dict[tuple[str, str, str], int] = {}
    for inbox, events in sorted(wanted.items()):
        own = {"tenant": inbox[0], "audience": inbox[1], "user_id": inbox[2], "newest": len(events)}
        more = len(events)
        row = yield from tx.upsert(
            "inboxes", inbox, own, lambda old, more=more: {**old, "newest": old["newest"] + more}
        )
        newest[inbox] = row["newest"]
    for inbox, events in sorted(wanted.items()):
        for number, event in enumerate(events, start=newest[inbox] - len(events) + 1):
            notification = _notification(tx, inbox, number, event)
            key = (event["event_id"], inbox[1], inbox[2], event["subject"])
            if (yield from tx.insert("notifications", key, notification, or_nothing=True)):
                rows.append(notification)
    return rows


def _notification(tx: Transaction, inbox: tuple[str, str, str], number: int, event: _Event) -> Row:
    tenant, audience, user = inbox
    data, kind = event["data"], event["subject"]
    kept = {name: data.get(name) for name in ("order_id", "sale_id", "status", "reason")}
    if audience == "provider":
        title, body = "Order cancelled", "An order that you had accepted is cancelled."
    else:
        title, body = _TITLES[kind], _words(kind, data)
    return {
        "notification_id": tx.store.next("notifications"), "tenant": tenant, "audience": audience, "user_id": user,
        "number": number, "event_id": event["event_id"], "kind": kind, "title": title, "body": body,
        "data": {name: value for name, value in kept.items() if value is not None}, "created_at": tx.clock(),
    }  # fmt: skip


def _words(kind: str, data: _Event) -> str:
    if kind == "order.created":
        if data["status"] != "pending_payment":
            return "We have your order. A provider can accept it now."
        until = datetime.fromisoformat(data["expires_at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        return f"Your order is reserved. Pay before {until} UTC, or it is cancelled."
    if kind == "order.rejected":
        reason = _REJECTED.get(data.get("reason") or "")
        return "Your order could not be accepted" + (f": {reason}" if reason else ".")
    if kind == "order.cancelled":
        words = _CANCELLED.get(data.get("reason") or "", "Your order is cancelled.")
        return words + (" Your payment goes back to you." if data.get("refunded_cents", 0) > 0 else "")
    return _BODIES[kind]


def _figures(tx: Transaction, events: Sequence[_Event]) -> Steps[None]:
    sums: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_SUMS, 0))
    for event in events:
        data, subject = event["data"], event["subject"]
        day = datetime.fromisoformat(data["at"]).astimezone(UTC).date().isoformat()
        found = sums[data["tenant"], day]
        found["orders"] += subject == "order.created"
        found["completed"] += subject == "order.completed"
        found["cancellations"] += subject == "order.cancelled"
        found["revenue_cents"] += data.get("amount_cents", 0) if subject == "order.paid" else 0
        found["refunds_cents"] += data.get("refunded_cents", 0) if subject == "order.cancelled" else 0
    for key, more in sorted(sums.items()):

        def added(old: Row, more: dict[str, int] = more) -> Row:
            return {**old, **{name: old[name] + more[name] for name in _SUMS}}

        yield from tx.upsert("daily_figures", key, {"tenant": key[0], "day": key[1], **more}, added)
