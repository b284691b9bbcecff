"""Each invariant with each kind of damage: sound facts pass, and every damage is named with its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.audit.checks import CHECKS, judge
from peakclip.audit.checks.rate import busiest_second
from peakclip.audit.facts import (
    DeadLetter,
    Dropped,
    Event,
    EventLog,
    Facts,
    Frame,
    Intake,
    OrderRow,
    Payment,
    Queue,
    QueuedOrder,
    RateLimit,
    SaleRow,
    complete_from,
)
from peakclip.audit.result import AuditResult, Outcome

START = 1_800_000_000.0  # epoch seconds


def row(order_id: str, **changes: Any) -> OrderRow:
    sound = OrderRow(
        order_id, "t", f"customer-{order_id}", "sale", 1, "pending_payment", START, START + 10,
        expires_at=START + 100,
    )  # fmt: skip
    return replace(sound, **changes)


def paid(order_id: str, **changes: Any) -> OrderRow:
    """By a payment of the order's own name, in time."""
    values = {"status": "paid", "version": 2, "paid_at": START + 99, "payment_id": f"p-{order_id}", **changes}
    return row(order_id, **values)


def cancelled(order_id: str, **changes: Any) -> OrderRow:
    values = {
        "status": "cancelled",
        "reason": "expired",
        "version": 2,
        "cancelled_at": START + 100,
        **changes,
    }
    return row(order_id, **values)


CREATED = frozenset({"audit", "daily-figures", "notify-customer"})


def told(*event_ids: str) -> EventLog:
    """Events that are finished, each of which calls for the same effects."""
    events = tuple(Event(seq, event_id, event_id, CREATED) for seq, event_id in enumerate(event_ids, start=1))
    return EventLog(events, finished_through=len(events))


def sale(**changes: Any) -> SaleRow:
    return replace(SaleRow("sale", 10, 7, 2, 1, per_customer_limit=2), **changes)


def sound() -> Facts:
    """Three orders went all the way: two await payment, one is paid. Ten units, seven of them on offer."""
    ids = ("a", "b", "c")
    return Facts(
        orders=(row("a"), row("b"), paid("c")),
        sales=(sale(),),
        payments=(Payment("p-c", "payment", "c", 0),),
        log=told("a:1", "b:1", "c:1", "c:2"),
        effects=dict.fromkeys(("a:1", "b:1", "c:1", "c:2"), tuple(CREATED)),
        intake=Intake((Frame(1, "intake.f1:1", ids),), finished_through=1),
        queue=Queue(
            tuple(QueuedOrder(n, f"f1-{n}", i) for n, i in enumerate(ids, start=1)), finished_through=3
        ),
        counters={"sale": 7},
        accepted=dict.fromkeys(ids, 1),
        rate=RateLimit(5, 0),
        at_rest=True,
    )


def messages(result: AuditResult) -> list[tuple[int, str]]:
    return [(violation.invariant, violation.message) for violation in result.violations]


def harms(result: AuditResult) -> dict[str, int]:
    found = {name: getattr(result, name) for name in ("lost", "duplicated", "oversold", "undersold")}
    return {name: units for name, units in found.items() if units}


def test_sound_facts_violate_nothing() -> None:
    result = judge(sound())
    assert result.violations == []
    assert harms(result) == {}
    assert {check.outcome for check in result.checks} == {Outcome.HOLDS}


def test_an_empty_system_violates_nothing() -> None:
    assert judge(Facts(at_rest=True)).violations == []


def test_what_cannot_be_checked_never_counts_as_holding() -> None:
    running = judge(replace(sound(), at_rest=False, rate=None))
    not_checked = {check.name for check in running.checks if check.outcome is Outcome.NOT_CHECKED}
    assert not_checked == {"admission counters", "starts per second"}


def test_every_invariant_has_a_check() -> None:
    assert {check(sound()).invariant for check in CHECKS} == {1, 2, 3, 4, 5, 6, 7}


# -- 1: accepted orders ------------------------------------------------------------------------------------


def without_row(facts: Facts, order_id: str) -> Facts:
    """As if the row had never been written, stock and counter included."""
    return replace(
        facts,
        orders=tuple(order for order in facts.orders if order.order_id != order_id),
        sales=(sale(available=8, reserved=1),),
        counters={"sale": 8},
    )


@pytest.mark.parametrize("client_knows", [True, False])
def test_a_finished_message_without_a_row_is_lost(client_knows: bool) -> None:
    facts = without_row(sound(), "b")
    result = judge(facts if client_knows else replace(facts, accepted=None))
    assert harms(result) == {"lost": 1}
    assert result.violations[0].rows == [{"order_id": "b", "seen": "SECKILL 2"}]


