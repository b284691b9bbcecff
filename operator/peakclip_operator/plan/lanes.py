"""How pools that write to one database share its R: `share(limit, lanes, memory, now) -> (rate per lane, memory)`.

Two questions, each with its own answer. How R is best divided (`divide`): in turns, until nothing is left,

    1. a foot for everybody            R/100 each, or a tenth of R by all: the first message finds an open door
    2. guarantees                      min(guarantee, demand), in proportion where they are together more than R
    3. demand, by priority             min(own limit, demand), by weight inside a priority
    4. demand and a quarter, by priority   so that noise throttles nobody while there is R to spare
    5. own limit, by priority          what is left is handed out ahead: it is there when the burst comes

Worked numbers, R = 100: orders (priority 10, limit 100), effects (5, limit 60), reaper (0, limit 50, guarantee 10).
All idle: 98, 1, 1: the feet, and all the rest is ahead where it matters most.
The reaper alone has 5,000 to do (demand 50): feet, guarantee 10, demand 50; ahead: orders 49. 49, 1, 50.
Then 10,000 orders (demand 2,400): guarantee 10 for the reaper, 1 for effects, 89 for orders.

And how to get there (`share`): a change of a lane's rate is in force some seconds after it was written, so for each
lane `committed` says the most that is in force for it before another change could be. Who gets less is told first;
more is given only out of R - sum of max(committed, given), so that at no moment and in no order of writes the rates in
force exceed R. Worked numbers: orders 49 -> 89, reaper 50 -> 10. First tick: the reaper is told 10 and orders stay at
49, since 50 + 49 + 1 are in force. Once no raise written now could overtake the reaper's change, its `committed` is 10
and orders are told 89. With a fence of 1.3 s, and another look 0.35 s after the reaper was told, orders have them 1.7 s
after the first tick.

The bursts are the lanes' own: in any sliding second at most R + the sum of the bursts start, and since no start is
later than 50 ms after its slot, never more than 1.06 * R + 2 for each lane. All in thousandths of a message per second,
in whole numbers: the sum is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

HOLD_SECONDS: Final = 10.0
"""A demand counts for so long after it was last as high: noise moves nothing."""
SETTLE_SECONDS: Final = 5.0
"""From one change of a lane to the next, unless a guarantee or a higher priority is short."""
_AHEAD: Final = 1.25  # of the demand
_FOOT: Final = 100  # R/100 for a lane that has nothing else
_FEET: Final = 10  # but no more than R/10 for all of them
_FINE: Final = 1 << 30  # parts of a unit of weight, for the level in `_fill`
"""Above the greatest weight, a guarantee of 100,000,000 thousandths: one step of the level is then less than one of
them to every lane."""
_MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Lane:
    """A pool of the group. Rates are messages per second."""

    name: str
    limit: float
    """Of its own: it can use no more."""
    priority: int = 0
    """Higher goes first."""
    weight: int = 1
    """Share of what its priority gets, at least 1."""
    guarantee: float = 0.0
    """It has this much whenever it has a use for it, whatever the others want."""
    demand: float | None = None
    """What it could use: arrivals, and its backlog over the time to catch up. None: unknown, so as much as it may."""
    backlog: bool = False
    """While there is one the demand counts as it was at its highest: it would fall with every message done."""
    given: float = 0.0
    """What it was told last."""
    committed: float = 0.0
    """The most that is in force for it at any moment from which on another change could be; at least `given`."""


@dataclass(frozen=True, slots=True)
class LanesMemory:
    peaks: Mapping[str, tuple[tuple[float, int], ...]] = field(default_factory=dict)
    """When which demand was seen, in thousandths; falling numbers only."""
    moved: Mapping[str, float] = field(default_factory=dict)
    """When the lane was last told another rate."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A lane in thousandths."""

    lane: Lane
    limit: int
    guarantee: int
    demand: int
    given: int
    committed: int


def divide(limit: float, lanes: Sequence[Lane]) -> dict[str, float]:
    """The best division of R, wherever the lanes stand now."""
    parts = [
        _part(lane, None if lane.demand is None else _milli(min(lane.demand, lane.limit))) for lane in lanes
    ]
    return {name: rate / _MILLI for name, rate in _divide(_milli(limit), parts).items()}


def share(
    limit: float, lanes: Sequence[Lane], memory: LanesMemory, now: float
) -> tuple[dict[str, float], LanesMemory]:
    """What to tell each lane now: below what it was told for those who give, more as soon as nobody else has it.

    Not exact where exactness would cost: a lane whose best rate is off by less than a fiftieth of R and a tenth of its
    own is left alone, and so is one that was moved in the last 5 s, unless a guarantee or a higher priority is short.
    """
    total = _milli(limit)
    peaks = {lane.name: _peaks(memory.peaks.get(lane.name, ()), lane, now) for lane in lanes}
    parts = [_part(lane, None if lane.demand is None else peaks[lane.name][0][1]) for lane in lanes]
    best = _divide(total, parts)
    moved = {lane.name: min(now, memory.moved.get(lane.name, -math.inf)) for lane in lanes}
    settled = {name: now - at >= SETTLE_SECONDS for name, at in moved.items()}
    told = {part.lane.name: part.given for part in parts}
    if sum(told.values()) > total or _hurry(total, parts, best):
        settled = dict.fromkeys(settled, True)
    for part in parts:
        name = part.lane.name
        if settled[name] and told[name] - best[name] >= _noise(total, part.given):
            told[name] = best[name]
    if sum(told.values()) > total:  # R was lowered by less than is noise
        told = {name: min(rate, best[name]) for name, rate in told.items()}
    _raise(total, parts, best, told, settled)
    moved |= {part.lane.name: now for part in parts if told[part.lane.name] != part.given}
    return {name: rate / _MILLI for name, rate in told.items()}, LanesMemory(peaks, moved)


