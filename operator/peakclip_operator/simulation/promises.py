"""What must hold in every run of a pool that obeys the limiter. Each promise is checked on what happened, not on what
the plan says of itself."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from peakclip.limiter.grid import bound
from peakclip_operator.simulation.measure import reversals, scale_changes, windows
from peakclip_operator.simulation.optimum import Stretch, ideal_end, stretches, workers_can
from peakclip_operator.simulation.run import Run

SHARE = 0.95
"""A backlog that calls for R is drained at no less than this share of it."""
ROOM = 1.25
"""A database, and the largest number of workers, allow R if they can do so many times R."""
_SEES_SECONDS = (
    8.0  # the windows of the plan: an arrival, and a worker that became slower, are seen within this
)
_RESTART_SECONDS = 2.0  # a new controller's first looks


class Violation(NamedTuple):
    """A promise that was not kept, and how it showed."""

    promise: str
    at: float
    words: str


def violations(run: Run) -> list[Violation]:
    """All that this run has broken."""
    return [
        *_rate(run),
        *_bounds(run),
        *_catch_up(run),
        *_oscillation(run),
        *_unknown(run),
        *_restart(run),
    ]


def _rate(run: Run) -> list[Violation]:
    """No sliding second holds more than R + burst starts; where a lower rate is in force, no more than that allows."""
    scenario, dt = run.scenario, run.step_seconds
    starts = windows(run)
    most = bound(scenario.limit_per_second, scenario.burst)
    worst = max(starts, default=0)
    if worst > most:
        at = starts.index(worst) * dt
        return [Violation("rate", at, f"{worst} starts in the second before, and R + burst is {most}")]
    if len(run.rates) == 1:
        return []
    return _rate_in_force(run, starts)


def _rate_in_force(run: Run, starts: list[int]) -> list[Violation]:
    dt, width = run.step_seconds, round(1 / run.step_seconds)
    slots, changes, rate = [], list(run.rates), 0.0
    for index in range(len(starts)):
        while changes and changes[0][0] <= index * dt + 1e-9:
            rate = changes.pop(0)[1]
        slots.append(rate * dt)
    sums = [0.0, *accumulate(slots)]
    for index, count in enumerate(starts):
        allowed = sums[index + 1] - sums[max(0, index + 1 - width)] + run.scenario.burst + 1
        if count > allowed + 1e-6:
            return [
                Violation("rate", index * dt, f"{count} starts in the second before, {allowed:.1f} allowed")
            ]
    return []


def _bounds(run: Run) -> list[Violation]:
    low, high = run.scenario.min_replicas, run.scenario.max_replicas
    for at, _, wanted, _ in run.looks:
        if wanted is not None and not low <= wanted <= high:
            return [Violation("bounds", at, f"{wanted} workers wanted, and {low} to {high} are allowed")]
    return []


def _catch_up(run: Run) -> list[Violation]:
    """A backlog is gone within the catch-up time, or as soon as 95 % of R have drained it, whichever is later.

    Not judged where something else than R decides: a database that cannot do R with a quarter to spare, fewer
    workers allowed than that takes, or workers that never start. What the pool cannot know of is added to the time:
    a worker's start, the seconds in which nothing was seen or nobody decided, what a dead worker had in hand.
    """
    scenario, dt = run.scenario, run.step_seconds
    found = []
    for stretch in stretches(run.waiting, scenario.limit_per_second):
        if not allows_r(run, stretch):
            continue
        end = ideal_end(run, stretch.first, SHARE)
        if end is None:
            continue  # arrivals beyond R, to the end of the run: there is nothing to hold it against
        first = stretch.first * dt
        in_time = max(scenario.catch_up_seconds, end * dt - first)
        allowed = in_time + grace(run, first, first + in_time)
        took = (stretch.end - stretch.first) * dt
        if took > allowed:
            more = "" if stretch.over else " and longer"
            words = f"a backlog for {took:.1f} s{more}, and {allowed:.1f} s are allowed"
            found.append(Violation("catch-up", first, words))
    return found


def allows_r(run: Run, stretch: Stretch) -> bool:
    scenario, dt = run.scenario, run.step_seconds
    if scenario.never_start or scenario.database.away:
        return False
    needed = ROOM * scenario.limit_per_second
    moments = [stretch.first * dt, *(at for at, _ in (*scenario.work, *scenario.database.capacities))]
    within = [at for at in moments if stretch.first * dt <= at <= stretch.end * dt]
    return all(min(scenario.database.most(at), workers_can(scenario, at)) >= needed for at in within)


def grace(run: Run, since: float, until: float) -> float:
    """What the time to catch up is longer by, for a backlog of this stretch."""
    scenario = run.scenario
    start = 1.2 * scenario.start_seconds + 2 * scenario.tick_seconds + 1.0
    blind = [*scenario.lag_unknown, *((one.at, one.at + one.seconds) for one in scenario.restarts)]
    unseen = sum(max(0.0, min(until, high) - max(since, low)) for low, high in blind)
    deaths = sum(since - scenario.ack_wait_seconds <= at <= until for at, _ in scenario.crashes)
    changes = sum(since - _SEES_SECONDS <= at <= until for at, _ in scenario.work if at > 0)
    if scenario.crashes_per_hour:
        deaths += 1 + round(scenario.crashes_per_hour * scenario.max_replicas * (until - since) / 3600)
    return start + _SEES_SECONDS * (1 + changes) + unseen + deaths * (scenario.ack_wait_seconds + start)


def _oscillation(run: Run) -> list[Violation]:
    count, allowed = reversals(scale_changes(run)), run.scenario.turns
    if count <= allowed:
        return []
    at = next(at for at, before, wanted, _ in reversed(run.looks) if wanted not in (None, before))
    return [Violation("oscillation", at, f"{count} changes of direction, and this calls for {allowed}")]


def _unknown(run: Run) -> list[Violation]:
    for at, before, wanted, known in run.looks:
        if not known and wanted is not None and wanted < before:
            return [Violation("unknown", at, f"{before} -> {wanted} workers while the lag was unknown")]
    return []


def _restart(run: Run) -> list[Violation]:
    """The first looks of a new controller: nobody is given back, and nobody is added whom no backlog calls for."""
    found = []
    for restart in run.scenario.restarts:
        back = restart.at + restart.seconds
        looks = [look for look in run.looks if back <= look[0] <= back + _RESTART_SECONDS]
        if not looks:
            continue
        before = looks[0][1]
        fewest = min((wanted for _, _, wanted, _ in looks if wanted is not None), default=before)
        if fewest < before:
            found.append(Violation("restart", back, f"{before} -> {fewest} workers after a restart"))
        most = max((wanted for _, _, wanted, _ in looks if wanted is not None), default=before)
        waiting = run.waiting[min(len(run.waiting) - 1, round(back / run.step_seconds))]
        if (
            most > before + 1
            and waiting <= run.scenario.limit_per_second
            and not _busier(run, restart.at, back)
        ):
            found.append(Violation("restart", back, f"{before} -> {most} workers after a restart"))
    return found


def _busier(run: Run, left: float, back: float) -> bool:
    """More orders came while nobody looked, and shortly after, than before."""
    per_second = round(1 / run.step_seconds)
    first, last = round(left) * per_second, round(back + _RESTART_SECONDS) * per_second
    before = run.arrivals[max(0, first - 10 * per_second) : first]
    during = run.arrivals[first:last]
    if not before or not during:
        return True
    mean = sum(before) / len(before)
    return sum(during) / len(during) > 1.3 * mean + 2 * run.step_seconds
