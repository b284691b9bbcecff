"""From which thousandth on a share moves, who does not wait, and who is first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from peakclip_operator.plan.lanes import Lane, LanesMemory, divide, share


def has(name: str, given: float, limit: float, priority: int = 0, **more: Any) -> Lane:
    """A lane that has `given` in force. Where the limits are together R, the best for each is its limit."""
    return Lane(name, limit, priority, **{"given": given, "committed": given, **more})


def told(limit: float, *some: Lane, moved: Sequence[str] = (), ago: float = 0.0) -> dict[str, float]:
    """What they are told, those of `moved` having been moved `ago` seconds before."""
    return share(limit, some, LanesMemory(moved=dict.fromkeys(moved, 100.0 - ago)), 100.0)[0]


# -- what is left alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "given", "best", "expected"),
    [
        (100, 50, 48.001, 50),  # less than a fiftieth of R
        (100, 50, 48, 48),
        (100, 50, 51.999, 50),
        (100, 50, 52, 52),
        (100, 10, 9.001, 10),  # less than a tenth of its own
        (100, 10, 9, 9),
        (100, 10, 10.999, 10),
        (100, 10, 11, 11),
        (100.049, 50, 48, 48),  # a fiftieth of R and a tenth of its own in whole thousandths: 2.000 and 1.000
        (100, 10.009, 9.009, 9.009),
        (100, 0.005, 0.004, 0.004),  # the tenth is none, but a thousandth is one
        (100, 0, 0.001, 0.001),
    ],
)
def test_what_is_off_by_a_fiftieth_of_r_or_a_tenth_of_its_own_is_moved(
    limit: float, given: float, best: float, expected: float
) -> None:
    assert told(limit, has("a", given, best)) == {"a": expected}


def test_nobody_is_moved_for_less_while_the_sum_is_just_r() -> None:
    two = has("a", 50.5, 100), has("b", 49.5, 100)
    assert told(100, *two) == {"a": 50.5, "b": 49.5}
    assert told(99.9, *two) == {"a": 49.95, "b": 49.5}


def test_when_r_was_lowered_who_is_almost_right_is_moved_only_where_that_is_needed() -> None:
    two = has("a", 60.5, 55), has("b", 30, 29.5)
    assert told(90, *two, moved="ab") == {"a": 55, "b": 30}


def test_a_lane_that_was_moved_is_left_alone_for_five_seconds() -> None:
    two = has("a", 70, 50), has("b", 30, 50)
    assert told(100, *two, moved="ab", ago=4.999) == {"a": 70, "b": 30}
    assert told(100, *two, moved="ab", ago=5.0) == {"a": 50, "b": 30}
    less = has("a", 30, 33), has("b", 60, 60)
    assert told(100, *less, moved="ab", ago=4.999) == {"a": 30, "b": 60}
    assert told(100, *less, moved="ab", ago=5.0) == {"a": 33, "b": 60}


def test_of_each_lane_it_is_remembered_when_it_was_moved() -> None:
    two = [has("a", 50, 40), has("b", 50, 40)]
    rates, memory = share(100, two, LanesMemory(moved={"a": 98.0}), 100.0)
    assert (rates, memory.moved) == ({"a": 50, "b": 40}, {"a": 98.0, "b": 100.0})
    two[1] = has("b", 40, 40)
    rates, memory = share(100, two, memory, 102.0)
    assert (rates, memory.moved) == ({"a": 50, "b": 40}, {"a": 98.0, "b": 100.0})
    rates, memory = share(100, two, memory, 103.0)
    assert (rates, memory.moved) == ({"a": 40, "b": 40}, {"a": 103.0, "b": 100.0})


# -- who does not wait for the five seconds ----------------------------------------------------------------


def hurried(*some: Lane) -> bool:
    return told(100, *some, moved=[one.name for one in some]) != {one.name: one.given for one in some}


@pytest.mark.parametrize(("given", "expected"), [(57, False), (56.999, True)])
def test_a_guarantee_that_is_short_by_more_than_a_twentieth_does_not_wait(
    given: float, expected: bool
) -> None:
    assert hurried(has("high", 100 - given, 100, 1), has("low", given, 100, guarantee=60)) is expected


@pytest.mark.parametrize(
    ("high", "low", "peer", "expected"),
    [
        # (has, best): what `high` lacks
        ((50, 55), (23, 20), (22, 20), False),  # a tenth of its own
        ((50, 55.001), (23, 19.999), (22, 20), True),
        ((10, 12), (33, 30), (52, 53), False),  # a fiftieth of R
        ((10, 12.001), (33, 29.999), (52, 53), True),
        # and what there is to have
        ((10, 15), (32, 30), (53, 50), False),  # 2 of a lower priority; that of the same one waits
        ((10, 15), (32.001, 30), (52.999, 50), True),
        ((10, 15), (30, 30), (53, 50), False),  # 2 that nobody has
        ((10, 15), (30, 30), (52.999, 50), True),
        ((10, 15), (31, 30), (52.5, 50), True),  # 1.5 that nobody has, and 1 of a lower priority
        ((10, 10), (40, 30), (45, 55), True),  # the peer lacks 10
        ((10, 10), (33, 33), (52, 52), False),  # nobody lacks anything
    ],
)
def test_a_higher_priority_that_lacks_more_than_noise_does_not_wait(
    high: tuple[float, float], low: tuple[float, float], peer: tuple[float, float], expected: bool
) -> None:
    same = has("same", 5, 5)  # of the lower priority, and right: nothing is to be had from it
    assert hurried(has("high", *high, 1), has("low", *low), has("peer", *peer, 1), same) is expected


def test_what_would_only_be_ahead_of_the_demand_waits() -> None:
    """R = 100: for `high` 70 are best, but of use are the 10 that it has."""
    assert not hurried(has("high", 10, 100, 1, demand=10.0), has("low", 60, 30))


# -- more, out of what is in force for nobody --------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "others", "expected"),
    [
        (30, 50, 30),
        (60, 50, 50),
        (60, 47, 53),  # and 3 that are in force for nobody
        (60, 50.001, 10),  # R was lowered: nobody goes back
    ],
)
def test_who_was_told_less_has_first_what_is_still_in_force_for_it(
    best: float, others: float, expected: float
) -> None:
    """It was told 10, but 50 are in force for it yet, and for another lane all the rest of R or almost."""
    two = Lane("a", best, given=10, committed=50), has("b", others, 40)
    assert told(100, *two) == {"a": expected, "b": 40}


def test_what_a_lane_takes_back_costs_the_others_nothing() -> None:
    three = Lane("a", 30, 1, given=10, committed=30), has("b", 10, 12), has("c", 55, 58)
    assert told(100, *three) == {"a": 30, "b": 12, "c": 58}


@pytest.mark.parametrize(
    ("in_force", "expected"),
    [
        (
            36,
            {"gone": 5, "low": 14, "mid": 26, "high": 24},
        ),  # 10: 4 guaranteed, then 4 and 2 of what is of use
        (30, {"gone": 5, "low": 14, "mid": 30, "high": 26}),  # 16: then 6 of use, and 2 ahead
        (12, {"gone": 5, "low": 14, "mid": 34, "high": 40}),  # 34: then 20 ahead, but none for `low`
        (5, {"gone": 5, "low": 17.5, "mid": 37.5, "high": 40}),
    ],
)
def test_first_come_guarantees_then_what_is_of_use_then_what_is_ahead_each_by_priority(
    in_force: float, expected: dict[str, float]
) -> None:
    """R = 100, and the best are 5, 17.5, 37.5 and 40; but more than 5 are in force for the first lane."""
    gone = Lane("gone", 5, 9, given=5, committed=in_force)
    low = has("low", 10, 100, 0, guarantee=14, demand=14.0)
    mid, high = has("mid", 24, 100, 1, demand=30.0), has("high", 20, 100, 2, demand=24.0)
    assert divide(100, [gone, low, mid, high]) == {"gone": 5, "low": 17.5, "mid": 37.5, "high": 40}
    assert told(100, gone, low, mid, high) == expected


@pytest.mark.parametrize(
    ("in_force", "expected"),
    [
        (40, 60),
        (40.0004, 59.999),  # less than a thousandth more in force is a thousandth less to have
        (1.1, 98.9),  # 1.1 * 1000 is a little more than 1100 for a float
    ],
)
def test_what_is_in_force_is_rounded_up(in_force: float, expected: float) -> None:
    assert told(100, Lane("a", 100), Lane("b", 0, committed=in_force)) == {"a": expected, "b": 0}
