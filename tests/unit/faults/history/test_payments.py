"""Which payment wins, who is told so, and what for: each by its name."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from faults.history.check import Damage, check
from faults.history.facts import Facts
from faults.history.flawless import Flawless
from faults.history.payments import payment_id
from faults.history.planted import Day, drop_payment, row
from faults.history.record import Kind

from peakclip.audit.facts import Payment
from peakclip_api.routes import transitions as api


def found(day: Flawless, facts: Facts | None = None) -> list[tuple[Damage, str]]:
    findings = check(day.history, day.facts() if facts is None else facts, overtaking=False)
    print(*findings, sep="\n")
    assert all(one.evidence for one in findings)
    return [(one.damage, one.subjects[0]) for one in findings]


def both(named: str, order_id: str) -> tuple[Payment, Payment]:
    return Payment(named, "payment", order_id, 100), Payment(named, "refund", order_id, 100)


def told(
    day: Day, order_id: str, key: str | None, refunded: bool, problem: str = "illegal-transition"
) -> None:
    attempt = day.history.invoke(Kind.PAY, order_id=order_id, key=key)
    day.history.refused(attempt, problem, refunded=refunded)


def test_names_are_those_of_the_api() -> None:
    assert str(uuid.uuid5(api._PAYMENTS, "t\0o\0k")) == payment_id("t", "o", "k")
    assert str(uuid.uuid5(api._PAYMENTS, "t\0o")) == payment_id("t", "o", None)


def test_payment_and_expiry_have_one_winner_who_is_told_so() -> None:
    day = Day()
    day.history.ok(day.history.invoke(Kind.PAY, order_id=day.late, key="z"), day.late, "paid")
    assert (Damage.TWO_WINNERS, day.late) in found(day)
    day = Day()
    day.history.ok(day.history.invoke(Kind.PAY, order_id=day.paid, key="b"), day.paid, "paid")
    assert found(day) == [(Damage.TWO_WINNERS, day.paid)]


def test_a_payment_that_nobody_knows_of_happens_once_at_most() -> None:
    day = Day()
    attempt = day.history.invoke(Kind.PAY, order_id=day.silent, key="k")
    day.history.unknown(attempt, "timeout")
    assert found(day) == []
    once = both(payment_id("t", day.silent, "k"), day.silent)
    facts = replace(day.facts(), payments=(*day.facts().payments, *once))
    assert found(day, facts) == []
    twice = both("q", day.silent)
    assert found(day, replace(facts, payments=(*facts.payments, *twice))) == [(Damage.EXTRA, day.silent)]


def test_a_payment_that_was_made_is_one_that_somebody_asked_for() -> None:
    """As many as were asked for, and not those."""
    day = Day()
    facts = drop_payment(day.facts(), payment_id("t", day.paid, "b"), "payment", "refund")
    facts = replace(facts, payments=(*facts.payments, *both("q", day.paid)))
    assert found(day, facts) == [(Damage.EXTRA, day.paid), (Damage.LOST, day.paid)]


def test_the_payment_that_won_is_the_one_whose_customer_was_told_so() -> None:
    day = Day()
    first, second = (payment_id("t", day.paid, key) for key in "ab")
    other = {first: second, second: first}
    payments = [
        replace(one, payment_id=other.get(one.payment_id, one.payment_id)) for one in day.facts().payments
    ]
    facts = row(replace(day.facts(), payments=tuple(payments)), day.paid, payment_id=second)
    assert found(day, facts) == [(Damage.TWO_WINNERS, day.paid)] * 2, "one was told yes, the other no"


def test_a_payment_that_won_is_never_told_no() -> None:
    day = Day()
    told(day, day.paid, "a", refunded=True)
    assert found(day) == [(Damage.TWO_WINNERS, day.paid)]
    day = Day()
    told(day, day.paid, "a", refunded=False)
    assert found(day) == [(Damage.MISORDERED, day.paid)]


@pytest.mark.parametrize(("refunded", "problem"), [(True, "illegal-transition"), (False, "order-not-found")])
def test_a_payment_in_time_that_nothing_is_in_the_way_of_is_not_refused(refunded: bool, problem: str) -> None:
    day = Day()
    buyer = day.purchase("in time", "zoe")
    day.now += 3.0
    told(day, buyer, "k", refunded, problem)
    facts = day.facts()
    facts = replace(facts, payments=(*facts.payments, *(both(payment_id("t", buyer, "k"), buyer) * refunded)))
    assert found(day, facts) == [(Damage.MISORDERED, buyer)]


def test_a_payment_may_be_refused_while_its_order_stands_in_line_and_from_the_deadline_on() -> None:
    day = Day()
    buyer = day.purchase("in time", "zoe")
    told(day, buyer, "early", refunded=False)  # asked within the margin: the order may not have been there
    assert found(day) == []
    day.now += 59.0
    told(day, buyer, "late", refunded=True)
    facts = day.facts()
    facts = replace(facts, payments=(*facts.payments, *both(payment_id("t", buyer, "late"), buyer)))
    assert found(day, facts) == []


@pytest.mark.parametrize("kind", ["payment", "refund"])
def test_a_payment_is_of_what_the_order_costs(kind: str) -> None:
    day = Day()
    payments = [
        replace(one, amount_cents=1) if (one.order_id, one.kind) == (day.gone, kind) else one
        for one in day.facts().payments
    ]
    assert found(day, replace(day.facts(), payments=tuple(payments))) == [(Damage.WRONG, day.gone)]


def test_an_order_costs_what_its_units_cost() -> None:
    day = Day()
    facts = row(day.facts(), day.silent, amount_cents=99)
    assert found(day, facts) == [(Damage.WRONG, day.silent)]
    assert found(day, replace(facts, prices={})) == [], "nobody knows the price"
