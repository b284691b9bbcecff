"""The three lanes of the worked numbers of `plan.lanes`, and lanes at random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from peakclip_operator.plan.lanes import Lane

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
