"""Medians and ratios of interleaved rounds. Pure.

Why the ratio is taken within each round, and the median after that: on a shared machine a disk or a neighbour is
slow for seconds. What runs side by side suffers alike, so the ratio of one round says more than two medians do.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds with the lowest and the highest."""

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {name: significant(value, 5) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast `over` was as `under`, round by round."""

    over: str
    under: str
    per_round: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        return spread(self.per_round)

    def to_json(self) -> dict[str, Any]:
        rounds = [significant(value, 4) for value in self.per_round]
        return {"over": self.over, "under": self.under, "per_round": rounds, **self.spread.to_json()}


def spread(values: Iterable[float]) -> Spread:
    """Raises ValueError without values.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0)
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no rounds")
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def ratio(rounds: Sequence[Mapping[str, float]], over: str, under: str) -> Ratio:
    """Rates of one round are in one mapping. Raises KeyError if a round lacks one of the two.

    >>> ratio([{"a": 2.0, "d": 20.0}, {"a": 1.0, "d": 30.0}, {"a": 4.0, "d": 48.0}], "d", "a").spread
    Spread(median=12.0, low=10.0, high=30.0)
    """
    return Ratio(over, under, tuple(one[over] / one[under] for one in rounds))


def with_best(
    rounds: Sequence[Mapping[str, float]], name: str, among: Sequence[str]
) -> list[dict[str, float]]:
    """The rounds with one more entry each: the highest of `among` in that round."""
    return [{**one, name: max(one[candidate] for candidate in among)} for one in rounds]


def significant(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits.

    >>> significant(1234.5, 2), significant(0.012345, 3)
    (1200.0, 0.0123)
    """
    return float(f"{value:.{digits}g}")


def orders_for(rate_per_second: float, seconds: float, *, least: int, most: int) -> int:
    """How many orders take about `seconds`: a round number, the same in every round.

    >>> orders_for(1234.0, 3.0, least=100, most=50_000)
    3700
    """
    return min(most, max(least, int(significant(rate_per_second * seconds, 2))))
