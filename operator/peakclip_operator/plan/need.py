"""The number of workers that a tick calls for, before stabilization and limits of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from peakclip_operator.plan.decision import Memory
from peakclip_operator.plan.effect import ON_PACE
from peakclip_operator.plan.observation import Lag
from peakclip_operator.plan.spec import PoolSpec

_BACKLOG_SECONDS = 1.0  # what the present workers do in this time is no backlog


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages per second; None is unknown."""

    arrival: float | None
    """Over the panic window."""
    stable_arrival: float | None
    recent_arrival: float | None
    seen_seconds: float
    """How much of the panic window has been seen."""
    drain: float | None
    per_worker: float


@dataclass(frozen=True, slots=True)
class Present:
    """Where the pool stands before this decision."""

    workers: int
    known: bool
    """It is the number that was decided or seen, and not the fewest for want of one."""
    ceiling: int
    useful: int
    """The ceiling if all of R were in force: workers up to here are kept for the time when it is again."""
    memory: Memory
    now: float
    guessing: bool
    """The rate of a worker is not what was measured but the first guess."""
    start_seconds: float
    ready: int | None
    """Workers that work; None is unknown."""
    stuck: int
    """Of the messages in flight, those that call for nobody more."""


@dataclass(frozen=True, slots=True)
class Need:
    workers: int
    binding: str
    backlog: bool
    at_limit: bool
    arrival: float | None = None
    """The arrivals that count."""
    demand: float | None = None
    want: float | None = None
    beyond_maximum: bool = False
    bounds: tuple[tuple[str, int], ...] = ()


def call_for(spec: PoolSpec, lag: Lag | None, rates: Rates, present: Present) -> Need:
    """The number of workers that this tick calls for, before stabilization."""
    current, ceiling, at_limit = present.workers, present.ceiling, present.memory.at_limit
    if lag is None:
        return Need(current, "unknown", backlog=at_limit, at_limit=at_limit)
    limit = spec.rate_per_second
    waiting = lag.total - present.stuck
    able = min(limit, current * rates.per_worker) if current else limit
    backlog = waiting - lag.in_flight >= max(1.0, able * _BACKLOG_SECONDS)
    if spec.paused:
        return Need(current, "paused", backlog=backlog, at_limit=at_limit and backlog)
    arrival = _arrival(spec, waiting, backlog, rates)
    demand = _demand(spec, waiting, arrival, present.start_seconds)
    # Without a history of arrivals (after a start or a gap) a long backlog may be the beginning of a burst, unless
    # somebody had a reason for more workers than the fewest.
    burst = present.known and current <= spec.min_replicas and 0 < limit * _BACKLOG_SECONDS <= waiting
    calls = burst if demand is None else demand >= limit > 0
    # What called for all of a small share has not called for all of a large one.
    before, share = present.memory.share, spec.share_per_second
    rose = before is not None and share is not None and share > before
    at_limit = backlog and (calls or (at_limit and not rose))
    if demand is None and not at_limit:
        first = min(spec.activation_replicas, ceiling) if lag.total and current == 0 else 0
        somebody = max(1 if lag.total and limit else 0, first, min(current, ceiling))
        return Need(somebody, "demand", backlog=backlog, at_limit=False, bounds=(("demand", somebody),))
    want = limit if at_limit or demand is None else min(limit, demand)
    exact = want * (1 + spec.spare) / rates.per_worker
    beyond = exact > spec.max_replicas * (1 + spec.tolerance)
    workers = max(ceil_of(exact), 1 if lag.total and limit else 0)
    binding = "limit" if want >= limit else "demand"
    bounds = [(binding, workers)]

    def bound(name: str, number: int) -> None:
        nonlocal workers, binding
        workers, binding = number, name
        bounds.append((name, number))

    if current < workers and exact <= current * (1 + spec.tolerance):
        workers = current
        bounds.append(("tolerance", current))
    if workers > current and present.guessing and _keeps_up(lag, rates, backlog):
        bound("keeping-up", current)
    if backlog and workers <= current and _falls_short(spec, present):
        bound("shortfall", current + 1)
        if present.guessing and rates.drain:
            # Workers that tell nothing of themselves: the ceiling is a guess, too.
            ceiling = _between(ceiling, workers, spec.max_replicas)
    elif backlog and workers < current:
        bound("catch-up", current)  # a worker less would only lengthen the drain
    if current == 0 and 0 < workers < spec.activation_replicas:
        bound("activation", spec.activation_replicas)
    if workers > ceiling:
        bound("maximum" if beyond else "ceiling", ceiling)
    if workers < spec.min_replicas:
        bound("minimum", spec.min_replicas)
    return Need(workers, binding, backlog, at_limit, arrival, demand, want, beyond, tuple(bounds))


