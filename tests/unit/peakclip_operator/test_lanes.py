"""The division of R between the lanes of a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import effects, lanes, limits, milli, orders, quick, rates, reaper, use

from peakclip_operator.plan.lanes import Lane, LanesMemory, divide, share


@pytest.mark.parametrize(
    ("demands", "expected"),
    [
        ((0, 0, 0), (98, 1, 1)),  # all idle: what is left is ahead, where it matters most
        ((0, 0, 50), (49, 1, 50)),
        ((2_400, 0, 50), (89, 1, 10)),
        ((30, 10, 20), (62.5, 12.5, 25)),
        ((None, None, None), (89, 1, 10)),  # unknown counts as much as it may
    ],
)
def test_the_worked_numbers(demands: Sequence[float | None], expected: Sequence[float]) -> None:
    three = [one(demand=demand) for one, demand in zip((orders, effects, reaper), demands, strict=True)]
    assert tuple(divide(100, three).values()) == expected


def test_a_demand_without_end_is_the_lanes_limit() -> None:
    assert divide(100, [orders(demand=math.inf)]) == {"orders": 100}


def test_inside_a_priority_the_weights_divide() -> None:
    two = [Lane("a", 100, weight=3, demand=None), Lane("b", 100, weight=1, demand=None)]
    assert divide(100, two) == pytest.approx({"a": 75, "b": 25}, abs=0.01)
    # Who needs less leaves the rest to the others.
    assert divide(100, [replace(two[0], demand=20), two[1]]) == pytest.approx({"a": 20, "b": 80}, abs=0.01)


def test_guarantees_beyond_r_are_kept_in_proportion() -> None:
    three = [Lane("a", 500, guarantee=200), Lane("b", 500, guarantee=100), Lane("c", 500, 9)]
    assert divide(100, three) == pytest.approx({"a": 66, "b": 33, "c": 1}, abs=0.5)


def idle(name: str, **more: Any) -> Lane:
    return Lane(name, 1_000, demand=0.0, **more)


@pytest.mark.parametrize(
    ("limit", "lanes", "expected"),
    [
        pytest.param(100, [], [], id="nobody is there"),
        pytest.param(0, [Lane("a", 10), Lane("b", 10, 1)], [0, 0], id="there is nothing to divide"),
        pytest.param(0.001, [Lane("a", 10)], [0.001], id="the last thousandth is given, too"),
        pytest.param(100, [idle("a", priority=1), idle("b")], [99, 1], id="a foot of R/100"),
        pytest.param(
            99.999, [idle("a", priority=1), idle("b")], [99, 0.999], id="a foot in whole thousandths"
        ),
        pytest.param(
            100,
            [idle("a", priority=1), *(idle(f"b{number}") for number in range(29))],
            [90.343, *[0.333] * 29],
            id="feet of thirty lanes: a tenth of R by all",
        ),
        pytest.param(
            100, [idle("a", priority=1), Lane("b", 0.4)], [99.6, 0.4], id="no foot above the own limit"
        ),
        pytest.param(
            100,
            [Lane("a", 100, 1), Lane("b", 100, guarantee=30)],
            [70, 30],
            id="a guarantee before a priority",
        ),
        pytest.param(
            100,
            [Lane("a", 100, 1), Lane("b", 100, guarantee=30, demand=20.0)],
            [80, 20],
            id="of a guarantee what there is a use for",
        ),
        pytest.param(
            100,
            [Lane("a", 500, guarantee=300), Lane("b", 500, guarantee=100)],
            [75, 25],
            id="guarantees above R",
        ),
        pytest.param(100, [Lane("a", 100), Lane("b", 100)], [50, 50], id="weights of one"),
        pytest.param(100, [Lane(name, 100) for name in "abc"], [33.333] * 3, id="only whole thousandths"),
        pytest.param(
            100, [Lane("a", 100, weight=3), Lane("b", 100)], [75, 25], id="weights of three and one"
        ),
        pytest.param(
            100, [Lane("a", 100, weight=3), Lane("b", 20)], [80, 20], id="who is full leaves the rest"
        ),
        pytest.param(99.999, [Lane("a", 100, weight=2)], [99.999], id="almost full"),
        pytest.param(
            99.999, [Lane("a", 100, weight=1_000)], [99.999], id="almost full, of the greatest weight"
        ),
        pytest.param(
            100, [Lane("a", 100), Lane("b", 100, guarantee=40)], [50, 50], id="below the level: filled up"
        ),
        pytest.param(
            100, [Lane("a", 100), Lane("b", 100, guarantee=70)], [30, 70], id="above the level: kept"
        ),
        pytest.param(
            99_999.999,
            [Lane("a", 100_000), Lane("b", 100_000)],
            [49_999.999, 49_999.999],
            id="the greatest rates there are",
        ),
    ],
)
def test_at_the_edges(limit: float, lanes: Sequence[Lane], expected: Sequence[float]) -> None:
    assert divide(limit, lanes) == dict(zip((lane.name for lane in lanes), expected, strict=True))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (60, (30, 10, 20)),  # the demands, and nothing more
        (62, (32, 10, 20)),  # and a quarter, by priority
        (70, (37.5, 12.5, 20)),
        (75, (37.5, 12.5, 25)),
        (80, (42.5, 12.5, 25)),  # and the rest ahead
    ],
)
def test_after_the_demands_comes_a_quarter_and_then_the_own_limit(
    limit: float, expected: Sequence[float]
) -> None:
    three = [orders(demand=30.0), effects(demand=10.0), reaper(demand=20.0)]
    assert tuple(divide(limit, three).values()) == expected


def test_guarantees_of_any_size_are_divided_to_the_thousandth() -> None:
    """Half of R for each of two, from 0.002 to 0.1 messages per second, and nothing more for the higher priority."""
    two = [Lane("a", 1e6, 1, guarantee=1e6), Lane("b", 1e6, guarantee=1e6)]
    for half in range(1, 51):
        assert divide(half / 500, two) == {"a": half / 1_000, "b": half / 1_000}


def test_half_a_thousandth_for_each_is_nothing() -> None:
    two = [Lane("a", 2e6, guarantee=2e6), Lane("b", 2e6, guarantee=2e6)]
    assert divide(0.001, two) == {"a": 0, "b": 0}


@quick
@given(limits, lanes())
def test_the_sum_is_never_above_r_and_nobody_above_its_own_limit(limit: float, some: list[Lane]) -> None:
    told = divide(limit, some)
    assert sum(map(milli, told.values())) <= milli(limit)
    assert all(0 <= milli(told[lane.name]) <= milli(lane.limit) for lane in some)


@quick
@given(limits, lanes())
def test_nothing_is_left_that_somebody_could_have(limit: float, some: list[Lane]) -> None:
    left = milli(limit) - sum(map(milli, divide(limit, some).values()))
    could = sum(milli(lane.limit) for lane in some)
    assert left <= max(milli(limit) - could, 20 * len(some))  # what does not divide evenly, in thousandths


@quick
@given(limits, lanes(), st.randoms())
def test_the_order_of_the_lanes_does_not_matter(limit: float, some: list[Lane], dice: Any) -> None:
    shuffled = some[:]
    dice.shuffle(shuffled)
    assert divide(limit, shuffled) == divide(limit, some)
    assert share(limit, shuffled, LanesMemory(), 0.0) == share(limit, some, LanesMemory(), 0.0)


@quick
@given(limits, lanes(), rates)
def test_who_could_use_more_gets_no_less_and_the_others_no_more(
    limit: float, some: list[Lane], more: float
) -> None:
    first, *others = some
    before = divide(limit, some)
    after = divide(limit, [replace(first, demand=use(first) + more), *others])
    # Thousandths that do not divide evenly may fall to another lane.
    assert milli(after[first.name]) >= milli(before[first.name]) - len(some)
    assert sum(milli(after[lane.name]) for lane in others) <= sum(
        milli(before[lane.name]) for lane in others
    ) + 20 * len(some)


@quick
@given(limits, lanes())
def test_a_guarantee_holds_where_the_guarantees_fit_into_r(limit: float, some: list[Lane]) -> None:
    foot = limit / 10
    wanted = {lane.name: min(lane.guarantee, use(lane)) for lane in some}
    if sum(wanted.values()) + foot <= limit:
        told = divide(limit, some)
        assert all(milli(told[name]) >= milli(rate) - 1 for name, rate in wanted.items())


@quick
@given(limits, lanes(least=2))
def test_a_lower_priority_has_its_guarantee_and_foot_only_while_a_higher_one_is_short(
    limit: float, some: list[Lane]
) -> None:
    told = divide(limit, some)
    foot = limit / 100
    for high in some:
        if milli(told[high.name]) < milli(use(high)) - 20 * len(some):
            for low in some:
                if low.priority < high.priority:
                    most = max(foot, min(low.guarantee, use(low)))
                    assert milli(told[low.name]) <= milli(most) + 1
