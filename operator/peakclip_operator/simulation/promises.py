"""What must hold in every run of a pool that obeys the limiter. Each promise is checked on what happened, not on what
the plan says of itself."""

from __future__ import annotations

from itertools import accumulate
from math import ceil, floor
from typing import NamedTuple

from peakclip.limiter.grid import bound
from peakclip_operator.simulation.measure import reversals, scale_changes, windows
from peakclip_operator.simulation.optimum import backlog_of, started_by
from peakclip_operator.simulation.run import Run

SHARE = 0.95
"""A backlog that calls for R is drained at no less than this share of it."""
ROOM = 1.25
"""A database, and the largest number of workers, allow R if they can do so many times R."""
_SEES_SECONDS = (
    8.0  # the windows of the plan: an arrival, and a worker that became slower, are seen within this
)
_ARRIVAL_SECONDS = 2
_FEW = 5  # orders in a stabilization time that scatter by as much as they are
_MEASURED = 0.9  # the speed of workers whose work is even, measured for some seconds, is as exact as this
_LONGEST_START = 1.2  # times the mean: what the fleet draws
_KEPT_SECONDS = 2.0  # the first looks of a new controller that has its memory


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
    most = bound(scenario.greatest_limit, scenario.burst)
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
    """An order is started within the catch-up time, or as soon as a pool had come to it that has always done 95 % of R:
    whichever is later, and `grace` later still, for what nobody can know beforehand.

    R is less here where the largest number of workers, or the room for them, does not do it. Not judged: runs with a
    database that cannot do R with a quarter to spare, and those whose workers never start.
    """
    scenario, per_second = run.scenario, round(1 / run.step_seconds)
    hand = backlog_of(scenario.limit_per_second)  # work in hand
    if max(run.waiting, default=0) <= hand or not allows_r(run):
        return []
    later = round(grace(run) * per_second)
    in_time = round(scenario.catch_up_seconds * per_second)
    came = [0] * in_time + list(accumulate(run.arrivals))
    latest = 0.0, 0
    for index, (due, best, orders) in enumerate(
        zip(came, started_by(run, SHARE), run.waiting[later:], strict=False)
    ):
        short = min(due, best) - (came[index + later + in_time] - orders)
        if short > latest[0]:
            latest = short, index + later
    if latest[0] <= hand:
        return []
    words = f"{latest[0]:.0f} orders are late, by the catch-up time of {scenario.catch_up_seconds:g} s and"
    return [Violation("catch-up", latest[1] / per_second, f"{words} {grace(run):.1f} s of grace")]


def allows_r(run: Run) -> bool:
    scenario = run.scenario
    if scenario.never_start or scenario.database.away:
        return False
    least = min((at for _, at in scenario.database.capacities), default=scenario.database.capacity_per_second)
    return min(least, scenario.database.capacity_per_second) >= ROOM * scenario.greatest_limit


def grace(run: Run) -> float:
    """A worker's start; what has to be seen before it can be known; the seconds in which nothing was seen or nobody
    decided; and what a dead worker had in hand."""
    scenario = run.scenario
    start = _LONGEST_START * scenario.start_seconds + 2 * scenario.tick_seconds
    longest = max(seconds for _, seconds in scenario.work)
    sees = _SEES_SECONDS + longest + scenario.telemetry_late  # a worker tells of its work when it is done
    unseen = sum(until - since for since, until in (*scenario.lag_unknown, *scenario.telemetry_out))
    unseen += sum(restart.seconds for restart in scenario.restarts)
    deaths = len(scenario.crashes)
    if scenario.crashes_per_hour:
        deaths += 1 + round(scenario.crashes_per_hour * scenario.max_replicas * scenario.seconds / 3600)
    happens = len(scenario.work) + len(scenario.limits)  # the beginning is one of these
    return happens * (sees + start) + unseen + deaths * (scenario.ack_wait_seconds + start)