def test_a_relayed_frame_whose_order_never_reached_the_queue_is_lost() -> None:
    facts = without_row(sound(), "b")
    queue = Queue(tuple(m for m in facts.queue.orders if m.order_id != "b"), finished_through=3)
    result = judge(replace(facts, queue=queue))
    assert result.violations[0].rows == [{"order_id": "b", "seen": "INTAKE 1"}]
    assert result.lost == 1


def test_an_order_that_only_a_client_knows_is_lost() -> None:
    result = judge(replace(sound(), accepted={"a": 1, "ghost": None}))
    assert result.violations[0].rows == [{"order_id": "ghost", "seen": "by a client"}]
    assert harms(result) == {"lost": 1}


def test_a_waiting_order_is_not_lost_while_orders_are_under_way() -> None:
    facts = replace(without_row(sound(), "b"), at_rest=False)
    in_queue = replace(facts, queue=replace(facts.queue, finished_through=1))
    assert judge(in_queue).violations == []
    not_relayed = replace(
        facts, intake=replace(facts.intake, finished_through=0), queue=Queue((), finished_through=0)
    )
    assert judge(not_relayed).violations == []


def test_without_a_consumer_nothing_is_finished() -> None:
    facts = replace(without_row(sound(), "b"), at_rest=False)
    assert judge(replace(facts, queue=replace(facts.queue, finished_through=None))).violations == []


def test_an_order_still_waiting_at_rest_is_named_but_not_lost() -> None:
    facts = without_row(sound(), "b")
    result = judge(replace(facts, queue=replace(facts.queue, finished_through=1)))
    assert messages(result) == [(1, "still in a queue although nothing is under way")]
    assert harms(result) == {}


def test_an_order_in_the_dead_letters_is_not_lost() -> None:
    letter = DeadLetter("f1-2", "orders", "constraint violated", 5, ("b",))
    assert judge(replace(without_row(sound(), "b"), dead_letters=(letter,))).violations == []


def test_two_rows_of_one_order_are_a_duplicate() -> None:
    facts = sound()
    result = judge(replace(facts, orders=(*facts.orders, row("a", status="rejected"))))
    assert harms(result) == {"duplicated": 1}
    assert result.violations[0].rows == [{"order_id": "a", "rows": 2}]


def test_a_row_that_no_frame_holds_is_extra() -> None:
    facts = sound()
    result = judge(replace(facts, at_rest=False, orders=(*facts.orders, row("x", status="rejected"))))
    assert messages(result) == [(1, "a row that no frame holds: never accepted")]
    assert result.violations[0].rows[0]["order_id"] == "x"


def test_extra_rows_are_judged_only_as_far_back_as_the_frames_reach() -> None:
    facts = replace(sound(), intake=Intake((), 1, complete_from=START + 1), queue=Queue((), 3), accepted=None)
    result = judge(facts)
    assert result.violations == []
    assert "judged in part" in result.checks[0].detail
    assert len(judge(replace(facts, intake=Intake((), 1, complete_from=START))).violations) == 1


def test_an_order_that_was_written_at_once_needs_no_frame_and_has_no_start() -> None:
    facts = replace(sound(), log=told("a:1", "b:1", "c:1", "c:2", "direct:1"), rate=RateLimit(3, 0))
    direct = row(
        "direct", sale_id=None, status="created", in_line=False, started_at=None, expires_at=None, quantity=5
    )
    effects = {**facts.effects, "direct:1": tuple(CREATED)}
    result = judge(replace(facts, orders=(*facts.orders, direct), effects=effects))
    assert result.violations == []
    assert "3 starts" in result.checks[-1].detail


def test_an_ordinary_order_from_the_line_needs_a_frame() -> None:
    facts = replace(sound(), at_rest=False)
    late = row("late", sale_id=None, status="created", expires_at=None)
    assert messages(judge(replace(facts, orders=(*facts.orders, late)))) == [
        (1, "a row that no frame holds: never accepted")
    ]


def test_an_order_that_waits_for_another_attempt_is_not_lost() -> None:
    """Its message is acknowledged: what is left of it is a schedule."""
    facts = replace(without_row(sound(), "b"), at_rest=False)
    assert judge(facts).lost == 1
    assert judge(replace(facts, queue=replace(facts.queue, delayed=frozenset("b")))).violations == []


def test_an_order_that_somebody_gave_up_is_not_lost() -> None:
    result = judge(replace(without_row(sound(), "b"), dropped=(Dropped("f1-2", ("b",)),)))
    assert result.violations == []
    assert "1 given up by hand" in result.checks[0].detail


def test_another_quantity_than_the_accepted_one_is_found() -> None:
    result = judge(replace(sound(), accepted={"a": 2, "b": 1, "c": None}))
    assert result.violations[0].rows == [{"order_id": "a", "quantity": 1, "accepted": 2}]


