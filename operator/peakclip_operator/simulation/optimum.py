"""How soon a backlog can be gone: an ideal pool that loses no start, and what R, workers and database allow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from peakclip_operator.simulation.run import Run
from peakclip_operator.simulation.scenario import Scenario

_BACKLOG_SECONDS = 1.0
_BACKLOG_ORDERS = 10


class Stretch(NamedTuple):
    """A backlog from its first order to its end, as indices of steps. `over` is False if the run ended before."""

    first: int
    end: int
    over: bool


def backlog_of(limit_per_second: float) -> float:
    """So many orders are work in hand; more are a backlog: what R does in a second, and ten at least, since so few come
    together by chance. It is gone when it has fallen to half of that."""
    return max(_BACKLOG_ORDERS, limit_per_second * _BACKLOG_SECONDS)


def stretches(waiting: Sequence[int] | Sequence[float], limit_per_second: float) -> list[Stretch]:
    """The times with a backlog."""
    high = backlog_of(limit_per_second)
    if not waiting or max(waiting) <= high:
        return []
    low, first = high / 2, None
    found: list[Stretch] = []
    for index, orders in enumerate(waiting):
        if first is None:
            if orders > high:
                first = index
        elif orders <= low:
            found.append(Stretch(first, index, over=True))
            first = None
    if first is not None:
        found.append(Stretch(first, len(waiting), over=False))
    return found


def possible(scenario: Scenario, at: float) -> float:
    """Orders per second that R, the largest number of workers and the database allow at this time."""
    return min(scenario.limit_at(at), workers_can(scenario, at), scenario.database.most(at))


def workers_can(scenario: Scenario, at: float) -> float:
    """Orders per second of as many workers as there may be."""
    most = scenario.max_replicas if scenario.fits is None else min(scenario.max_replicas, scenario.fits)
    return most * scenario.batch / (scenario.work_seconds(at) * scenario.slower(most))


def ideal_backlog(run: Run) -> list[float]:
    """What would wait with an ideal pool: the smallest number of workers until a backlog has come and the time that a
    worker takes to start has passed; then all that is possible. It cools down as the scenario's pool may."""
    scenario, dt = run.scenario, run.step_seconds
    per_second = round(1 / dt)
    cold = min(scenario.limit_per_second, scenario.min_replicas * scenario.batch / scenario.work_seconds(0.0))
    waiting, warm_from, quiet_at, able = 0.0, None, 0, 0.0
    ideal: list[float] = []
    cool = round(scenario.stabilization_seconds * per_second)
    start = round(scenario.start_seconds * per_second)
    for index, came in enumerate(run.arrivals):
        if index % per_second == 0:
            able = possible(scenario, index * dt)
        waiting += came
        if waiting > cold * dt:
            quiet_at = index
            if warm_from is None:
                warm_from = index + start
        elif warm_from is not None and index - quiet_at > cool:
            warm_from = None
        warm = warm_from is not None and index >= warm_from
        waiting = max(0.0, waiting - (able if warm else min(able, cold)) * dt)
        ideal.append(waiting)
    return ideal


def started_by(run: Run, share: float) -> list[float]:
    """Orders that a pool had started by the end of each step that always did `share` of what is possible, and no more.

    First come, first served. Its workers are always there: how long they take to start is the caller's to add.
    """
    scenario, dt = run.scenario, run.step_seconds
    per_second = round(1 / dt)
    came = waiting = able = 0.0
    done: list[float] = []
    for index, orders in enumerate(run.arrivals):
        if index % per_second == 0:
            able = share * dt * possible(scenario, index * dt)
        came += orders
        waiting += orders - able
        if waiting < 0.0:
            waiting = 0.0
        done.append(came - waiting)
    return done
