"""A run in a few numbers. Rates are orders per second, durations seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from peakclip_operator.simulation.optimum import Stretch, ideal_backlog, stretches
from peakclip_operator.simulation.run import Run

_HEARD_SECONDS = 2.0  # another R is in effect in less than this


@dataclass(frozen=True, slots=True)
class Score:
    """What a run is judged by."""

    scenario: str
    autoscaler: str
    seed: int
    drain_seconds: float
    """Time with a backlog: from the first order that waits until what waits is work in hand again."""
    drained: bool
    """False: there was one when the run ended."""
    optimum_seconds: float
    """The same with an ideal pool."""
    optimum_drained: bool
    drain_rate: float | None
    """Orders started per second while there was a backlog; None: there was none."""
    worst_rate: int
    """Most starts in any sliding second."""
    over_r: int
    """Starts above R, over whole seconds."""
    seconds_over: int
    """Whole seconds with more than R and the burst."""
    worker_seconds: float
    """Starting and draining workers are paid for, too."""
    most_workers: int
    scale_changes: int
    reversals: int
    """How often a change went the other way than the one before."""
    worst_lag: int
    slo_misses: int
    finished: int
    left: int
    """Not finished at the end."""
    failed: int


def score(run: Run) -> Score:
    limit, dt = run.scenario.limit_per_second, run.step_seconds
    mine = stretches(run.waiting, limit)
    best = stretches(ideal_backlog(run), limit) if mine else []
    changes = scale_changes(run)
    return Score(
        scenario=run.scenario.name,
        autoscaler=run.autoscaler,
        seed=run.seed,
        drain_seconds=round(_steps(mine) * dt, 3),
        drained=all(stretch.over for stretch in mine),
        optimum_seconds=round(_steps(best) * dt, 3),
        optimum_drained=all(stretch.over for stretch in best),
        drain_rate=_drain_rate(run, mine),
        worst_rate=worst_rate(run),
        over_r=sum(max(0, round(row.started - _allowed(run, row.second))) for row in run.rows),
        seconds_over=sum(row.started > _allowed(run, row.second) + run.scenario.burst for row in run.rows),
        worker_seconds=round(run.worker_seconds, 1),
        most_workers=max((row.existing for row in run.rows), default=0),
        scale_changes=len(changes),
        reversals=reversals(changes),
        worst_lag=max(run.waiting, default=0),
        slo_misses=slo_misses(run),
        finished=run.finished,
        left=run.waiting[-1] if run.waiting else 0,
        failed=run.failed,
    )


def _allowed(run: Run, second: int) -> float:
    """R in the second that ended then; a lower one counts when every worker must have heard of it."""
    return max(run.scenario.limit_at(second - 1), run.scenario.limit_at(second - 1 - _HEARD_SECONDS))


def scale_changes(run: Run) -> list[int]:
    """By how much the wanted number changed, each time that it did."""
    return [wanted - before for _, before, wanted, _ in run.looks if wanted is not None and wanted != before]


def reversals(changes: Sequence[int]) -> int:
    """4, 2, -3, 1: two of them, down after up and up after down."""
    return sum((one > 0) != (other > 0) for one, other in pairwise(changes))


def worst_rate(run: Run) -> int:
    """Most starts in any sliding second, as far as the steps can tell."""
    return max(windows(run), default=0)


def windows(run: Run) -> list[int]:
    """Starts in each sliding second, by the step in which it ends."""
    width = round(1 / run.step_seconds)
    sums = [0, *accumulate(run.starts)]
    return [sums[end] - sums[max(0, end - width)] for end in range(1, len(sums))]


def slo_misses(run: Run) -> int:
    """Orders that waited for longer than the scenario allows, those that still wait among them. First come, first
    served: an order that failed counts as if the last one in hand had."""
    width = round(run.scenario.slo_seconds / run.step_seconds)
    came = list(accumulate(run.arrivals))
    misses = served_before = 0
    for index, orders in enumerate(run.waiting):
        served = came[index] - orders
        if index >= width:
            misses += max(0, min(served, came[index - width]) - served_before)
        served_before = max(served, served_before)
    if len(came) > width:
        misses += max(0, came[-1 - width] - served_before)
    return misses


def _steps(found: Sequence[Stretch]) -> int:
    return sum(stretch.end - stretch.first for stretch in found)


def _drain_rate(run: Run, found: Sequence[Stretch]) -> float | None:
    steps = _steps(found)
    if not steps:
        return None
    started = sum(sum(run.starts[stretch.first : stretch.end]) for stretch in found)
    return round(started / (steps * run.step_seconds), 1)
