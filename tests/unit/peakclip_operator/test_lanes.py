"""The division of R between the lanes of a group, and how shares move."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakclip_operator.plan.lanes import HOLD_SECONDS, SETTLE_SECONDS, Lane, LanesMemory, divide, share

rates = st.floats(0.0, 500.0).map(lambda rate: round(rate, 3))


@st.composite
def lanes(draw: st.DrawFn, least: int = 1) -> list[Lane]:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=least, max_size=6, unique=True))
    return [
        Lane(
            name=name,
            limit=draw(rates.filter(bool)),
            priority=draw(st.integers(-2, 2)),
            weight=draw(st.integers(1, 5)),
            guarantee=draw(st.just(0.0) | rates),
            demand=draw(st.none() | rates),
        )
        for name in names
    ]


quick = settings(max_examples=60, deadline=None)
limits = st.floats(0.1, 1_000.0).map(lambda rate: round(rate, 3))


def milli(rate: float) -> int:
    return round(rate * 1000)


def use(lane: Lane) -> float:
    return lane.limit if lane.demand is None else min(lane.limit, lane.demand)


def orders(**more: Any) -> Lane:
    return replace(Lane("orders", 100, priority=10), **more)


def effects(**more: Any) -> Lane:
    return replace(Lane("effects", 60, priority=5), **more)


def reaper(**more: Any) -> Lane:
    return replace(Lane("reaper", 50, guarantee=10), **more)


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


def test_inside_a_priority_the_weights_divide() -> None:
    two = [Lane("a", 100, weight=3, demand=None), Lane("b", 100, weight=1, demand=None)]
    assert divide(100, two) == pytest.approx({"a": 75, "b": 25}, abs=0.01)
    # Who needs less leaves the rest to the others.
    assert divide(100, [replace(two[0], demand=20), two[1]]) == pytest.approx({"a": 20, "b": 80}, abs=0.01)


def test_guarantees_beyond_r_are_kept_in_proportion() -> None:
    three = [Lane("a", 500, guarantee=200), Lane("b", 500, guarantee=100), Lane("c", 500, 9)]
    assert divide(100, three) == pytest.approx({"a": 66, "b": 33, "c": 1}, abs=0.5)


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


# -- moving ------------------------------------------------------------------------------------------------


def test_who_gives_is_told_first_and_who_gets_when_it_is_in_force() -> None:
    """The worked numbers of the module."""
    calm = [orders(demand=0.0, given=49, committed=49), effects(demand=0.0, given=1, committed=1)]
    three = [*calm, reaper(demand=50.0, backlog=True, given=50, committed=50)]
    told, memory = share(100, three, LanesMemory(), 100.0)
    assert told == {"orders": 49, "effects": 1, "reaper": 50}
    three[0] = replace(three[0], demand=2_400.0, backlog=True)
    told, memory = share(100, three, memory, 100.5)
    assert told == {"orders": 49, "effects": 1, "reaper": 10}
    three[2] = replace(three[2], given=10)
    told, memory = share(100, three, memory, 101.0)
    assert told["orders"] == 49
    three[2] = replace(three[2], committed=10)
    told, memory = share(100, three, memory, 101.5)
    assert told == {"orders": 89, "effects": 1, "reaper": 10}


@quick
@given(limits, lanes(), st.data())
def test_in_any_situation_what_is_told_fits_beside_what_is_in_force(
    limit: float, some: list[Lane], data: st.DataObject
) -> None:
    """Raising never makes the sum larger than R, whatever was told and is in force before."""
    some = [replace(lane, given=data.draw(rates)) for lane in some]
    some = [replace(lane, committed=max(lane.given, data.draw(rates))) for lane in some]
    told, _ = share(limit, some, LanesMemory(), 0.0)
    before = sum(milli(lane.committed) for lane in some)
    after = sum(max(milli(lane.committed), milli(told[lane.name])) for lane in some)
    assert after <= max(milli(limit), before)
    assert sum(map(milli, told.values())) <= max(milli(limit), 0)


def settled(limit: float, some: list[Lane], memory: LanesMemory, now: float, ticks: int) -> tuple[Any, ...]:
    """The lanes after so many ticks of half a second, each told at once; and how often each was told another rate."""
    changes = dict.fromkeys((lane.name for lane in some), 0)
    for _ in range(ticks):
        told, memory = share(limit, some, memory, now)
        for lane in some:
            changes[lane.name] += told[lane.name] != lane.given
        some = [replace(one, given=told[one.name], committed=max(told[one.name], one.given)) for one in some]
        now += 0.5
    return some, memory, now, changes


@quick
@given(limits, lanes())
def test_after_a_few_seconds_everybody_has_its_best_rate(limit: float, some: list[Lane]) -> None:
    after, _, _, _ = settled(limit, some, LanesMemory(), 0.0, 30)
    best = divide(limit, some)
    for lane in after:
        off = abs(lane.given - best[lane.name])
        assert off <= max(0.002, 0.02 * limit), (lane, best)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_no_share(seed: int) -> None:
    """Two minutes of demands that vary by a fifth, while R does not suffice."""
    noise = [random.Random(seed).uniform(-1, 1) for _ in range(240)]
    some = [orders(demand=60.0), reaper(demand=50.0, limit=80)]
    some, memory, now, _ = settled(100, some, LanesMemory(), 0.0, 30)
    changes = 0
    for one in noise:
        some = [replace(some[0], demand=60.0 * (1 + 0.2 * one)), *some[1:]]
        some, memory, now, moved = settled(100, some, memory, now, 1)
        changes += moved["orders"]
    assert changes <= 2 * 120 / HOLD_SECONDS


def test_a_lane_is_moved_at_most_once_in_five_seconds_unless_somebody_more_important_is_short() -> None:
    some = [Lane("a", 100, demand=50.0), Lane("b", 100, demand=50.0)]
    some, memory, now, _ = settled(100, some, LanesMemory(), 0.0, 30)
    told_at = []
    for tick in range(120):  # demands that turn round every second
        high, low = (90.0, 5.0) if tick // 2 % 2 else (5.0, 90.0)
        some = [replace(some[0], demand=high), replace(some[1], demand=low)]
        some, memory, now, moved = settled(100, some, memory, now, 1)
        told_at += [now] if moved["a"] else []
    apart = [b - a for a, b in itertools.pairwise(told_at)]
    assert all(gap >= SETTLE_SECONDS for gap in apart)


def test_a_burst_of_the_higher_priority_does_not_wait_for_that() -> None:
    some = [orders(demand=0.0), reaper(demand=50.0, limit=100)]
    some, memory, now, _ = settled(100, some, LanesMemory(), 0.0, 40)
    some = [some[0], replace(some[1], demand=100.0)]
    some, memory, now, moved = settled(100, some, memory, now, 3)
    assert moved["reaper"]
    some = [replace(some[0], demand=500.0), some[1]]
    some, memory, now, _ = settled(100, some, memory, now, 3)
    assert {lane.name: lane.given for lane in some} == {"orders": 90, "reaper": 10}


def test_the_demand_of_a_backlog_counts_as_at_its_highest_until_it_is_gone() -> None:
    some = [orders(demand=90.0, backlog=True), reaper(demand=50.0)]
    some, memory, now, _ = settled(100, some, LanesMemory(), 0.0, 20)
    given = some[0].given
    some = [replace(some[0], demand=20.0), some[1]]
    some, memory, now, _ = settled(100, some, memory, now, 100)
    assert some[0].given == given == pytest.approx(90)
    some = [replace(some[0], backlog=False), some[1]]
    some, memory, now, _ = settled(100, some, memory, now, 40)
    assert some[1].given == pytest.approx(50, abs=2)


def test_an_unknown_demand_counts_while_it_is_unknown_and_no_longer() -> None:
    some = [orders(demand=10.0, backlog=True), effects(limit=100, demand=90.0)]
    some, memory, now, _ = settled(100, some, LanesMemory(), 0.0, 20)
    assert some[1].given == pytest.approx(89, abs=2)
    some = [replace(some[0], demand=None), some[1]]
    some, memory, now, _ = settled(100, some, memory, now, 10)
    assert some[0].given >= 98
    some = [replace(some[0], demand=10.0), some[1]]
    some, memory, now, _ = settled(100, some, memory, now, 20)
    assert some[1].given == pytest.approx(89, abs=2)


def test_a_lower_r_is_kept_at_once_and_a_clock_that_is_set_back_does_no_harm() -> None:
    some = [orders(demand=100.0), reaper(demand=50.0)]
    some, memory, now, _ = settled(100, some, LanesMemory(), 1_000.0, 20)
    told, _ = share(99.5, some, memory, now - 500)
    assert sum(told.values()) <= 99.5
    some, _, _, _ = settled(60, some, memory, now - 500, 3)
    assert sum(lane.given for lane in some) <= 60
