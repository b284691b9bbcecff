"""Rates in windows of a run, and what of all rounds is told. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from benchmarks.stats import significant, spread

RATIO_GOAL: Final = 0.98  # of the baseline, afterwards
FIRST_SUCCESS_GOAL: Final = 2.0  # seconds
_SHORTEST_SECONDS: Final = 0.1  # what is over earlier has no rate meanwhile
_HARMS: Final = ("lost", "duplicated", "oversold", "undersold", "findings")


@dataclass(frozen=True, slots=True)
class Phases:
    """When what happened; epoch seconds."""

    began: float  # the baseline
    harmed: float  # the first blow: the baseline's end
    mended: float  # nothing holds the dependency back any more
    back: float  # it answered
    settled: float  # the beginning of "afterwards"
    ended: float
    whole: (
        float | None
    )  # R is in force again, which the controller may have lowered; None: it was not in time
    later: float  # the end of the last window, as long as "afterwards", which begins then


def rate_in(moments: Sequence[float], begin: float, end: float) -> float:
    """Events per second between two moments, of ascending `moments`.

    Commits come in batches: one batch more or less at an edge would be a percent. So what came up to a moment is read
    off the line between the commits before and after it, and silence counts as what it is.

    >>> rate_in([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0], 0.5, 3.5)
    2.0
    """
    if end <= begin:
        raise ValueError("the window ends before it begins")
    return (_count_until(moments, end) - _count_until(moments, begin)) / (end - begin)


def _count_until(moments: Sequence[float], at: float) -> float:
    """How many by then; between two moments a part of those of the later one."""
    before = bisect_right(moments, at)
    if before in (0, len(moments)):
        return float(before)
    last, following = moments[before - 1], moments[before]
    together = bisect_right(moments, following) - before
    return before + together * (at - last) / (following - last)


def first_success_seconds(moments: Sequence[float], phases: Phases) -> float | None:
    """From the dependency's return to the first event; 0 for one that was quicker than who asked whether it is back.
    None: there was none."""
    place = bisect_left(moments, phases.mended)
    return None if place == len(moments) else max(0.0, moments[place] - phases.back)


def longest_pause_seconds(moments: Sequence[float], begin: float, end: float) -> float:
    """The longest time without an event: a rate that is too low is one long pause, or many short ones.

    >>> longest_pause_seconds([0.0, 1.0, 1.5, 4.0, 4.5], 1.0, 4.5)
    2.5
    """
    edges = [begin, *moments[bisect_left(moments, begin) : bisect_right(moments, end)], end]
    return max(later - earlier for earlier, later in pairwise(edges))


def row(
    moments: Sequence[float], accepted: Sequence[float], phases: Phases, successes: Sequence[float]
) -> dict[str, Any]:
    """What is kept of one scenario of one round: of the drain by `moments` of commits, of accepting by those of 202s;
    `successes`: commits that the dead have no part in. All ascending."""
    baseline = rate_in(moments, phases.began, phases.harmed)
    after = rate_in(moments, phases.settled, phases.ended)
    later = rate_in(moments, phases.later - (phases.ended - phases.settled), phases.later)
    first = first_success_seconds(successes, phases)
    return {
        "baseline_per_second": significant(baseline, 5),
        "during_per_second": significant(rate_in(moments, phases.harmed, phases.settled), 5),
        "after_per_second": significant(after, 5),
        "ratio": round(after / baseline, 4) if baseline else None,
        "later_per_second": significant(later, 5),
        "later_ratio": round(later / baseline, 4) if baseline else None,
        "longest_pause_seconds": round(longest_pause_seconds(moments, phases.settled, phases.later), 3),
        "whole_seconds": None if phases.whole is None else round(max(0.0, phases.whole - phases.back), 1),
        "first_success_seconds": None if first is None else round(first, 3),
        "accepted_before_per_second": significant(rate_in(accepted, phases.began, phases.harmed), 5),
        "accepted_during_per_second": significant(rate_in(accepted, phases.harmed, phases.back), 5)
        if phases.back - phases.harmed >= _SHORTEST_SECONDS
        else None,
        "harmed_seconds": round(phases.back - phases.harmed, 2),
    }


def summary(rounds: Sequence[Mapping[str, Any]], checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of each scenario, and what the judges found in all rounds together."""
    scenarios: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(one["design"] for one in rounds):
        mine = [one for one in rounds if one["design"] == name]
        keys = [key for key in mine[0] if key not in ("round", "design")]
        values = {key: [one[key] for one in mine if one[key] is not None] for key in keys}
        scenarios[name] = {key: spread(found).to_json() if found else None for key, found in values.items()}
        # One round without any success has no time that a median could be taken of.
        first = all(one["first_success_seconds"] is not None for one in mine) and (
            scenarios[name]["first_success_seconds"]["median"] <= FIRST_SUCCESS_GOAL
        )
        for told, key in (("reached", "ratio"), ("reached_later", "later_ratio")):
            scenarios[name][told] = first and scenarios[name][key]["median"] >= RATIO_GOAL
    return {
        "scenarios": scenarios,
        "judged": {
            "accepted": sum(one["accepted"] for one in checks),
            **{harm: sum(one[harm] for one in checks) for harm in _HARMS},
        },
    }
