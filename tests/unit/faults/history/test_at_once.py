"""Units that were held at the same time, though in the end there is nothing to be seen of it."""

from __future__ import annotations

from faults.history.check import Damage, check
from faults.history.facts import Facts
from faults.history.flawless import Flawless
from faults.history.planted import row, with_event
from faults.history.record import Kind


def found(day: Flawless, facts: Facts, stock: int | None = 1) -> list[tuple[Damage, tuple[str, ...]]]:
    findings = check(day.history, facts, overtaking=False, stocks=None if stock is None else {"s": stock})
    print(*findings, sep="\n")
    return [(one.damage, one.subjects) for one in findings]


def handed_on(buyer: str) -> tuple[Flawless, str, str]:
    """One unit: cancelled by the first, bought by the second, cancelled again."""
    day = Flawless(stock=1, limit=1)
    first = day.purchase("first", "ada")
    day.act(Kind.CANCEL, first)
    second = day.purchase("second", buyer)
    day.act(Kind.CANCEL, second)
    return day, first, second


def test_a_unit_that_goes_from_hand_to_hand_is_sold_once_at_a_time() -> None:
    day, first, second = handed_on("ada")
    assert found(day, day.facts()) == []
    bought = next(event.at for event in day.events if event.event_id == f"{second}:1")
    assert found(day, row(day.facts(), first, cancelled_at=bought)) == [], "in the same moment"


def test_more_units_at_once_than_there_are() -> None:
    day, first, _ = handed_on("bob")
    facts = row(day.facts(), first, cancelled_at=day.now)
    assert found(day, facts) == [(Damage.OVERSOLD, ("s",))]
    assert found(day, facts, stock=2) == [], "it had more once"
    assert found(day, facts, stock=None) == [], "nobody knows"


def test_more_units_at_once_than_a_customer_may_have() -> None:
    day, first, second = handed_on("ada")
    facts = row(day.facts(), first, cancelled_at=day.now)
    assert found(day, facts, stock=2) == [(Damage.LIMIT, ("s", "ada"))]
    facts = with_event(facts, f"{second}:1", status="rejected")
    assert (Damage.LIMIT, ("s", "ada")) not in found(day, facts, stock=2), "it never held one"
