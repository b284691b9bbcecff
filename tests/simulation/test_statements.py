"""All interleavings of paying, cancelling and expiring, on a model of the statements: explored, not sampled.

The number of schedules of each test is written down, so that a model that loses some of its steps is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from simulation import mistakes
from simulation.explore import Found, Rules, ViolationError
from simulation.explore import explore as explored
from simulation.promises import check_commit, check_end, same_answer
from simulation.rows import Key, Model, Program, World
from simulation.statements import (
    Order,
    Sale,
    cancel,
    drain,
    expire,
    opening,
    order_key,
    pay,
    sale_key,
)

Programs = Sequence[tuple[str, Program]]


def explore(
    programs: Programs,
    rows: Mapping[Key, Any],
    *,
    at_end: Callable[[World], None] = check_end,
    last_tick: int = 1,
    may_die: bool = True,
) -> Found:
    return explored(Model(programs, rows), Rules(check_commit, at_end, last_tick, may_die))


def without_deaths(found: Found) -> set[tuple[str, ...]]:
    return {answers for answers in found.answers if "died" not in answers}


def test_one_order_is_paid_twice_and_by_another_cancelled_and_expired_twice() -> None:
    """Each may die at any step; the clock passes the deadline at any moment."""
    found = explore(
        [
            ("pay A", pay("o", "A")),
            ("pay A again", pay("o", "A")),
            ("pay B", pay("o", "B")),
            ("cancel", cancel("o")),
            ("expire", expire("o")),
            ("expire again", expire("o")),
        ],
        opening("o"),
        at_end=same_answer(0, 1),
    )
    assert found.schedules == 463_155_577_084
    assert without_deaths(found) == {
        (*payments, cancelled, *expired)
        for payments, cancelled, expired in [
            *((p, "done", ("expired 0", "expired 0")) for p in [*FIRST_PAID, ("lost", "lost", "lost")]),
            (("lost", "lost", "lost"), "illegal", ("expired 1", "expired 0")),
            (("lost", "lost", "lost"), "illegal", ("expired 0", "expired 1")),
        ]
    }


# Of A, A again and B: one payment wins, and the same one never hears two answers.
FIRST_PAID = [("done", "repeated", "lost"), ("repeated", "done", "lost"), ("lost", "lost", "done")]


def test_two_orders_of_one_batch_are_paid_and_cancelled() -> None:
    found = explore(
        [
            ("pay A", pay("o1", "A")),
            ("cancel 1", cancel("o1")),
            ("pay B", pay("o2", "B")),
            ("cancel 2", cancel("o2")),
            ("expire", expire("o1", "o2")),
        ],
        opening("o1", "o2"),
    )
    assert found.schedules == 1_234_256_071_385
    assert {answers[4] for answers in found.answers} >= {"expired 0", "expired 1", "expired 2"}


def test_batches_that_overlap_in_any_order_do_not_stop_each_other() -> None:
    """Of two batches each holds an order of the other, in another order; one is paid, one cancelled."""
    found = explore(
        [
            ("expire", expire("o1", "o2")),
            ("expire again", expire("o3", "o2", "o1")),
            ("pay", pay("o2", "A")),
            ("cancel", cancel("o3")),
        ],
        opening("o1", "o2", "o3", stock=5),
    )
    assert found.schedules == 983_469_887
    assert {answers[1] for answers in found.answers} >= {f"expired {n}" for n in range(4)}


def test_a_batch_of_two_sales_and_the_orders_that_are_drained_beside_it() -> None:
    """The drain locks the sale and no order; who is drained late may get a unit that came back."""
    rows = {
        order_key("o1"): Order("s"),
        order_key("o2"): Order("t"),
        sale_key("s"): Sale(1, 0, 1),
        sale_key("t"): Sale(2, 1, 1),
    }
    found = explore(
        [
            ("expire", expire("o1", "o2")),
            ("cancel", cancel("o1")),
            ("drain", drain("n1", "s")),
            ("drain again", drain("n1", "s")),
            ("drain two", drain("n2", "t", quantity=2)),
        ],
        rows,
    )
    assert found.schedules == 257_221_962_392
    assert {answers[2:] for answers in without_deaths(found)} == {
        (*first, two)
        for first in [
            ("created", "repeated"),
            ("repeated", "created"),
            ("rejected", "repeated"),
            ("repeated", "rejected"),
        ]
        for two in ("created", "rejected")
    }


def test_an_order_that_is_served_before_it_is_paid() -> None:
    """An ordinary order has neither deadline nor stock. A provider has accepted it, so it stays accepted."""
    rows = {order_key("o"): Order(sale="", status="accepted", expires=9), sale_key(""): Sale(0, 0, 0, 0)}

    def stays_accepted(world: World) -> None:
        assert world.row("order", "o").status == "accepted"

    programs = [("pay A", pay("o", "A")), ("pay A again", pay("o", "A")), ("pay B", pay("o", "B"))]
    found = explored(Model(programs, rows), Rules(lambda world: None, stays_accepted))
    assert without_deaths(found) == set(FIRST_PAID)


A, B = "A", "B"
PLANTED: list[tuple[str, Programs]] = [
    (
        "standing: ['A', 'B']",
        [
            ("pay A", mistakes.pay_judged_before_the_lock("o1", A)),
            ("pay B", mistakes.pay_judged_before_the_lock("o1", B)),
        ],
    ),
    (
        "paid too late",
        [("pay", mistakes.pay_judged_before_the_lock("o1", A)), ("expire", expire("o1"))],
    ),
    ("paid too late", [("pay", mistakes.pay_without_a_deadline("o1", A))]),
    ("standing: ['A']", [("pay", mistakes.lose_without_a_refund("o1", A)), ("cancel", cancel("o1"))]),
    (
        "1 units of cancelled orders, and 2 returned",
        [("cancel", mistakes.cancel_that_returns_stock_in_any_case("o1")), ("expire", expire("o1"))],
    ),
    ("standing: ['A']", [("cancel", mistakes.cancel_without_a_refund("o1")), ("pay", pay("o1", A))]),
    (
        "not what the orders hold",
        [
            ("cancel 1", mistakes.cancel_that_writes_what_it_has_read("o1")),
            ("cancel 2", mistakes.cancel_that_writes_what_it_has_read("o2")),
        ],
    ),
    (
        "standing: ['A']",
        [("expire", mistakes.expire_whatever_has_become_of_it("o1")), ("pay", pay("o1", A))],
    ),
    (
        "1 units of cancelled orders, and 2 returned",
        [
            ("expire", mistakes.expire_whatever_has_become_of_it("o1")),
            ("again", mistakes.expire_whatever_has_become_of_it("o1")),
        ],
    ),
    ("expired too early", [("expire", mistakes.expire_without_a_look_at_the_clock("o1"))]),
    (
        "deadlock of expire, cancel",
        [("expire", mistakes.expire_sales_first("o1")), ("cancel", cancel("o1"))],
    ),
    (
        "deadlock of expire, again",
        [
            ("expire", mistakes.expire_in_the_order_of_the_batch("o1", "o2")),
            ("again", mistakes.expire_in_the_order_of_the_batch("o2", "o1")),
        ],
    ),
    (
        "a negative count",
        [
            ("drain", mistakes.drain_that_looks_before_it_locks("n1")),
            ("other", mistakes.drain_that_looks_before_it_locks("n2")),
        ],
    ),
]


@pytest.mark.parametrize(("said", "programs"), PLANTED)
def test_a_planted_mistake_is_found(said: str, programs: Programs) -> None:
    with pytest.raises(ViolationError) as found:
        explore(programs, opening("o1", "o2"))
    assert said in str(found.value)


def test_the_winner_that_was_refunded() -> None:
    """The same payment twice around the deadline: the second is judged late, while the first is about to win in time.

    It takes the clock between the two: this is also the test that the model's clock moves.
    """
    programs = [
        ("pay", mistakes.pay_without_a_lock("o1", A)),
        ("again", mistakes.pay_without_a_lock("o1", A)),
    ]
    with pytest.raises(ViolationError) as found:
        explore(programs, opening("o1"))
    assert "o1 is paid, paid by 'A'; standing: nothing" in str(found.value)
    assert "the clock shows 1" in str(found.value)
    assert explore(programs, opening("o1"), last_tick=0).schedules > 1


def test_what_is_due_is_cancelled_by_the_first_who_comes() -> None:
    """Nobody dies, and the time is up from the beginning: no order is left over."""

    def nothing_left(world: World) -> None:
        assert {order.status for order in world.rows_of("order").values()} == {"cancelled"}

    programs = [("expire", expire("o1", "o2")), ("pay", pay("o1", A)), ("cancel", cancel("o2"))]
    rows = {**opening(), order_key("o1"): Order(expires=0), order_key("o2"): Order(expires=0)}
    rows[sale_key("s")] = Sale(2, 0, 2)
    explore(programs, rows, at_end=nothing_left, may_die=False)
