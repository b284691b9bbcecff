"""Which promises a run broke. What can be seen at once is noted by `world` while it happens.

bound     starts of any sliding second, by true time and by the time that the database keeps, over all workers and
          over all lanes: at most R + burst; where the rate changes the largest of the bounds whose starts are in it
closed    no start where no rate was in force, or 0
once      every message is in the database, and nothing was acknowledged before it was there
mean      at least 0.97 R − (chunk + 1) starts in every stretch of 2 s or more in which work waits, workers are enough
          and nothing was broken for `_CALM_SECONDS` before; a rate that returns has 3 s more, a full queue 1 s
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

from peakclip.limiter import grid
from peakclip.limiter.cursor import LOOK_AHEAD_SECONDS
from peakclip_operator.simulation.events.broker import EPOCH
from peakclip_operator.simulation.events.conditions import Conditions, Happening, Kind, Lane
from peakclip_operator.simulation.events.record import Started
from peakclip_operator.simulation.events.truth import InForce, Truth
from peakclip_operator.simulation.events.world import World, pace_subject

LEAST_SHARE: Final = 0.97
_CALM_SECONDS: Final = 3.5  # after a disturbance: tickets are held up to 3 s ahead
_WARM_SECONDS: Final = 2.0
_LEAST_STRETCH_SECONDS: Final = 2.0
_MOST_ATTEMPTS: Final = 3  # of a message
_EDGE_SECONDS: Final = 0.05
_SPARE: Final = 1.4  # so many times R must the workers be able to do
_CLOCK_ERROR_SECONDS: Final = 0.03  # of a worker, while it still starts anything at the bursts drawn here


@dataclass(slots=True)
class Judgement:
    most: int = 0  # starts in any sliding second
    fullest: float = 0.0  # that second as a share of its bound
    calm_seconds: float = 0.0  # in which the mean was judged
    worst_share: float | None = None  # of R, over those stretches


def judge(world: World) -> Judgement:
    """Notes every violation in the record of the world."""
    found = Judgement()
    conditions = world.conditions
    truths = {
        lane.name: Truth(world.broker.paces.get(pace_subject(lane.name), ())) for lane in conditions.lanes
    }
    together: list[tuple[float, int, int]] = []
    for number, lane in enumerate(conditions.lanes):
        starts = world.record.starts[lane.name]
        bounds = [_bound_of(world, lane, one, truths[lane.name]) for one in starts]
        for by, times in (
            ("true time", [s.true for s in starts]),
            ("the database", [s.said for s in starts]),
        ):
            rows = sorted(zip(times, [s.count for s in starts], bounds, strict=True))
            _judge_seconds(world, f"{lane.name} by {by}", rows, found)
        together += [(s.true, s.count, b) for s, b in zip(starts, bounds, strict=True)]
        _judge_messages(world, lane)
        _judge_mean(world, number, truths[lane.name], found)
        highest = max((one.bound for one in truths[lane.name].stretches), default=0)
        for worker in world.workers:
            if worker.lane is lane and worker.limiter.starts_max_sliding_second > highest:
                world.record.wrong(f"{worker.name} tells of a second above {highest}")
    if len(conditions.lanes) > 1:
        _judge_lanes(world, truths)
    return found


def _bound_of(world: World, lane: Lane, one: Started, truth: Truth) -> int:
    """The largest bound that may be in force at a start."""
    stretches = truth.around(one.server, _CLOCK_ERROR_SECONDS + world.conditions.clocks_apart)
    bound = max((each.bound for each in stretches), default=0)
    if bound == 0:
        world.record.wrong(f"{lane.name} starts {one.count} at {one.true:.6f}, where no rate is in force")
    return bound


def _judge_seconds(world: World, where: str, rows: list[tuple[float, int, int]], found: Judgement) -> None:
    """`rows`: time, starts, bound at that time; ascending."""
    extra = world.conditions.clocks_apart if "true" in where else 0.0
    for time, sum_, bound in seconds_of(rows):
        found.most = max(found.most, sum_)
        if bound:
            found.fullest = max(found.fullest, sum_ / bound)
        # A clock that jumps ahead brings slots nearer: that many more are due in one true second.
        if sum_ > bound + ceil(extra * bound):
            world.record.wrong(f"{sum_} starts in the second up to {time:.6f}, allowed {bound}: {where}")
            return


def seconds_of(rows: Iterable[tuple[float, int, int]]) -> Iterator[tuple[float, int, int]]:
    """For each start the half-open second that ends with it: time, starts, and the largest bound of those in it."""
    inside: deque[tuple[float, int, int]] = deque()
    largest: deque[tuple[float, int, int]] = deque()  # bounds that no later one reaches
    total = 0
    for row in rows:
        inside.append(row)
        total += row[1]
        while largest and largest[-1][2] <= row[2]:
            largest.pop()
        largest.append(row)
        while inside[0][0] <= row[0] - 1.0:
            total -= inside.popleft()[1]
        while largest[0][0] <= row[0] - 1.0:
            largest.popleft()
        yield row[0], total, largest[0][2]


def _judge_lanes(world: World, truths: dict[str, Truth]) -> None:
    """All lanes together: the sum of what each may have."""
    rows = sorted((one.true, one.count, 0) for starts in world.record.starts.values() for one in starts)
    highest = sum(max((one.bound for one in truth.stretches), default=0) for truth in truths.values())
    for time, sum_, _ in seconds_of(rows):
        if sum_ > highest:
            world.record.wrong(
                f"{sum_} starts of all lanes in the second up to {time:.6f}, allowed {highest}"
            )
            return


def _judge_messages(world: World, lane: Lane) -> None:
    queue, commits = world.broker.queues[lane.name], world.record.commits[lane.name]
    lost = [seq for seq in range(1, len(queue.stored) + 1) if seq not in commits]
    if lost and not queue.unfinished:
        world.record.wrong(f"{lane.name} has lost {len(lost)}: {lost[:5]}")
    acked = [seq for seq in queue.finished if seq not in commits]
    if acked:
        world.record.wrong(
            f"{lane.name} acknowledged {len(acked)} that the database does not have: {acked[:5]}"
        )


# -- the mean ----------------------------------------------------------------------------------------------


def _judge_mean(world: World, number: int, truth: Truth, found: Judgement) -> None:
    conditions = world.conditions
    lane = conditions.lanes[number]
    if not conditions.calm:
        return
    starts = world.record.starts[lane.name]
    times = [one.true for one in starts]
    for in_force in truth.stretches:
        if in_force.rate == 0 or not _enough(conditions, number, in_force):
            continue
        for begin, end in _calm(world, number, in_force, _returns(in_force, truth.stretches)):
            count = sum(one.count for one in starts[bisect_left(times, begin) : bisect_left(times, end)])
            chunk = grid.chunk(grid.rate_milli(in_force.rate), in_force.burst)
            due = in_force.rate * (end - begin)
            found.calm_seconds += end - begin
            if due >= 20:
                found.worst_share = min(found.worst_share or 9.0, count / due)
            if count < LEAST_SHARE * due - chunk - 1:
                world.record.wrong(
                    f"{lane.name} starts {count} instead of {due:.1f} from {begin:.3f} to {end:.3f}: work waits, "
                    "workers are enough, and nothing is broken"
                )


def _enough(conditions: Conditions, number: int, in_force: InForce) -> bool:
    """Even without those that leave, the workers can do well more than the rate."""
    lane = conditions.lanes[number]
    leaving = sum(one.kind in (Kind.TERM, Kind.KILL) and one.lane == number for one in conditions.happenings)
    chunk = grid.chunk(grid.rate_milli(in_force.rate), in_force.burst)
    batch = lane.work_seconds + 8 * conditions.latency + 10 * conditions.lateness + 0.001
    rounds = _MOST_ATTEMPTS if lane.fail_chance else 1  # what fails is worked on again in batches of its own
    return (lane.workers - leaving) * chunk / batch / rounds >= _SPARE * in_force.rate


def _returns(in_force: InForce, stretches: list[InForce]) -> bool:
    """The same rate was in force a moment ago: numbers taken ahead then were thrown away, and are not given again."""
    ahead = in_force.from_time - LOOK_AHEAD_SECONDS
    return any(one.rate == in_force.rate and ahead <= one.until <= in_force.from_time for one in stretches)


def _calm(world: World, number: int, in_force: InForce, returns: bool) -> Iterator[tuple[float, float]]:
    """Stretches of true seconds in which the rate has to be reached."""
    conditions, queue = world.conditions, world.broker.queues[world.conditions.lanes[number].name]
    apart = conditions.clocks_apart + _EDGE_SECONDS
    begin = max(_WARM_SECONDS, in_force.from_time - EPOCH + apart + (LOOK_AHEAD_SECONDS if returns else 0.0))
    end = min(conditions.seconds, in_force.until - EPOCH - apart)
    broken = sorted(
        _disturbed(one) for one in conditions.happenings if one.lane == number or _is_everybodys(one)
    )
    changes = [*queue.changes, (conditions.seconds, False)]
    for (since, there), (until, _) in pairwise(changes):
        if there:
            # A queue that has just filled starts in the middle of a window; one that runs dry has its last in hand.
            first = since if since == 0 else since + 1.0
            yield from _without(max(begin, first), min(end, until - 0.5), broken)


def _is_everybodys(one: Happening) -> bool:
    return one.kind in (Kind.FORGET, Kind.REPLACE, Kind.MEMORY, Kind.DOWN, Kind.ELECT, Kind.FREEZE)


def _disturbed(one: Happening) -> tuple[float, float]:
    """What brings work or workers breaks nothing; a rate counts from its fence on, which `in_force` knows."""
    if one.kind in (Kind.ARRIVE, Kind.JOIN, Kind.RATE, Kind.EFFECTIVE, Kind.PAUSE, Kind.RESUME, Kind.HOLD):
        return (one.at, one.at)
    seconds = one.lasts if one.kind is Kind.SLOW else one.value if one.kind is not Kind.KILL else 0.0
    return (one.at - _EDGE_SECONDS, one.at + seconds + _CALM_SECONDS)


def _without(begin: float, end: float, broken: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    for from_time, until in broken:
        if from_time - begin >= _LEAST_STRETCH_SECONDS and from_time <= end:
            yield begin, from_time
        if until > from_time:
            begin = max(begin, until)
    if end - begin >= _LEAST_STRETCH_SECONDS:
        yield begin, end
