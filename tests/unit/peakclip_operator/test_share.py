"""How the shares of a group move from what the lanes were told to the best division of R."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import effects, lanes, limits, milli, orders, quick, rates, reaper

from peakclip_operator.plan.lanes import HOLD_SECONDS, SETTLE_SECONDS, Lane, LanesMemory, divide, share


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


@pytest.mark.parametrize(
    ("seen", "backlog", "expected"),
    [
        ([(0, 50)], False, [(0, 50)]),
        ([(0, 500)], False, [(0, 100)]),  # it can use no more than its limit
        ([(0, 50), (1, 60)], False, [(1, 60)]),
        ([(0, 50), (1, 50)], False, [(1, 50)]),
        ([(0, 50), (1, 30), (2, 40)], False, [(0, 50), (2, 40)]),
        ([(0, 50), (9.999, 30)], False, [(0, 50), (9.999, 30)]),
        ([(0, 50), (10, 30)], False, [(10, 30)]),
        ([(0, 50), (2, 40), (11, 30)], False, [(2, 40), (11, 30)]),
        ([(0, 50), (2, 40), (3, 30)], True, [(0, 50), (2, 40), (3, 30)]),
        (
            [(0, 50), (2, 40), (11, 30)],
            True,
            [(0, 50), (2, 40), (11, 30)],
        ),  # a backlog: the highest, however old
        ([(0, 50), (2, 40), (20, 30)], True, [(0, 50), (20, 30)]),
        ([(0, 50), (5, None)], False, [(0, 50)]),
        ([(0, 50), (5, None), (9, 30)], False, [(0, 50), (9, 30)]),
        ([(100, 50), (40, 30)], False, [(40, 50), (40, 30)]),  # the clock was set back
        ([(100, 50), (40, None)], False, [(40, 50)]),
    ],
)
def test_a_demand_counts_for_ten_seconds_after_it_was_last_as_high(
    seen: Sequence[tuple[float, float | None]], backlog: bool, expected: Sequence[tuple[float, float]]
) -> None:
    memory = LanesMemory()
    for at, demand in seen:
        _, memory = share(100, [Lane("a", 100, demand=demand, backlog=backlog)], memory, at)
    assert memory.peaks == {"a": tuple((at, milli(rate)) for at, rate in expected)}