def _divide(total: int, parts: Sequence[_Part]) -> dict[str, int]:
    rates = {part.lane.name: 0 for part in parts}
    foot = min(total // _FOOT, total // (_FEET * len(parts))) if parts else 0

    def turn(among: Iterable[_Part], most: Callable[[_Part], int], weight: Callable[[_Part], int]) -> None:
        _fill(rates, [(part.lane.name, weight(part), most(part)) for part in among], total)

    turn(parts, lambda part: min(part.limit, foot), lambda _: 1)
    turn(parts, _guaranteed, lambda part: part.guarantee)
    for most in (lambda part: part.demand, lambda part: int(part.demand * _AHEAD), lambda part: part.limit):
        for priority in sorted({part.lane.priority for part in parts}, reverse=True):
            among = [part for part in parts if part.lane.priority == priority]
            turn(among, lambda part, most=most: min(part.limit, most(part)), lambda part: part.lane.weight)  # type: ignore[misc]
    return rates


def _fill(rates: dict[str, int], lanes: Sequence[tuple[str, int, int]], total: int) -> None:
    """Raises (name, weight, most) like water to one level of rate / weight, until `total` is used or all are full.

    Who stands above the level keeps what there is. Worked number: 60 left; a has 0, b has 40, weights 1: 50 and 50.
    """
    free = total - sum(rates.values())
    if not free:
        return
    open_ = [(name, weight, most) for name, weight, most in lanes if most > rates[name]]
    if sum(most - rates[name] for name, _, most in open_) <= free:
        rates |= {name: most for name, _, most in open_}
        return

    def at(level: int, name: str, weight: int, most: int) -> int:
        return max(rates[name], min(most, weight * level // _FINE))

    low, high = 0, max((most * _FINE // weight + _FINE for _, weight, most in open_))
    while low < high:  # the highest level that does not need more than is free
        level = (low + high + 1) // 2
        if sum(at(level, *lane) - rates[lane[0]] for lane in open_) <= free:
            low = level
        else:
            high = level - 1
    rates |= {lane[0]: at(low, *lane) for lane in open_}


def _hurry(total: int, parts: Sequence[_Part], best: Mapping[str, int]) -> bool:
    """A guarantee is short by more than a twentieth. Or a lane lacks what it can use, more than a tenth of what it has
    and than a fiftieth of R, and more than a fiftieth of R is nobody's, or with a lower priority beyond its best.
    """
    ungiven = total - sum(part.given for part in parts)
    for part in parts:
        name, given = part.lane.name, part.given
        if 20 * given < 19 * min(_guaranteed(part), best[name]):
            return True
        lower = (other for other in parts if other.lane.priority < part.lane.priority)
        to_have = ungiven + sum(max(0, other.given - best[other.lane.name]) for other in lower)
        if min(part.demand, best[name]) - given > max(given // 10, total // 50) and to_have > total // 50:
            return True
    return False


def _raise(
    total: int,
    parts: Sequence[_Part],
    best: Mapping[str, int],
    told: dict[str, int],
    settled: Mapping[str, bool],
) -> None:
    """More for those who are to have more, as far as it is in force for nobody: guarantees first, then by priority."""
    in_force = {part.lane.name: part.committed for part in parts}
    free = total - sum(in_force.values())
    if free < 0:  # R was lowered: nobody goes back to what is still in force for it
        return
    order = sorted(parts, key=lambda part: (-part.lane.priority, part.lane.name))
    wanted = [(part, min(best[part.lane.name], _guaranteed(part))) for part in order]
    wanted += [(part, min(best[part.lane.name], part.demand)) for part in order]
    wanted += [(part, best[part.lane.name]) for part in order]
    reached = dict(told)
    for part, goal in wanted:
        name = part.lane.name
        if settled[name] and goal > reached[name]:
            reached[name] = min(goal, in_force[name] + free)
            free -= max(0, reached[name] - in_force[name])
            in_force[name] = max(in_force[name], reached[name])
    for part in parts:  # what is only noise is not worth a change of tickets
        name = part.lane.name
        if reached[name] - told[name] >= _noise(total, part.given):
            told[name] = reached[name]


def _guaranteed(part: _Part) -> int:
    return min(part.guarantee, part.demand)


def _noise(total: int, given: int) -> int:
    return max(1, min(total // 50, given // 10))


def _peaks(seen: tuple[tuple[float, int], ...], lane: Lane, now: float) -> tuple[tuple[float, int], ...]:
    """What the lane could use, now and as long as it counts; the first is the highest. What is unknown counts while it
    is, and no longer."""
    if lane.demand is None:
        return tuple((min(at, now), rate) for at, rate in seen)
    demand = _milli(min(lane.demand, lane.limit))
    higher = [(min(at, now), rate) for at, rate in seen if rate > demand]
    fresh = [one for one in higher if one[0] > now - HOLD_SECONDS]
    kept = (
        higher[:1] if lane.backlog and higher[:1] != fresh[:1] else []
    )  # the highest counts until it is gone
    return (*kept, *fresh, (now, demand))


def _part(lane: Lane, demand: int | None) -> _Part:
    limit = _milli(lane.limit)
    given = _milli(lane.given)
    return _Part(
        lane=lane,
        limit=limit,
        guarantee=min(limit, _milli(lane.guarantee)),
        demand=limit if demand is None else min(limit, demand),
        given=given,
        committed=max(given, math.ceil(lane.committed * _MILLI - 1e-6)),
    )


def _milli(rate: float) -> int:
    return round(rate * _MILLI)
