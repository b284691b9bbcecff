"""A system without a flaw has no finding, whatever its clients learn of; one thing that is wrong is always found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from faults.history.check import check
from faults.history.facts import Event, Facts
from faults.history.flawless import Answer, Flawless
from faults.history.record import Kind
from hypothesis import given
from hypothesis import strategies as st

ANSWERS: Sequence[Answer] = ("ok", "ok", "lost", "open", "unsent", "late")
Step = tuple[str, int, Answer]
STEPS = st.lists(
    st.tuples(st.sampled_from([*Kind, "expire", "arrive"]), st.integers(0, 5), st.sampled_from(ANSWERS)),
    max_size=40,
)  # fmt: skip
# Something of everything, so that there is always something to damage. The numbers are places in the list of orders.
BEFORE: Sequence[Step] = (
    (Kind.PURCHASE, 0, "ok"), (Kind.PURCHASE, 1, "open"), (Kind.ORDER, 2, "lost"), (Kind.PAY, 0, "ok"),
    (Kind.PAY, 1, "unsent"), ("expire", 1, "ok"), (Kind.PAY, 1, "lost"), (Kind.ACCEPT, 2, "ok"),
    (Kind.START, 2, "lost"), (Kind.COMPLETE, 2, "ok"), (Kind.REVIEW, 2, "lost"), (Kind.ORDER, 3, "ok"),
)  # fmt: skip


def run(steps: Sequence[Step]) -> Flawless:
    """Keys, customers and orders are few, so that steps meet: the same key again, two keys for one order."""
    shop = Flawless(stock=4, limit=3)
    known: list[str] = []
    for number, (what, which, answer) in enumerate(steps):
        order_id = known[which % len(known)] if known else "nobody's"
        if what == Kind.PURCHASE:
            known.append(shop.purchase(f"k{which}", f"c{which % 2}", 1 + which % 2, answer))
        elif what == Kind.ORDER:
            known.append(shop.order(f"o{which}", f"c{which}", answer))
        elif what == "expire":
            if order_id in shop.rows:
                shop.expire(order_id)
        elif what == "arrive":
            shop.arrive()
        elif what == Kind.READ:
            shop.read(order_id, answer)
        elif what in (Kind.REVIEW, Kind.REPLY):
            shop.review(order_id, f"r{number}", answer, Kind(what))
        else:
            shop.act(Kind(what), order_id, None if which == 0 else f"a{which % 3}", answer)
    shop.arrive()
    return shop


@given(STEPS)
def test_a_system_without_a_flaw_has_no_finding(steps: list[Step]) -> None:
    for all_of_them in (steps, [*BEFORE, *steps]):
        shop = run(all_of_them)
        known = {"stocks": {"s": shop.stock}, "listeners": ["c0", "c1"]}
        assert check(shop.history, shop.facts(), overtaking=False, **known) == ()  # type: ignore[arg-type]


Change = Callable[[tuple[Any, ...], int], tuple[Any, ...]]


def dropped(things: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return things[:place] + things[place + 1 :]


def doubled(things: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return things[: place + 1] + things[place:]


TABLES = ("orders", "payments", "events", "reviews", "notifications")


@given(
    STEPS,
    st.sampled_from([(change, table) for change in (dropped, doubled) for table in TABLES]
                    + [(dropped, "deliveries"), (dropped, "sales")]),
    st.data(),
)  # fmt: skip
def test_one_thing_less_or_twice_is_found(
    steps: list[Step], planted: tuple[Change, str], data: st.DataObject
) -> None:
    shop = run([*BEFORE, *steps])
    change, table = planted
    things = getattr(shop.facts(), table)
    wrong: dict[str, Any] = {table: change(things, data.draw(st.integers(0, len(things) - 1)))}
    assert check(shop.history, replace(shop.facts(), **wrong), overtaking=False)


@given(STEPS, st.sampled_from([dropped, doubled]), st.data())
def test_one_effect_less_or_twice_is_found(steps: list[Step], change: Change, data: st.DataObject) -> None:
    shop = run([*BEFORE, *steps])
    effects = dict(shop.facts().effects)
    event_id = data.draw(st.sampled_from(sorted(effects)))
    place = data.draw(st.integers(0, len(effects[event_id]) - 1))
    effects[event_id] = change(effects[event_id], place)
    assert check(shop.history, replace(shop.facts(), effects=effects), overtaking=False)


@given(STEPS, st.data())
def test_two_events_of_an_order_the_wrong_way_round_are_found(steps: list[Step], data: st.DataObject) -> None:
    shop = run([*BEFORE, *steps])
    later = [event for event in shop.events if event.version is not None and event.version > 1]
    second = data.draw(st.sampled_from(later))
    (first,) = [
        one
        for one in shop.events
        if one.order_id == second.order_id and (one.version or 0) + 1 == second.version
    ]
    other: dict[str, Event] = {first.event_id: second, second.event_id: first}
    events = tuple(other.get(event.event_id, event) for event in shop.events)
    assert check(shop.history, replace(shop.facts(), events=events), overtaking=False)


@given(STEPS, st.sampled_from(["status", "customer_id", "quantity", "version", "payment_id"]), st.data())
def test_two_orders_that_have_swapped_something_are_found(
    steps: list[Step], name: str, data: st.DataObject
) -> None:
    shop = run([*BEFORE, *steps])
    facts: Facts = shop.facts()
    pairs = [
        (one, other)
        for one in facts.orders
        for other in facts.orders
        if one.order_id < other.order_id and getattr(one, name) != getattr(other, name)
    ]
    one, other = data.draw(st.sampled_from(pairs))
    swapped = {
        one.order_id: replace(one, **{name: getattr(other, name)}),
        other.order_id: replace(other, **{name: getattr(one, name)}),
    }
    orders = tuple(swapped.get(row.order_id, row) for row in facts.orders)
    assert check(shop.history, replace(facts, orders=orders), overtaking=False)
