"""Facts with one thing wrong in them, and a day to plant it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from faults.history.facts import Delivery, Event, Facts
from faults.history.flawless import Flawless
from faults.history.record import Kind

from peakclip.audit.facts import OrderRow


class Day(Flawless):
    """Three units: one paid for, one expired and paid for too late, one whose buyer never learnt of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.paid = self.purchase("paid")
        self.late = self.purchase("late", "bob")
        self.silent = self.purchase("silent", answer="open")
        self.refused = self.purchase("refused", "dan")
        self.never = self.purchase("never", "eve", answer="unsent")
        self.purchase("paid")  # again, with the same key
        self.act(Kind.PAY, self.paid, "a", "lost")
        self.act(Kind.PAY, self.paid, "a")
        self.act(Kind.PAY, self.paid, "b")  # a second one is given back
        self.expire(self.late)
        self.act(Kind.PAY, self.late, "a")
        self.walk = self.order("walk", "fay")
        for kind in (Kind.ACCEPT, Kind.PAY, Kind.START, Kind.COMPLETE):
            self.act(kind, self.walk)
            self.read(self.walk)
        self.act(Kind.CANCEL, self.walk)  # too late
        self.review(self.walk, "r")
        self.review(self.walk, "rr", kind=Kind.REPLY)
        self.gone = self.order("gone", "fay")
        self.act(Kind.PAY, self.gone)
        self.act(Kind.CANCEL, self.gone, answer="lost")
        self.placed = self.order("placed", "gus")
        self.taken = self.order("taken", "gus")
        self.act(Kind.ACCEPT, self.taken, "k")


def row(facts: Facts, order_id: str, **changes: object) -> Facts:
    orders = [
        replace(one, **changes) if one.order_id == order_id else one  # type: ignore[arg-type]
        for one in facts.orders
    ]
    return replace(facts, orders=tuple(orders))


def without(facts: Facts, order_id: str) -> Facts:
    return replace(facts, orders=tuple(one for one in facts.orders if one.order_id != order_id))


def with_event(facts: Facts, event_id: str, **changes: object) -> Facts:
    events = [
        replace(one, **changes) if one.event_id == event_id else one  # type: ignore[arg-type]
        for one in facts.events
    ]
    return replace(facts, events=tuple(events))


def cut(facts: Facts, event_id: str) -> Facts:
    return replace(facts, events=tuple(one for one in facts.events if one.event_id != event_id))


def undone(facts: Facts, event_id: str) -> Facts:
    """The event with all that followed from it."""
    facts = deliveries(cut(facts, event_id), lambda one: None if one.delivery_id == f"w-{event_id}" else one)
    return replace(
        facts,
        effects={one: had for one, had in facts.effects.items() if one != event_id},
        notifications=tuple(one for one in facts.notifications if one.event_id != event_id),
    )


def moved(facts: Facts, event_id: str, before: str) -> Facts:
    events = [one for one in facts.events if one.event_id != event_id]
    (moving,) = [one for one in facts.events if one.event_id == event_id]
    place = [one.event_id for one in events].index(before)
    return replace(facts, events=(*events[:place], moving, *events[place:]))


def transition(facts: Facts, order_id: str, subject: str, status: str, **changes: object) -> Facts:
    """As if it had happened, with all that belongs to it."""
    (order,) = [one for one in facts.orders if one.order_id == order_id]
    event_id = f"{order_id}:{order.version + 1}"
    event = Event(99, event_id, subject, order_id, order.version + 1, status, 5_000.0, 5_000.0)
    facts = row(facts, order_id, status=status, version=order.version + 1, **changes)
    return replace(facts, events=(*facts.events, event))


def put(facts: Facts, order: OrderRow, status: str = "created") -> Facts:
    event = Event(99, f"{order.order_id}:1", "order.created", order.order_id, 1, status, 5_000.0, 5_000.0)
    return replace(facts, orders=(*facts.orders, order), events=(*facts.events, event))


def drop_payment(facts: Facts, payment_id: str, *kinds: str) -> Facts:
    kept = [
        one for one in facts.payments if (one.payment_id, one.kind) not in [(payment_id, k) for k in kinds]
    ]
    return replace(facts, payments=tuple(kept))


def sale(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, sales=(replace(facts.sales[0], **changes),), counters={})


def deliveries(facts: Facts, change: Callable[[Delivery], Delivery | None]) -> Facts:
    kept = [one for one in map(change, facts.deliveries or ()) if one is not None]
    return replace(facts, deliveries=tuple(kept))


def retold(facts: Facts, order_id: str, **changes: Any) -> Facts:
    """Whoever is told of the order, with their webhooks: `user` or `kind`."""
    told = [
        replace(one, **changes) if one.event_id.startswith(f"{order_id}:") else one
        for one in facts.notifications
    ]
    facts = deliveries(facts, lambda one: replace(one, **changes) if one.subject == order_id else one)
    return replace(facts, notifications=tuple(told))


def stray(order_id: str, **changes: object) -> OrderRow:
    order = OrderRow(order_id, "t", "x", None, 1, "created", 5_000.0, None, in_line=False)
    return replace(order, **changes)  # type: ignore[arg-type]
