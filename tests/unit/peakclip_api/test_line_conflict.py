"""One key, two orders, two API processes at the same moment: every process must name the same one ever after."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import make_order

from peakclip.messages import Order
from peakclip_api.line import Line


def order(quantity: int, customer: str = "c1") -> Order:
    return make_order("k", customer_id=customer, quantity=quantity)


def log_shows(line: Line, seq: int, orders: list[Order]) -> None:
    """As the follower does it."""
    if not line.knows(seq):
        line.add_frame(seq, orders)


@pytest.mark.parametrize("customer", ["c1", "c2"])
def test_the_first_in_the_log_has_the_key_even_where_the_other_was_known_first(customer: str) -> None:
    ours, theirs = order(2), order(1, customer)
    line = Line(keep=100)
    line.add_own_frame(11, [ours])
    assert line.find(ours.order_id).order is ours  # type: ignore[union-attr]
    log_shows(line, 10, [theirs])
    log_shows(line, 11, [ours])
    assert line.find(ours.order_id).order is theirs  # type: ignore[union-attr]
    assert line.bought("s1", customer) == 1
    assert line.bought("s1", "c1") + line.bought("s1", "c2") == 1, "the other's units are not bought"


def test_a_later_order_of_the_same_key_changes_nothing() -> None:
    first, second = order(2), order(1)
    line = Line(keep=100)
    line.add_own_frame(10, [first])
    log_shows(line, 10, [first])
    line.add_own_frame(12, [make_order()])
    log_shows(line, 11, [second])
    assert line.find(first.order_id).order is first  # type: ignore[union-attr]
    assert line.bought("s1", "c1") == 2


def test_who_was_released_meanwhile_has_no_units() -> None:
    ours, theirs = order(2), order(1)
    line = Line(keep=100)
    line.add_own_frame(11, [ours])
    line.release(ours.order_id)
    log_shows(line, 10, [theirs])
    assert line.find(ours.order_id).order is theirs  # type: ignore[union-attr]
    assert line.bought("s1", "c1") == 0


@dataclass(frozen=True)
class Frame:
    mine: bool
    quantity: int


@given(
    st.lists(st.builds(Frame, st.booleans(), st.integers(1, 3)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_a_process_hears_of_them(frames: list[Frame], chance: Random) -> None:
    """The log comes in its order; a frame of ours is known at any moment before or after."""
    line, orders = Line(keep=100), [order(frame.quantity) for frame in frames]
    told: set[int] = set()
    for seq, one in enumerate(orders, 1):
        for later in range(seq, len(orders) + 1):
            if frames[later - 1].mine and later not in told and chance.random() < 0.4:
                told.add(later)
                line.add_own_frame(later, [orders[later - 1]])
        log_shows(line, seq, [one])
    found = line.find(orders[0].order_id)
    assert found is not None
    assert found.order is orders[0]
    assert line.bought("s1", "c1") == orders[0].quantity