def _oscillation(run: Run) -> list[Violation]:
    """One change of direction for all that the scenario has in store (`turns`), and one in two stabilization times,
    since arrivals scatter: nobody is given back sooner, so that four times as many are possible. A stabilization time
    that brings one to four orders counts twice: each of them is a step by itself."""
    scenario = run.scenario
    width = round(scenario.stabilization_seconds / run.step_seconds)
    times = [sum(run.arrivals[at : at + width]) for at in range(0, len(run.arrivals), width)]
    allowed = scenario.turns + (len(times) + sum(0 < orders < _FEW for orders in times)) // 2
    count = reversals(scale_changes(run))
    if count <= allowed:
        return []
    at = next(at for at, before, wanted, _ in reversed(run.looks) if wanted not in (None, before))
    return [Violation("oscillation", at, f"{count} changes of direction, and {allowed} are allowed")]


def _unknown(run: Run) -> list[Violation]:
    for at, before, wanted, known in run.looks:
        if not known and wanted is not None and wanted < before:
            return [Violation("unknown", at, f"{before} -> {wanted} workers while the lag was unknown")]
    return []


def _restart(run: Run) -> list[Violation]:
    """The first looks of a new controller, and what follows its hold if it has lost its memory: then nobody is given
    back whom R could use, as far as some seconds can measure that. None adds more than one whom neither a backlog nor
    the arrivals call for, by what truly came and was done meanwhile."""
    scenario, found, spec = run.scenario, [], run.scenario.spec()
    lost = min(spec.worker_settle_seconds + spec.panic_window_seconds, scenario.stabilization_seconds)
    for restart in scenario.restarts:
        back = restart.at + restart.seconds
        ends = back + (_KEPT_SECONDS if restart.memory_kept else lost)
        looks = [look for look in run.looks if back <= look[0] <= ends and look[2] is not None]
        if not looks:
            continue
        before = looks[0][1]
        wanted = [number for _, _, number, _ in looks if number is not None]
        last = looks[-1][0]
        one = scenario.batch / scenario.work_seconds(back)
        if before:  # a database that is behind looks like slow workers until more of them change nothing
            one = min(one, scenario.database.most(back) / before)
        quickest = scenario.batch / min(scenario.work_seconds(back), scenario.work_seconds(last))
        rate = min(run.rate_at(back), scenario.limit_at(back), scenario.limit_at(last))
        exact = _MEASURED - scenario.work_noise / 2
        useful = floor(exact * rate / (quickest * spec.utilization))
        told = not any(since <= last and until >= back for since, until in scenario.telemetry_out)
        if not restart.memory_kept and told and min(wanted) < min(before, useful) - 1:
            found.append(Violation("restart", back, f"{before} -> {min(wanted)} workers after a restart"))
        # The first guess is all that is known where little was seen.
        if not restart.memory_kept or restart.at < spec.worker_settle_seconds + spec.panic_window_seconds:
            one = min(one, scenario.batch / scenario.prior_work_seconds)
        waiting = max(run.waiting[int(back / run.step_seconds) : round(last / run.step_seconds) + 1])
        start = _LONGEST_START * max(scenario.start_seconds, scenario.told_start_seconds)
        come = _most_arrivals(run, last)
        demand = come / spec.utilization + (waiting + come * start) / scenario.catch_up_seconds
        called_for = ceil(demand * (1 + spec.spare) / (one * exact))
        if max(wanted) > max(before, called_for) + 1 and waiting < scenario.limit_at(back):
            found.append(Violation("restart", back, f"{before} -> {max(wanted)} workers after a restart"))
    return found


def _most_arrivals(run: Run, until: float) -> float:
    """Orders per second over two seconds, the most of the last ten."""
    per_second = round(1 / run.step_seconds)
    last, width = round(until * per_second), _ARRIVAL_SECONDS * per_second
    ends = range(max(width, last - 10 * per_second), last + 1)
    return max((sum(run.arrivals[end - width : end]) for end in ends), default=0) / _ARRIVAL_SECONDS
