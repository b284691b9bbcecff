"""What clients were told, beside what there is: broken promises are found, and what may be is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from faults.history.check import Damage, check
from faults.history.facts import Facts
from faults.history.flawless import Flawless
from faults.history.planted import Day, deliveries, moved, sale, transition, undone, with_event, without
from faults.history.record import Kind

from peakclip.audit.facts import DeadLetter, Dropped


def found(day: Flawless, facts: Facts | None = None, **options: object) -> list[tuple[Damage, str]]:
    findings = check(day.history, day.facts() if facts is None else facts, **{"overtaking": False, **options})  # type: ignore[arg-type]
    for one in findings:
        print(one)
        assert one.evidence
    return [(one.damage, (*one.subjects, "")[0]) for one in findings]


def test_a_good_day_has_no_finding() -> None:
    assert found(Day()) == []
    assert found(Flawless()) == []


def test_a_dead_letter_is_not_lost_and_keeps_its_unit() -> None:
    day = Day()
    facts = sale(undone(without(day.facts(), day.silent), f"{day.silent}:1"), available=2, reserved=0)
    order = day.purchase("set aside", "zoe")
    facts = replace(facts, counters={"s": 1})
    assert found(day, facts) == [(Damage.LOST, order), (Damage.UNDERSOLD, "s")]
    letter = DeadLetter("m", "orders", "broken", 3, (order,), ((order, "s", 1),))
    assert found(day, replace(facts, dead_letters=(letter,))) == []
    dropped = replace(facts, dropped=(Dropped("m", (order,)),), counters={"s": 2})
    assert found(day, dropped) == [], "given up on purpose, with its unit"


def test_what_follows_from_an_event_may_be_a_dead_letter() -> None:
    day = Day()
    facts = day.facts()
    event_id, delivery = f"{day.late}:2", f"w-{day.late}:1"
    facts = replace(facts, effects={**facts.effects, event_id: ("notify-customer",)})
    facts = deliveries(facts, lambda one: None if one.delivery_id == delivery else one)
    assert found(day, facts) == [(Damage.EFFECT_MISSING, event_id), (Damage.EFFECT_MISSING, f"{day.late}:1")]
    letters = (DeadLetter(event_id, "effects", "c", 3), DeadLetter(f"delivery:{delivery}", "webhook", "c", 3))
    assert found(day, replace(facts, dead_letters=letters)) == []


def test_who_listens_is_owed_a_webhook_of_everything() -> None:
    day = Day()
    facts = day.facts()
    event_id = f"{day.late}:2"
    told = [replace(one, webhook=None) if one.event_id == event_id else one for one in facts.notifications]
    facts = deliveries(
        replace(facts, notifications=tuple(told)),
        lambda one: None if one.delivery_id == f"w-{event_id}" else one,
    )
    assert found(day, facts, listeners=["ada"]) == [], "bob has no webhook"
    assert found(day, facts, listeners=["ada", "bob"]) == [(Damage.EFFECT_MISSING, event_id)]
    assert found(day, replace(facts, deliveries=None), listeners=["bob"]) == [], "nobody received"
    assert found(day, day.facts(), listeners=["ada", "bob"]) == []


def test_nobody_listened_and_events_were_purged() -> None:
    day = Day()
    facts = replace(day.facts(), deliveries=None, events=day.facts().events[7:], events_complete=False)
    assert found(day, facts) == []


def test_buyers_who_keep_trying_get_the_last_unit() -> None:
    day = Day()
    assert found(day, kept_trying={"s"}) == [(Damage.UNDERSOLD, "s")], "one is on offer"
    day.purchase("the last", "zoe")
    assert found(day, kept_trying={"s"}) == []


def test_a_later_event_may_be_allowed_to_overtake() -> None:
    day = Day()
    facts = moved(day.facts(), f"{day.walk}:5", f"{day.walk}:4")
    assert found(day, facts, overtaking=True) == []
    facts = with_event(facts, f"{day.walk}:4", status="created")
    assert found(day, facts, overtaking=True) == [(Damage.MISORDERED, day.walk)]


def test_an_event_may_come_again_when_the_broker_has_forgotten_it() -> None:
    day = Day()
    facts = day.facts()
    again = replace(facts.events[0], seq=99, stored_at=facts.events[0].stored_at + 121)
    assert found(day, replace(facts, events=(*facts.events, again))) == []


def test_an_order_may_stand_in_the_line_once_for_each_frame() -> None:
    day = Day()
    facts = day.facts()
    first = facts.line[0]
    admitted_twice = replace(first, seq=98, frame="another")
    forgotten = replace(first, seq=99, stored_at=first.stored_at + 121)
    assert found(day, replace(facts, line=(*facts.line, admitted_twice, forgotten))) == []


# -- what clients were told ------------------------------------------------------------------------------


def test_one_key_is_one_order() -> None:
    day = Day()
    day.history.ok(day.history.invoke(Kind.ORDER, key="placed", customer="gus"), day.walk, "created")
    assert found(day) == [(Damage.DUPLICATED, day.placed)]


def test_an_answer_is_not_older_than_what_was_known_when_it_was_asked_for() -> None:
    day = Day()
    early = day.history.invoke(Kind.READ, order_id=day.placed)
    day.act(Kind.ACCEPT, day.placed, "k")
    late = day.history.invoke(Kind.READ, order_id=day.placed)
    day.history.ok(early, day.placed, "created")  # the two have crossed each other
    assert found(day) == []
    day.history.ok(late, day.placed, "created")
    assert found(day) == [(Damage.MISORDERED, day.placed)]


def test_an_order_that_was_acknowledged_is_known_everywhere() -> None:
    day = Day()
    day.history.refused(day.history.invoke(Kind.READ, order_id=day.placed), "order-not-found")
    day.history.refused(day.history.invoke(Kind.PURCHASE, key="paid", customer="ada", sale="s"), "sold-out")
    assert found(day) == [(Damage.MISORDERED, day.placed), (Damage.MISORDERED, day.paid)]


@pytest.mark.parametrize(("kind", "status"), [(Kind.READ, "created"), (Kind.PAY, "paid")])
def test_an_answer_is_about_the_order_that_was_asked_about(kind: Kind, status: str) -> None:
    day = Day()
    subject = day.placed if kind is Kind.READ else day.paid
    attempt = day.history.invoke(kind, order_id=subject, key=None if kind is Kind.READ else "a")
    day.history.ok(attempt, day.gone, status)
    assert found(day) == [(Damage.WRONG, subject)]


def retried(day: Day, problem: str, after: float, *, known: bool) -> str:
    """The first request was lost on its way back, the second refused; `known`: what became of each is on record."""
    order = day.purchase("again", "zoe", answer="open")
    day.now += after
    if known:
        attempt = day.history.invoke(Kind.PURCHASE, key="again", customer="zoe", sale="s")
        day.history.refused(attempt, problem)
    else:
        day.history.unknown(day.history.entries[-1].attempt, "again", problem=problem, asked=day.now)
    return order


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("problem", ["sold-out", "limit-reached", "sale-closed"])
def test_who_has_bought_is_never_told_no(problem: str, known: bool) -> None:
    day = Day()
    order = retried(day, problem, 3.0, known=known)
    assert found(day) == [(Damage.MISORDERED, order)]
    assert found(day, without(undone(day.facts(), f"{order}:1"), order))[0][0] != Damage.MISORDERED


@pytest.mark.parametrize("known", [False, True])
def test_while_it_is_being_stored_it_may_be_refused_elsewhere(known: bool) -> None:
    day = Day()
    retried(day, "sold-out", 0.1, known=known)
    assert found(day) == []
    day = Day()
    retried(day, "idempotency-key-reused", 3.0, known=known)
    assert found(day) == [], "it was asked for with another content"


def test_an_order_is_known_as_soon_as_it_stands_in_line() -> None:
    """Its row and its event come later."""
    day = Day()
    order = retried(day, "sold-out", 3.0, known=True)
    facts = with_event(day.facts(), f"{order}:1", stored_at=day.now + 60.0)
    assert found(day, facts) == [(Damage.MISORDERED, order)]
    assert found(day, replace(facts, line=())) == []


def test_what_was_told_can_become_what_is() -> None:
    day = Day()
    day.history.ok(day.history.invoke(Kind.READ, order_id=day.placed), day.placed, "started")
    assert found(day) == [(Damage.MISORDERED, day.placed)]


def test_a_transition_of_nothing_was_acknowledged() -> None:
    day = Day()
    day.history.ok(day.history.invoke(Kind.ACCEPT, order_id="x"), "x", "accepted")
    assert found(day) == [(Damage.LOST, "x")]


def test_a_transition_that_was_refused_does_not_happen() -> None:
    day = Day()
    facts = transition(day.facts(), day.placed, "order.accepted", "accepted")
    attempt = day.history.invoke(Kind.ACCEPT, order_id=day.placed, key="k")
    assert found(day, facts) == [], "it may have happened"
    day.history.refused(attempt, "illegal-transition")
    assert found(day, facts) == [(Damage.EXTRA, day.placed)]