# -- 2: stock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        ({"available": 6}, {"undersold": 1}),  # a unit fell on the floor
        ({"available": 8}, {"duplicated": 1}),  # a unit is sold and still on offer
        ({"available": 0, "reserved": 2, "sold": 0, "initial": 2}, {"oversold": 1}),  # 3 held of 2
        ({"reserved": 3, "available": 6}, {"undersold": 1}),  # taken twice for one order
    ],
)
def test_units_that_do_not_add_up(damaged: dict[str, int], expected: dict[str, int]) -> None:
    broken = sale(**damaged)
    result = judge(replace(sound(), sales=(broken,), counters={"sale": broken.available}))
    assert harms(result) == expected
    assert {violation.invariant for violation in result.violations} == {2}
    assert all(violation.rows[0]["sale_id"] == "sale" for violation in result.violations)


def test_reserved_and_sold_must_be_what_the_orders_hold() -> None:
    result = judge(replace(sound(), sales=(sale(reserved=1, sold=2),)))
    assert messages(result) == [(2, "reserved and sold are not what the orders hold")]
    assert harms(result) == {}


def test_rejected_and_cancelled_orders_hold_nothing() -> None:
    facts = sound()
    others = (row("r", status="rejected", quantity=9), cancelled("k", quantity=9))
    facts = replace(facts, orders=facts.orders + others, accepted={"r": 9, "k": 9}, at_rest=False)
    assert judge(facts).violations == []


@pytest.mark.parametrize("status", ["accepted", "started", "completed"])
def test_what_is_served_is_sold(status: str) -> None:
    facts = sound()
    served = replace(facts, orders=(*facts.orders[:2], paid("c", status=status)))
    assert judge(served).violations == []
    assert judge(replace(served, sales=(sale(sold=0, reserved=3),))).violations != []


def test_an_order_of_a_sale_in_a_state_that_it_cannot_have() -> None:
    facts = sound()
    odd = row("odd", status="created")
    result = judge(replace(facts, orders=(*facts.orders, odd), accepted={"odd": 1}, at_rest=False))
    assert messages(result) == [(2, "orders of a sale in a state that no such order has")]


def test_units_of_a_sale_that_does_not_exist() -> None:
    facts = sound()
    stray = row("a", sale_id="nowhere")
    result = judge(replace(facts, orders=(stray, *facts.orders[1:]), sales=(sale(available=8, reserved=1),)))
    assert (2, "orders hold units of a sale that does not exist") in messages(result)


@pytest.mark.parametrize(
    ("counters", "undersold", "message"),
    [
        ({"sale": 4}, 3, "units are available, but not on offer"),
        ({"sale": -1}, 8, "units are available, but not on offer"),
        ({}, 7, "units are available, but not on offer"),
        ({"sale": 9}, 0, "more units are on offer than available"),
    ],
)
def test_the_admission_counter_at_rest(counters: dict[str, int], undersold: int, message: str) -> None:
    facts = replace(sound(), counters=counters)
    result = judge(facts)
    assert messages(result) == [(2, message)]
    assert result.undersold == undersold
    assert judge(replace(facts, at_rest=False)).violations == []


def test_a_unit_may_wait_in_a_dead_letter_and_in_no_other_way() -> None:
    letter = DeadLetter("f9.1", "orders", "broken", 3, ("x",), (("x", "sale", 2),))
    facts = replace(sound(), dead_letters=(letter,), counters={"sale": 5})
    assert [v for v in judge(facts).violations if v.invariant == 2] == []
    short = judge(replace(facts, counters={"sale": 4}))
    assert (2, "units are available, but not on offer") in messages(short)
    assert short.undersold == 1
    over = judge(replace(facts, counters={"sale": 7}))
    assert (2, "more units are on offer than available") in messages(over), (
        "what waits is not on offer as well"
    )
    done = replace(letter, units=(("a", "sale", 2),))  # the order has its row: nothing waits for it
    assert (2, "units are available, but not on offer") in messages(
        judge(replace(facts, dead_letters=(done,)))
    )


def test_a_sold_out_sale_needs_no_counter() -> None:
    empty = sale(initial=3, available=0)
    assert judge(replace(sound(), sales=(empty,), counters={})).violations == []


# -- 3: limit per customer ---------------------------------------------------------------------------------


