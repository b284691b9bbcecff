"""Each kind of damage to the data is found, as what it is and as nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from faults.history.check import Damage, check
from faults.history.facts import Delivery, Event, Facts, Review
from faults.history.payments import payment_id
from faults.history.planted import (
    Day,
    cut,
    deliveries,
    drop_payment,
    moved,
    put,
    retold,
    row,
    sale,
    stray,
    transition,
    undone,
    with_event,
    without,
)

from peakclip.audit.facts import Payment, RateLimit

EFFECTS = ("audit", "notify-customer")

DAMAGES: dict[str, tuple[Callable[[Day, Facts], Facts], Damage, Callable[[Day], str]]] = {
    "an order": (lambda day, facts: without(facts, day.placed), Damage.LOST, lambda day: day.placed),
    "an order of which only its event is left": (
        lambda day, facts: sale(without(facts, day.silent), reserved=0, available=2),
        Damage.LOST,
        lambda day: day.silent,
    ),
    "a transition": (
        lambda day, facts: undone(row(facts, day.taken, status="created", version=1), f"{day.taken}:2"),
        Damage.LOST,
        lambda day: day.taken,
    ),
    "an event": (lambda day, facts: cut(facts, f"{day.late}:1"), Damage.LOST, lambda day: day.late),
    "the payment that won": (
        lambda day, facts: drop_payment(facts, payment_id("t", day.paid, "a"), "payment"),
        Damage.LOST,
        lambda day: day.paid,
    ),
    "a payment that lost, with its refund": (
        lambda day, facts: drop_payment(facts, payment_id("t", day.late, "a"), "payment", "refund"),
        Damage.LOST,
        lambda day: day.late,
    ),
    "a reply": (
        lambda day, facts: replace(facts, reviews=(replace(facts.reviews[0], replied=False),)),
        Damage.LOST,
        lambda day: day.walk,
    ),
    "a row": (
        lambda day, facts: replace(
            facts, orders=(*facts.orders, next(o for o in facts.orders if o.order_id == day.placed))
        ),
        Damage.DUPLICATED,
        lambda day: day.placed,
    ),
    "the unit of an order": (
        lambda day, facts: sale(
            row(facts, day.silent, quantity=2, amount_cents=200), available=0, reserved=2, per_customer_limit=3
        ),
        Damage.DUPLICATED,
        lambda day: day.silent,
    ),
    "a payment": (
        lambda day, facts: replace(facts, payments=(*facts.payments, facts.payments[0])),
        Damage.DUPLICATED,
        lambda day: payment_id("t", day.paid, "a"),
    ),
    "an effect": (
        lambda day, facts: replace(facts, effects={**facts.effects, f"{day.late}:1": ("audit", *EFFECTS)}),
        Damage.DUPLICATED,
        lambda day: f"{day.late}:1",
    ),
    "an event in the stream": (
        lambda day, facts: replace(facts, events=(*facts.events, replace(facts.events[0], seq=99))),
        Damage.DUPLICATED,
        lambda day: f"{day.paid}:1",
    ),
    "a notification": (
        lambda day, facts: replace(facts, notifications=(*facts.notifications, facts.notifications[0])),
        Damage.DUPLICATED,
        lambda day: f"{day.paid}:1",
    ),
    "a webhook under another key": (
        lambda day, facts: replace(
            facts, deliveries=(*(facts.deliveries or ()), replace((facts.deliveries or ())[0], delivery_id="w"))
        ),
        Damage.DUPLICATED,
        lambda day: "w",
    ),
    "an order that nobody asked for": (
        lambda day, facts: put(facts, stray("x")),
        Damage.EXTRA,
        lambda day: "x",
    ),
    "an order that was refused": (
        lambda day, facts: sale(
            put(
                facts,
                stray(day.refused, sale_id="s", customer_id="dan", status="pending_payment", amount_cents=100),
                "pending_payment",
            ),
            available=0,
            reserved=2,
        ),
        Damage.EXTRA,
        lambda day: day.refused,
    ),
    "an order for somebody else": (
        lambda day, facts: retold(row(facts, day.placed, customer_id="x"), day.placed, user="x"),
        Damage.EXTRA,
        lambda day: day.placed,
    ),
    "a transition that nobody asked for": (
        lambda day, facts: transition(facts, day.placed, "order.accepted", "accepted"),
        Damage.EXTRA,
        lambda day: day.placed,
    ),
    "an event of an order that never was": (
        lambda day, facts: replace(
            facts, events=(*facts.events, Event(99, "x:1", "order.created", "x", 1, "created", 1.0, 1.0))
        ),
        Damage.EXTRA,
        lambda day: "x:1",
    ),
    "a payment that nobody made": (
        lambda day, facts: replace(
            facts,
            payments=(
                *facts.payments, Payment("p", "payment", day.silent, 100), Payment("p", "refund", day.silent, 100)
            ),
        ),
        Damage.EXTRA,
        lambda day: day.silent,
    ),
    "a review that nobody wrote": (
        lambda day, facts: replace(
            facts,
            reviews=(*facts.reviews, Review("r", day.gone)),
            events=(*facts.events, Event(99, "r:created", "review.created", day.gone, None, None, 1.0, 1.0)),
        ),
        Damage.EXTRA,
        lambda day: day.gone,
    ),
    "an effect of nothing": (
        lambda day, facts: replace(facts, effects={**facts.effects, "x:1": ("audit",)}),
        Damage.EXTRA,
        lambda day: "x:1",
    ),
    "a webhook of nothing": (
        lambda day, facts: replace(
            facts, deliveries=(*(facts.deliveries or ()), Delivery("w", "order.paid", "ada", "x", 5_000.0))
        ),
        Damage.EXTRA,
        lambda day: "w",
    ),
    "more sold than there was": (
        lambda day, facts: sale(facts, initial=1, available=0),
        Damage.OVERSOLD,
        lambda day: "s",
    ),
    "more on offer than there is": (
        lambda day, facts: replace(facts, counters={"s": 2}),
        Damage.OVERSOLD,
        lambda day: "s",
    ),
    "a unit that did not come back": (
        lambda day, facts: replace(facts, counters={"s": 0}),
        Damage.UNDERSOLD,
        lambda day: "s",
    ),
    "a unit that nobody has": (
        lambda day, facts: sale(facts, available=0),
        Damage.UNDERSOLD,
        lambda day: "s",
    ),
    "events in the wrong order": (
        lambda day, facts: moved(facts, f"{day.walk}:5", f"{day.walk}:4"),
        Damage.MISORDERED,
        lambda day: day.walk,
    ),
    "a life that no order has": (
        lambda day, facts: with_event(facts, f"{day.walk}:4", status="created"),
        Damage.MISORDERED,
        lambda day: day.walk,
    ),
    "a row that is not what its last event says": (
        lambda day, facts: with_event(facts, f"{day.placed}:1", status="pending_payment"),
        Damage.MISORDERED,
        lambda day: day.placed,
    ),
    "told before it happened": (
        lambda day, facts: replace(
            facts, notifications=(replace(facts.notifications[0], at=1.0), *facts.notifications[1:])
        ),
        Damage.MISORDERED,
        lambda day: f"{day.paid}:1",
    ),
    "a webhook before it happened": (
        lambda day, facts: deliveries(
            facts, lambda one: replace(one, at=1.0) if one.delivery_id == f"w-{day.late}:2" else one
        ),
        Damage.MISORDERED,
        lambda day: f"{day.late}:2",
    ),
    "expired before its time": (
        lambda day, facts: row(facts, day.late, cancelled_at=1.0),
        Damage.MISORDERED,
        lambda day: day.late,
    ),
    "more than a customer may have": (
        lambda day, facts: sale(facts, per_customer_limit=1),
        Damage.LIMIT,
        lambda day: "s",
    ),
    "more starts than the rate allows": (
        lambda day, facts: replace(facts, rate=RateLimit(1.0, 0)),
        Damage.RATE,
        lambda day: "",
    ),
    "paid, and expired": (
        lambda day, facts: drop_payment(facts, payment_id("t", day.late, "a"), "refund"),
        Damage.TWO_WINNERS,
        lambda day: day.late,
    ),
    "paid, and cancelled": (
        lambda day, facts: drop_payment(facts, payment_id("t", day.gone, None), "refund"),
        Damage.TWO_WINNERS,
        lambda day: day.gone,
    ),
    "paid twice": (
        lambda day, facts: drop_payment(facts, payment_id("t", day.paid, "b"), "refund"),
        Damage.TWO_WINNERS,
        lambda day: day.paid,
    ),
    "paid after the deadline": (
        lambda day, facts: row(facts, day.paid, expires_at=1_000.0),
        Damage.TWO_WINNERS,
        lambda day: day.paid,
    ),
    "no effect": (
        lambda day, facts: replace(facts, effects={**facts.effects, f"{day.late}:1": ("notify-customer",)}),
        Damage.EFFECT_MISSING,
        lambda day: f"{day.late}:1",
    ),
    "no notification": (
        lambda day, facts: replace(
            facts,
            notifications=facts.notifications[1:],
            deliveries=(facts.deliveries or ())[1:],
        ),
        Damage.EFFECT_MISSING,
        lambda day: f"{day.paid}:1",
    ),
    "in the line again": (
        lambda day, facts: replace(facts, line=(*facts.line, replace(facts.line[0], seq=99))),
        Damage.DUPLICATED,
        lambda day: day.paid,
    ),
    "a webhook with the content of another": (
        lambda day, facts: deliveries(
            facts, lambda one: replace(one, subject=day.paid) if one.delivery_id == f"w-{day.late}:2" else one
        ),
        Damage.WRONG,
        lambda day: f"{day.late}:2",
    ),
    "a webhook to somebody else": (
        lambda day, facts: deliveries(
            facts, lambda one: replace(one, user="ada") if one.delivery_id == f"w-{day.late}:2" else one
        ),
        Damage.WRONG,
        lambda day: f"{day.late}:2",
    ),
    "a webhook that comes again with another content": (
        lambda day, facts: replace(
            facts,
            deliveries=(
                *(facts.deliveries or ()), replace((facts.deliveries or ())[0], kind="order.cancelled")
            ),
        ),
        Damage.WRONG,
        lambda day: f"{day.paid}:1",
    ),
    "a notification to somebody else": (
        lambda day, facts: retold(facts, day.placed, user="x"),
        Damage.WRONG,
        lambda day: f"{day.placed}:1",
    ),
    "a notification of something else": (
        lambda day, facts: retold(facts, day.placed, kind="order.paid"),
        Damage.WRONG,
        lambda day: f"{day.placed}:1",
    ),
    "no webhook": (
        lambda day, facts: deliveries(
            facts, lambda one: None if one.delivery_id == f"w-{day.late}:2" else one
        ),
        Damage.EFFECT_MISSING,
        lambda day: f"{day.late}:2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_as_what_it_is(name: str) -> None:
    do, damage, subject = DAMAGES[name]
    day = Day()
    findings = check(day.history, do(day, day.facts()), overtaking=False)
    print(*findings, sep="\n")
    assert [(one.damage, (*one.subjects, "")[0]) for one in findings] == [(damage, subject(day))]
    assert findings[0].evidence
