"""Conditions from a seed: each run is drawn anew, and a third of them have nothing wrong but what people do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import exp, log
from typing import Final

from peakclip.limiter import grid
from peakclip_operator.simulation.events.broker import ServerTime
from peakclip_operator.simulation.events.conditions import Conditions, Happening, Kind, Lane

_ROUND_RATES: Final = (0.5, 1.0, 2.5, 7.0, 33.3, 100.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0)
_MOST_STARTS: Final = 30_000  # of a run: what it costs


@dataclass(frozen=True, slots=True)
class _Crew:
    """How many workers there may be, what they can do in times of R, and for what share of the run there is work."""

    workers: tuple[int, ...]
    capacities: tuple[float, ...]
    work: tuple[float, ...] = (1.1,)
    bursts: float = 0.0  # chance of a burst of its own


_ANY: Final = _Crew(
    (1, 2, 3, 5, 8, 13, 20, 32, 64), (0.6, 1.0, 2.0, 3.0, 6.0, 20.0), (0.2, 1.1, 1.1, 1.1), 0.4
)
_BUSY: Final = _Crew((8, 13, 20, 32), (3.0, 6.0, 20.0))  # tickets are taken as soon as there are some
_CROWD: Final = _Crew((20, 32, 64), (3.0, 6.0, 20.0))  # for few starts: they hold tickets far ahead
_CREWS: Final = (_ANY, _ANY, _BUSY, _CROWD)
_GRAVE: Final = (Kind.FORGET, Kind.REPLACE, Kind.REPLACE, Kind.MEMORY, Kind.DOWN, Kind.ELECT, Kind.FREEZE)


def draw(seed: int) -> Conditions:
    """The same conditions for the same seed, whatever else has been drawn before."""
    chance = random.Random(f"events {seed}")
    crew = chance.choice(_CREWS)
    total = round(chance.uniform(5.0, 50.0), 2) if crew is _CROWD else _rate(chance)
    seconds = _seconds(chance, total)
    harm = chance.random()  # below a third: none
    lanes = _lanes(chance, total, seconds, crew)
    servers = _servers(chance) if harm > 0.33 else (ServerTime(),)
    happenings = [
        *(one for number, lane in enumerate(lanes) for one in _by_people(chance, number, lane, seconds)),
        *(_harmful(chance, lanes, seconds, len(servers)) if harm > 0.33 else ()),
    ]
    rough = harm > 0.7
    return Conditions(
        seed=seed,
        seconds=seconds,
        lanes=lanes,
        happenings=tuple(sorted(happenings, key=lambda one: one.at)),
        latency=chance.choice((0.0001, 0.0003, 0.001, 0.003, *((0.01, 0.03) if rough else ()))),
        spike_chance=chance.choice((0.0, 0.002, 0.02)) if rough else 0.0,
        spike=chance.choice((0.01, 0.05, 0.3)),
        lateness=chance.choice((0.0001, 0.002, 0.01, 0.02) if harm > 0.33 else (0.0001, 0.0005, 0.002)),
        stall_chance=chance.choice((0.0, 0.002, 0.02)) if rough else 0.0,
        stall=chance.choice((0.03, 0.1, 0.5)),
        drift=chance.choice((0.0, 20e-6, 100e-6)),
        servers=servers,
        pace_server=chance.randrange(len(servers)),
    )


def _rate(chance: random.Random) -> float:
    if chance.random() < 0.6:
        return chance.choice(_ROUND_RATES)
    return round(exp(chance.uniform(log(0.5), log(10_000.0))), 3)


def _seconds(chance: random.Random, rate: float) -> float:
    """Fewer at high rates, and enough for a dozen starts at low ones."""
    return round(min(max(8.0, 12 / rate), _MOST_STARTS / rate, 30.0) * chance.uniform(0.8, 1.6), 1)


def _lanes(chance: random.Random, total: float, seconds: float, crew: _Crew) -> tuple[Lane, ...]:
    number = chance.choice((1, 1, 1, 1, 1, 2, 3)) if total >= 10 else 1
    shares = [chance.uniform(0.2, 1.0) for _ in range(number)]
    lanes = []
    for place, share in enumerate(shares):
        rate = max(0.5, round(total * share / sum(shares), 3))
        workers = chance.choice(crew.workers if number == 1 else crew.workers[:5])
        burst = _burst(chance, rate) if chance.random() < crew.bursts else None
        chunk = grid.chunk(grid.rate_milli(rate), grid.default_burst(rate) if burst is None else burst)
        lanes.append(
            Lane(
                name=f"lane{place + 1}" if number > 1 else "orders",
                rate=rate,
                workers=workers,
                burst=burst,
                messages=round(rate * seconds * chance.choice(crew.work))
                + workers * chunk,  # these are in hand
                work_seconds=min(3.0, workers * chunk / rate / chance.choice(crew.capacities)),
                fail_chance=chance.choice((0.0, 0.0, 0.01, 0.1, 0.3)),
            )
        )
    return tuple(lanes)


def _burst(chance: random.Random, rate: float) -> int:
    least = grid.least_burst(rate)
    return chance.randint(least, max(least, 3 * grid.default_burst(rate)))


def _servers(chance: random.Random) -> tuple[ServerTime, ...]:
    """Three of a cluster, as near to each other as their own time service keeps them; or one that is alone."""
    if chance.random() < 0.4:
        return (ServerTime(drift=chance.uniform(-50e-6, 50e-6)),)
    apart = chance.choice((0.0005, 0.005, 0.03))
    return tuple(ServerTime(chance.uniform(-apart, apart), chance.uniform(-50e-6, 50e-6)) for _ in range(3))


def _by_people(chance: random.Random, number: int, lane: Lane, seconds: float) -> list[Happening]:
    """Changes of the pace, scaling, and work that comes in bursts."""
    found: list[Happening] = []

    def add(kind: Kind, at: float, value: float = 0.0) -> None:
        found.append(Happening(round(at, 4), kind, value, who=chance.randrange(64), lane=number))

    if chance.random() < 0.35:
        at = chance.uniform(0.5, seconds * 0.7)
        for _ in range(chance.choice((1, 1, 2, 3))):
            add(Kind.RATE, at, round(max(0.5, lane.rate * chance.choice((0.1, 0.5, 0.9, 1.1, 1.5))), 3))
            at += chance.choice((0.05, 0.4, 1.0, 1.29, 2.0))
    if chance.random() < 0.2:
        add(Kind.EFFECTIVE, chance.uniform(0.5, seconds), round(max(0.5, lane.rate * chance.random()), 3))
    if chance.random() < 0.15:
        at = chance.uniform(0.5, seconds * 0.6)
        add(Kind.PAUSE, at)
        add(Kind.RESUME, at + chance.choice((0.2, 1.5, 3.0)))
    if chance.random() < 0.4:
        for _ in range(chance.choice((1, 2, 5, 15))):
            add(chance.choice((Kind.JOIN, Kind.TERM)), chance.uniform(0.2, seconds))
    if chance.random() < 0.4:
        burst = round(lane.rate * seconds * chance.choice((0.1, 0.3)))
        add(Kind.ARRIVE, chance.uniform(seconds * 0.3, seconds * 0.8), max(1, burst))
    return found


def _harmful(chance: random.Random, lanes: tuple[Lane, ...], seconds: float, servers: int) -> list[Happening]:
    found = []
    if chance.random() < 0.15:  # a change of the rate whose writing is held up
        at = round(chance.uniform(0.5, seconds * 0.8), 4)
        lane = chance.randrange(len(lanes))
        found.append(Happening(at, Kind.HOLD, chance.uniform(0.1, 0.6), 4.0))
        found.append(
            Happening(at + 0.01, Kind.RATE, round(lanes[lane].rate * chance.uniform(0.6, 1.2), 3), lane=lane)
        )
    for _ in range(chance.choice((1, 2, 4, 6))):
        kind = chance.choice((Kind.KILL, Kind.STOP, Kind.STOP, Kind.STOP, Kind.SLOW, *_GRAVE))
        if kind is Kind.MEMORY and servers == 1:
            kind = Kind.DOWN
        value, lasts = 0.0, 0.0
        if kind is Kind.STOP:
            value = chance.choice((0.02, 0.08, 0.3, 0.95, 1.5, 4.0, 11.0))
        elif kind is Kind.SLOW:
            value, lasts = chance.choice((0.01, 0.1, 0.6, 1.5)), chance.uniform(0.3, 3.0)
        elif kind in (Kind.DOWN, Kind.ELECT, Kind.FREEZE):
            value = chance.choice((0.05, 0.4, 1.0, 3.0))
        who = chance.randrange(64)
        if kind in (Kind.SLOW, Kind.STOP) and chance.random() < 0.6:
            who = -1
        at = chance.uniform(0.3, seconds)
        found.append(Happening(round(at, 4), kind, value, lasts, who, chance.randrange(len(lanes))))
    return found