def test_the_limit_counts_units_of_orders_that_stand() -> None:
    facts = sound()
    orders = (
        row("a", customer_id="greedy", quantity=2),
        row("b", customer_id="greedy", quantity=1),
        paid("c"),
        cancelled("d", customer_id="customer-c", quantity=2),
    )
    known = Intake((Frame(1, "intake.f1:1", ("a", "b", "c", "d")),), finished_through=1)
    result = judge(
        replace(
            facts,
            orders=orders,
            intake=known,
            accepted=None,
            sales=(sale(available=6, reserved=3),),
            counters={"sale": 6},
            at_rest=False,
        )
    )
    assert messages(result) == [(3, "customers hold more than the limit")]
    assert result.violations[0].rows == [
        {"sale_id": "sale", "tenant": "t", "customer_id": "greedy", "units": 3, "limit": 2}
    ]


def test_customers_of_two_tenants_are_two_customers() -> None:
    orders = (
        row("a", customer_id="x", quantity=2),
        row("b", customer_id="x", quantity=2, tenant="u"),
        paid("c"),
    )
    result = judge(
        replace(
            sound(),
            orders=orders,
            sales=(sale(available=5, reserved=4),),
            counters={"sale": 5},
            accepted=None,
        )
    )
    assert result.violations == []


# -- 6: failed messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [{"cause": " "}, {"attempts": 0}])
def test_a_dead_letter_needs_cause_and_attempts(damaged: dict[str, Any]) -> None:
    letter = replace(DeadLetter("m", "orders", "broken", 3), **damaged)
    result = judge(replace(sound(), dead_letters=(letter,)))
    assert messages(result) == [(6, "dead letters without cause or attempts")]
    assert result.violations[0].rows[0]["message_id"] == "m"


def test_an_unreadable_message_is_a_dead_letter_or_still_waiting() -> None:
    facts = sound()
    poison = replace(
        facts.queue, orders=(*facts.queue.orders, QueuedOrder(4, "f2-0", None)), finished_through=4
    )
    result = judge(replace(facts, queue=poison))
    assert messages(result) == [(6, "unreadable, taken from the queue, and not among the dead letters")]
    assert judge(replace(facts, queue=replace(poison, finished_through=3))).violations == []
    letter = DeadLetter("f2-0", "orders", "not an order", 1)
    assert judge(replace(facts, queue=poison, dead_letters=(letter,))).violations == []


def test_an_unreadable_frame_is_a_dead_letter_by_its_id() -> None:
    facts = sound()
    poison = Intake((*facts.intake.frames, Frame(2, "intake.f2:2", None)), finished_through=2)
    assert judge(replace(facts, intake=poison)).violations[0].rows == [
        {"stream": "INTAKE", "seq": 2, "message_id": "intake.f2:2"}
    ]
    letter = DeadLetter("intake.f2:2", "relay", "not a frame", 1)
    assert judge(replace(facts, intake=poison, dead_letters=(letter,))).violations == []


# -- 7: rate -----------------------------------------------------------------------------------------------


def test_more_starts_than_the_rate_and_the_burst_allow() -> None:
    assert judge(replace(sound(), rate=RateLimit(1, 2))).violations == []
    result = judge(replace(sound(), rate=RateLimit(1, 1)))
    assert messages(result) == [(7, "more starts in one second than R + burst")]
    assert result.violations[0].rows == [{"starts": 3, "allowed": 2, "from": START + 10}]


def test_starts_before_the_rate_came_into_force_are_not_judged() -> None:
    result = judge(replace(sound(), rate=RateLimit(1, 0, since=START + 11)))
    assert result.violations == []
    assert "0 starts" in result.checks[-1].detail


def test_a_second_does_not_contain_its_own_end() -> None:
    assert busiest_second([START, START + 1.0]) == (1, START)
    assert busiest_second([START, START + 0.999999]) == (2, START)
    assert busiest_second([START, START + 0.5, START + 1.2, START + 1.4, START + 1.5]) == (3, START + 0.5)
    assert busiest_second([]) == (0, None)


@given(st.lists(st.integers(0, 5_000_000), max_size=60))
def test_the_busiest_second_is_that_of_the_definition(micros: list[int]) -> None:
    micros.sort()
    naive = max((sum(begin <= m < begin + 1_000_000 for m in micros) for begin in micros), default=0)
    assert busiest_second([START + m / 1_000_000 for m in micros])[0] == naive


# -- what the facts say of themselves ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_seq", "seen", "expected"),
    [
        (0, [], 0.0),
        (2, [(1, 10.0), (2, 20.0)], 0.0),
        (10, [], float("inf")),
        (6, [(5, 50.0), (6, 60.0)], 51.0),
        (10, [(5, 50.0), (6, 60.0), (9, 90.0), (10, 100.0)], 91.0),
        (3, [(1, 10.0), (2, 20.0)], float("inf")),
    ],
)
def test_how_far_back_a_stream_is_complete(
    last_seq: int, seen: list[tuple[int, float]], expected: float
) -> None:
    assert complete_from(last_seq, seen) == expected