def _keeps_up(lag: Lag, rates: Rates, backlog: bool) -> bool:
    """Batches that are never full tell of no speed; that those who are there do all that comes is seen without it. A
    guess adds nobody then."""
    if backlog or lag.ready or rates.drain is None or rates.arrival is None:
        return False
    return 0 < ON_PACE * rates.arrival <= rates.drain


def _falls_short(spec: PoolSpec, present: Present) -> bool:
    """These workers have long had enough to do and did too little of it, whatever their rate promises.

    What a worker does between two batches is in no busy second. One more at a time, and the ceiling holds.
    Twice the window: a moment's loss, seen through one window, is over by then. Where not all of them are there, one
    more would not come either.
    """
    since = present.memory.on_pace_at
    if since is None or (present.ready is not None and present.ready < present.workers):
        return False
    return present.now - since > 2 * spec.panic_window_seconds


def is_behind(spec: PoolSpec, lag: Lag | None, need: Need, rates: Rates) -> bool:
    """There is a backlog, and the pool is seen to do less than R or, where that would do, than what ends it in time.

    Without the second, an R far above the usual arrivals would let the backlog grow until it calls for all of R.
    """
    if lag is None or rates.drain is None or spec.paused or not need.backlog:
        return False
    in_time = (rates.arrival or 0.0) + lag.total / spec.catch_up_seconds
    goal = spec.rate_per_second if need.at_limit else min(spec.rate_per_second, in_time)
    return rates.drain < ON_PACE * goal


def _arrival(spec: PoolSpec, waiting: int, backlog: bool, rates: Rates) -> float | None:
    """The arrivals that the pool goes by.

    A calm pool goes by the longer window, which noise moves little. The shorter one counts when it shows far more or
    far less, when something waits, or when the longer one has not been seen yet. A burst that has just begun looks
    three times smaller over six seconds than over two. Those count, too, once more waits than R does within them.
    Worked number: 230 orders in the first second are 38/s over 6 s, for three workers; over 2 s they are 115/s, and
    call for all that R = 100 needs. Where little waits there is time to see two seconds, and where nothing does three:
    after a start or a gap one noisy second would add workers.
    """
    stable, short = rates.stable_arrival, rates.arrival
    if short is None or rates.recent_arrival is None:
        return short
    long = waiting >= spec.rate_per_second * _BACKLOG_SECONDS
    if not long and rates.seen_seconds < (
        spec.forecast_window_seconds if backlog else spec.panic_window_seconds / 2
    ):
        return None
    if stable is not None and not backlog:
        # Three standard deviations of what arrives by chance: at 0.4/s six seconds hold up to 7, and that is calm. Less
        # than usual is believed sooner: after a burst the longer window shows it for a minute, and nobody is sent home
        # for a quiet moment.
        chance = 3 * math.sqrt(stable / spec.panic_window_seconds)
        most = max(stable * spec.panic_threshold, stable + chance)
        if stable / spec.panic_threshold <= short <= most:
            return stable
        return short
    sudden = waiting > spec.rate_per_second * spec.forecast_window_seconds
    return max(short, rates.recent_arrival) if sudden else short


def _demand(spec: PoolSpec, waiting: int, arrival: float | None, start_seconds: float) -> float | None:
    """Messages per second that keep up with the arrivals and end the backlog within the catch-up time."""
    if arrival is None:
        return None
    catch_up = (waiting + arrival * start_seconds) / spec.catch_up_seconds
    return catch_up + arrival / spec.utilization


def ceil_of(value: float) -> int:
    return math.ceil(value - 1e-9)  # 5.0000000001 workers are five


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))
