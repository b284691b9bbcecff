"""Data that contradicts itself, whatever anybody was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from faults.history.check import Damage, check
from faults.history.facts import Event, Facts, Notification
from faults.history.payments import payment_id
from faults.history.planted import Day, drop_payment, retold, row, sale

from peakclip.audit.facts import Payment

CONTRADICTIONS: dict[str, tuple[Callable[[Day, Facts], Facts], Damage, Callable[[Day], str]]] = {
    "fewer units than asked for": (
        lambda day, facts: sale(row(facts, day.silent, quantity=0, amount_cents=0), available=2, reserved=0),
        Damage.LOST,
        lambda day: day.silent,
    ),
    "a rejection without a reason": (
        lambda day, facts: replace(
            retold(
                sale(row(facts, day.silent, status="rejected"), available=2, reserved=0),
                day.silent,
                kind="order.rejected",
            ),
            events=tuple(
                replace(one, subject="order.rejected", status="rejected")
                if one.order_id == day.silent
                else one
                for one in facts.events
            ),
        ),
        Damage.LOST,
        lambda day: day.silent,
    ),
    "a sale that is not there": (lambda day, facts: replace(facts, sales=()), Damage.LOST, lambda day: "s"),
    "two reviews": (
        lambda day, facts: replace(facts, reviews=(*facts.reviews, facts.reviews[0])),
        Damage.DUPLICATED,
        lambda day: day.walk,
    ),
    "a refund without a payment": (
        lambda day, facts: drop_payment(facts, payment_id("t", day.paid, "b"), "payment"),
        Damage.EXTRA,
        lambda day: day.paid,
    ),
    "a payment that won and is given back": (
        lambda day, facts: replace(
            facts,
            payments=(*facts.payments, Payment(payment_id("t", day.paid, "a"), "refund", day.paid, 100)),
        ),
        Damage.TWO_WINNERS,
        lambda day: day.paid,
    ),
    "a sale that counts fewer units than its orders": (
        lambda day, facts: sale(facts, reserved=0),
        Damage.OVERSOLD,
        lambda day: "s",
    ),
    "a sale that counts more units than its orders": (
        lambda day, facts: sale(facts, sold=2),
        Damage.UNDERSOLD,
        lambda day: "s",
    ),
    "an event beyond its order's version": (
        lambda day, facts: replace(
            facts,
            events=(
                *facts.events,
                Event(99, f"{day.silent}:2", "order.paid", day.silent, 2, "paid", 5_000.0, 5_000.0),
            ),
        ),
        Damage.EXTRA,
        lambda day: f"{day.silent}:2",
    ),
    "an effect that its event does not call for": (
        lambda day, facts: replace(
            facts,
            effects={**facts.effects, f"{day.late}:1": ("audit", "notify-customer", "ticket")},
        ),
        Damage.EXTRA,
        lambda day: f"{day.late}:1",
    ),
    "a notification of what never was": (
        lambda day, facts: replace(
            facts,
            notifications=(
                *facts.notifications,
                Notification("x:1", "customer", "ada", "order.paid", 5_000.0),
            ),
        ),
        Damage.EXTRA,
        lambda day: "x:1",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_found_as_what_it_is(name: str) -> None:
    do, damage, subject = CONTRADICTIONS[name]
    day = Day()
    findings = check(day.history, do(day, day.facts()), overtaking=False)
    print(*findings, sep="\n")
    assert [(one.damage, one.subjects[0]) for one in findings] == [(damage, subject(day))]
