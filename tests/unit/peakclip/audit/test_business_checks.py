"""Payments, effects and returned units: sound facts pass, and every kind of damage is named with its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from peakclip.audit.checks import judge
from peakclip.audit.events import read_event, transition_of
from peakclip.audit.facts import (
    DeadLetter,
    Dropped,
    Event,
    EventLog,
    Facts,
    Movement,
    Offer,
    OrderRow,
    Payment,
    SaleRow,
    Sum,
)
from peakclip.audit.result import AuditResult

DUE = 1_800_000_100.0
OTHER_AMOUNT = "refunds of another amount or order than their payment"
OWED = "payments that lost, or of cancelled orders, without a refund"
BASELESS = "units returned for an order that does not explain them"
NO_WINNER = "paid orders without the one payment that won"
EFFECTS = ("audit", "notify-customer")


def order(order_id: str, **changes: Any) -> OrderRow:
    sound = OrderRow(order_id, "t", "c", "sale", 1, "pending_payment", 1_800_000_000.0, None, expires_at=DUE)
    return replace(sound, **changes)


def sound() -> Facts:
    """Four orders of a sale: unpaid, paid, paid and then cancelled, expired after a payment that came too late."""
    orders = (
        order("new"),
        order("paid", status="paid", version=2, paid_at=DUE - 1, payment_id="p1", amount_cents=5),
        order(
            "back", status="cancelled", reason="cancelled-by-customer", version=3, quantity=2,
            paid_at=DUE - 2, cancelled_at=DUE + 50, payment_id="p2", amount_cents=7,
        ),
        order("late", status="cancelled", reason="expired", version=2, cancelled_at=DUE),
    )  # fmt: skip
    ids = [f"{one.order_id}:{version}" for one in orders for version in range(1, one.version + 1)]
    events = tuple(Event(seq, i, i, frozenset(EFFECTS)) for seq, i in enumerate(ids, start=1))
    return Facts(
        orders=orders,
        sales=(SaleRow("sale", 9, 7, 1, 1, per_customer_limit=9),),
        payments=(
            Payment("p1", "payment", "paid", 5),
            Payment("p2", "payment", "back", 7),
            Payment("p2", "refund", "back", 7),
            Payment("p3", "payment", "late", 5),
            Payment("p3", "refund", "late", 5),
        ),
        effects=dict.fromkeys(ids, EFFECTS),
        sums=(Sum("figures of t, 2027-01-15: orders", 4, 4),),
        log=EventLog(events, finished_through=len(ids)),
        offer=Offer(
            (Movement("init-sale", "sale", 9), Movement("c-back", "sale", 2), Movement("x-late", "sale", 1))
        ),
        counters={"sale": 7},
        accepted=dict.fromkeys(one.order_id for one in orders),
        at_rest=True,
    )


def messages(result: AuditResult) -> list[tuple[int, str]]:
    return [(violation.invariant, violation.message) for violation in result.violations]


def changed(order_id: str, **changes: Any) -> Facts:
    facts = sound()
    orders = tuple(replace(o, **changes) if o.order_id == order_id else o for o in facts.orders)
    return replace(facts, orders=orders)


def test_sound_facts_violate_nothing() -> None:
    result = judge(sound())
    assert result.violations == []
    details = {check.name: check.detail for check in result.checks}
    assert details["payment against expiry"] == "3 payments, 2 refunds, 2 orders that were paid"
    assert (
        details["effects happen once"] == "16 effects of 8 events, 0 events not finished, 1 sums counted anew"
    )
    assert details["returned units"] == "3 units of cancelled orders, 3 returned"


# -- 4: payments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payments", "message", "ids"),
    [
        ({"p2 refund": None}, OWED, ["p2"]),
        ({"p3 refund": None}, OWED, ["p3"]),
        ({"p3 payment": None}, "refunds without a payment", ["p3"]),
        ({"p1 refund": Payment("p1", "refund", "paid", 5)}, NO_WINNER, ["p1"]),
        ({"p1 payment": None}, NO_WINNER, ["p1"]),
        ({"p2 refund": Payment("p2", "refund", "back", 6)}, OTHER_AMOUNT, ["p2"]),
        ({"p3 refund": Payment("p3", "refund", "new", 5)}, OTHER_AMOUNT, ["p3"]),
        ({"again": Payment("p2", "refund", "back", 7)}, "a payment or a refund twice", ["p2"]),
        ({"stray": Payment("p9", "payment", "nobody", 5)}, OWED, ["p9"]),
    ],
)  # fmt: skip
def test_money_that_is_kept_lost_or_doubled(payments: dict[str, Any], message: str, ids: list[str]) -> None:
    facts = sound()
    rows = {f"{one.payment_id} {one.kind}": one for one in facts.payments} | payments
    result = judge(replace(facts, payments=tuple(one for one in rows.values() if one is not None)))
    assert messages(result) == [(4, message)]
    assert [found["payment_id"] for found in result.violations[0].rows] == ids


def test_a_second_payment_that_was_not_refunded_is_two_violations() -> None:
    """The order has two payments that stand: it is not clear which won, and one of them is owed."""
    facts = sound()
    result = judge(replace(facts, payments=(*facts.payments, Payment("p9", "payment", "paid", 5))))
    assert messages(result) == [
        (4, NO_WINNER),
        (4, OWED),
    ]
    assert result.violations[0].rows[0]["standing"] == ["p1", "p9"]


@pytest.mark.parametrize(
    ("order_id", "changes", "message"),
    [
        ("paid", {"paid_at": DUE}, "paid too late"),
        ("late", {"cancelled_at": DUE - 0.001}, "expired too early"),
        ("late", {"expires_at": None}, "expired too early"),
        ("back", {"paid_at": None}, "paid and unpaid at once"),
        ("paid", {"status": "pending_payment"}, "paid and unpaid at once"),
        ("new", {"status": "paid"}, "paid and unpaid at once"),
        ("new", {"status": "completed"}, "paid and unpaid at once"),
    ],
)
def test_orders_that_contradict_their_times_or_payments(
    order_id: str, changes: dict[str, Any], message: str
) -> None:
    found = [one for one in judge(changed(order_id, **changes)).violations if one.invariant == 4]
    assert [one.message for one in found] == [message]
    assert found[0].rows[0]["order_id"] == order_id


def test_an_ordinary_order_is_served_before_it_is_paid() -> None:
    facts = changed("new", status="completed", sale_id=None, expires_at=None)
    assert [one for one in judge(facts).violations if one.invariant == 4] == []


# -- 5: events and effects ---------------------------------------------------------------------------------


def without_event(facts: Facts, event_id: str) -> Facts:
    events = tuple(event for event in facts.log.events if event.event_id != event_id)
    effects = {i: had for i, had in facts.effects.items() if i != event_id}
    return replace(facts, log=replace(facts.log, events=events), effects=effects)


def test_a_transition_without_an_event_is_named_at_rest() -> None:
    facts = without_event(sound(), "back:2")
    result = judge(facts)
    assert messages(result) == [(5, "transitions without their event")]
    assert result.violations[0].rows == [{"order_id": "back", "version": 3, "without_event": [2]}]
    assert judge(replace(facts, at_rest=False)).violations == []
    letter = DeadLetter("back:2", "effects", "broken", 3)
    assert judge(replace(facts, dead_letters=(letter,))).violations == []


def test_an_event_that_was_purged_is_known_by_its_effects() -> None:
    facts = sound()
    assert judge(replace(facts, log=EventLog((), finished_through=99))).violations == []


def test_an_event_of_a_transition_that_never_was() -> None:
    result = judge(changed("paid", version=1))
    assert messages(result) == [(5, "events of transitions that never were")]
    assert result.violations[0].rows == [{"order_id": "paid", "version": 1, "events": [2]}]


def test_a_finished_event_without_an_effect() -> None:
    facts = replace(sound(), effects={**sound().effects, "paid:2": ("audit",)})
    result = judge(facts)
    assert messages(result) == [(5, "events that are finished and lack effects")]
    assert result.violations[0].rows == [{"event_id": "paid:2", "seq": 3, "without": ["notify-customer"]}]


@pytest.mark.parametrize(
    "changes",
    [
        {"log": {"finished_through": 2}},
        {"log": {"delayed": frozenset({"paid:2"})}},
        {"dead_letters": (DeadLetter("paid:2", "effects", "broken", 3),)},
        {"dropped": (Dropped("paid:2"),)},
    ],
)
def test_an_event_that_is_not_finished_lacks_nothing(changes: dict[str, Any]) -> None:
    facts = sound()
    facts = replace(facts, effects={i: had for i, had in facts.effects.items() if i != "paid:2"})
    log = replace(facts.log, **changes.pop("log", {}))
    assert judge(replace(facts, log=log, **changes)).violations == []


def test_an_event_whose_next_attempt_is_in_the_stream_lacks_nothing_yet() -> None:
    """The first message is acknowledged, the second is not."""
    facts = sound()
    effects = {i: had for i, had in facts.effects.items() if i != "paid:2"}
    again = Event(99, "paid:2", "paid:2", frozenset(EFFECTS), comes_again=True)
    log = replace(facts.log, events=(*facts.log.events, again))
    assert judge(replace(facts, effects=effects, log=log)).violations == []
    assert judge(replace(facts, effects=effects, log=replace(log, finished_through=99))).violations != []


def test_effects_that_nobody_called_for_and_effects_twice() -> None:
    effects = {**sound().effects, "paid:2": (*EFFECTS, "ticket"), "new:1": (*EFFECTS, "audit")}
    result = judge(replace(sound(), effects=effects))
    assert messages(result) == [
        (5, "effects that their event does not call for"),
        (5, "effects twice"),
    ]
    assert result.violations[0].rows == [{"event_id": "paid:2", "effects": ["ticket"]}]
    assert result.violations[1].rows == [{"event_id": "new:1", "effect": "audit", "times": 2}]


def test_sums_that_are_not_those_of_their_events() -> None:
    result = judge(replace(sound(), sums=(Sum("provider p: rating_sum", 9, 8), Sum("x", 1, 1))))
    assert messages(result) == [(5, "sums that are not those of their events")]
    assert result.violations[0].rows == [{"of": "provider p: rating_sum", "kept": 9, "counted": 8}]


def test_an_unreadable_event_is_a_dead_letter() -> None:
    facts = sound()
    log = replace(facts.log, events=(*facts.log.events, Event(9, "m9", None)), finished_through=9)
    assert messages(judge(replace(facts, log=log))) == [
        (6, "unreadable, taken from the queue, and not among the dead letters")
    ]
    letter = DeadLetter("m9", "effects", "unreadable", 1)
    assert judge(replace(facts, log=log, dead_letters=(letter,))).violations == []


BODY: dict[str, Any] = {"order_id": "o", "version": 1, "sale_id": None, "latitude": 1.0, "longitude": 2.0}
REVIEW: dict[str, Any] = {"order_id": "o", "review_id": "r", "provider_id": "p", "rating": 2}


@pytest.mark.parametrize(
    ("subject", "body", "event_id", "effects"),
    [
        ("order.created", BODY, "o:1", {"audit", "daily-figures", "notify-customer", "notify-providers"}),
        ("order.created", {**BODY, "sale_id": "s"}, "o:1", {"audit", "daily-figures", "notify-customer"}),
        ("order.created", {**BODY, "latitude": None}, "o:1", {"audit", "daily-figures", "notify-customer"}),
        ("order.rejected", BODY, "o:1", {"audit", "notify-customer"}),
        ("order.paid", {**BODY, "version": 2}, "o:2", {"audit", "daily-figures", "notify-customer"}),
        ("order.accepted", {**BODY, "provider_id": "p"}, "o:1", {"audit", "notify-customer"}),
        (
            "order.completed", {**BODY, "provider_id": "p"}, "o:1",
            {"audit", "daily-figures", "notify-customer", "provider-statistics"},
        ),
        (
            "order.cancelled", {**BODY, "provider_id": "p"}, "o:1",
            {"audit", "daily-figures", "notify-customer", "notify-provider"},
        ),
        (
            "review.created", REVIEW, "r:created",
            {"daily-figures", "provider-statistics", "ticket", "notify-provider"},
        ),
        (
            "review.created", {**REVIEW, "rating": 3}, "r:created",
            {"daily-figures", "provider-statistics", "notify-provider"},
        ),
        ("review.replied", REVIEW, "r:replied", {"notify-customer"}),
    ],
)  # fmt: skip
def test_what_an_event_calls_for(
    subject: str, body: dict[str, Any], event_id: str, effects: set[str]
) -> None:
    assert read_event(subject, msgspec.json.encode(body)) == (event_id, effects)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{}", b'{"order_id": "o"}', b'{"order_id": 1, "version": 1}']
)
def test_what_is_no_event(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_event("order.created", body)


@pytest.mark.parametrize("event_id", ["r:created", "", "o:", "o:-1", "o:²"])
def test_what_is_no_transition(event_id: str) -> None:
    assert transition_of(event_id) is None


# -- 3: returned units -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("movements", "message", "harm"),
    [
        ([("c-back", 2), ("x-late", 1), ("x-late", 1)], "a movement of an admission counter twice", "duplicated"),
        ([("c-back", 2), ("c-late", 1), ("x-late", 1)], BASELESS, "duplicated"),
        ([("c-back", 3), ("x-late", 1)], BASELESS, "duplicated"),
        ([("c-back", 2), ("c-new", 1)], BASELESS, None),
        ([("x-back", 2), ("x-late", 1)], BASELESS, None),
        ([("c-nobody", 2), ("x-late", 1)], BASELESS, None),
        ([("x-late", 1)], "units of cancelled orders that were not returned", "undersold"),
        ([("c-back", 2), ("x-late", 2)], "more units returned than orders were cancelled", "duplicated"),
    ],
)  # fmt: skip
def test_units_that_return_twice_never_or_for_nothing(
    movements: list[tuple[str, int]], message: str, harm: str | None
) -> None:
    offer = Offer(tuple(Movement(name, "sale", units) for name, units in movements))
    result = judge(replace(sound(), offer=offer))
    assert {one.invariant for one in result.violations} == {3}
    assert message in {one.message for one in result.violations}
    if harm:
        assert getattr(result, harm) == 1 if harm == "duplicated" else 2


def test_what_was_not_returned_yet_is_missed_only_at_rest_and_where_all_is_there() -> None:
    facts = replace(sound(), offer=Offer((Movement("x-late", "sale", 1),)))
    assert judge(facts).undersold == 2
    assert judge(replace(facts, at_rest=False)).violations == []
    purged = judge(replace(facts, offer=replace(facts.offer, complete=False)))
    assert purged.violations == []
    assert "judged in part" in {check.name: check.detail for check in purged.checks}["returned units"]


def test_a_batch_returns_its_units_under_the_name_of_its_first() -> None:
    facts = sound()
    another = order("later", status="cancelled", reason="expired", version=1, quantity=3, cancelled_at=DUE)
    offer = Offer((Movement("c-back", "sale", 2), Movement("x-late", "sale", 4)))
    result = judge(replace(facts, orders=(*facts.orders, another), offer=offer))
    assert [one for one in result.violations if one.invariant == 3] == []
