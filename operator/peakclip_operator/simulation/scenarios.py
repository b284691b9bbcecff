"""The scenarios that have names. R is 100/s and a worker does 23.1/s unless one says otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from peakclip_operator.simulation.arrivals import (
    Trace,
    added,
    flash,
    joined,
    ramp,
    recorded,
    sine,
    steady,
    waves,
)
from peakclip_operator.simulation.database import Database
from peakclip_operator.simulation.scenario import Restart, Scenario, Span

EVENING = Path(__file__).with_name("evening.csv")
"""A made-up evening of a shop, ten minutes long: a swell, a few spikes, noise."""

# Measured with KEDA on a node of two cores: 23.1/s alone, 22 each of four, 21.8 of eight, 19.7 of sixteen, 17.5 of
# twenty, where the node is full at 350/s.
NODE: tuple[Span, ...] = ((1, 1.0), (4, 1.048), (8, 1.062), (16, 1.173), (20, 1.32), (40, 2.64), (100, 6.6))
_WIDE = Database(capacity_per_second=2000.0, knee=64.0, connections=128)  # it never is the bottleneck
_BURST_AT = 15


def _anchor(name: str, size: int, seconds: int, words: str) -> Scenario:
    """A burst on the node that KEDA was measured on."""
    return Scenario(
        name=name,
        words=words,
        arrivals=flash(seconds, size, _BURST_AT),
        poisson=False,
        contention=NODE,
        database=_WIDE,
        turns=1,
    )


@cache
def named() -> Mapping[str, Scenario]:
    """In the order in which they are shown."""
    return {scenario.name: scenario for scenario in _named()}


def _named() -> Iterator[Scenario]:
    yield from _calm()
    yield from _bursts()
    yield from _changes()
    yield from _trouble()


def _calm() -> Iterator[Scenario]:
    yield Scenario("steady-low", steady(300, 20), "20/s all the time", turns=1)
    yield Scenario(
        "steady-high", joined(ramp(60, 5, 90), steady(240, 90)), "90/s for minutes, close to R", turns=1
    )
    yield Scenario(
        "ramp", joined(ramp(180, 5, 95), ramp(180, 95, 5), steady(60, 5)), "5/s to 95/s and back", turns=1
    )
    yield Scenario("sine-day", sine(900, 5, 95, 450), "two days of 5/s to 95/s, 450 s each", turns=4)
    yield Scenario("noise", _threshold(600), "40/s, up and down at random: around a threshold", turns=1)
    yield Scenario(
        "recorded", recorded(EVENING), "a trace from a file: a made-up evening with spikes", turns=8
    )


def _bursts() -> Iterator[Scenario]:
    yield _anchor(
        "flash-3000", 3_000, 200, "3,000 orders within a second; the node that KEDA was measured on"
    )
    yield _anchor("flash-10000", 10_000, 300, "10,000 orders within a second")
    yield _anchor("flash-12000", 12_000, 480, "12,000 orders within a second, watched for eight minutes")
    yield replace(_anchor("from-zero", 3_000, 200, "3,000 orders, and no worker is there"), min_replicas=0)
    yield Scenario("waves", waves(900, 2_000, 180, first=30), "2,000 orders every three minutes", turns=9)
    above = joined(steady(30, 20), steady(60, 180), steady(150, 20))
    yield Scenario("above-r", above, "180/s for a minute, with R = 100", turns=1)


def _changes() -> Iterator[Scenario]:
    burst = _anchor("", 4_000, 240, "")
    at = _BURST_AT + 15.0
    yield replace(
        burst, name="work-halves", words="40 ms of work become 20 in mid drain", work=((0, 0.0433), (at, 0.0233))
    )  # fmt: skip
    yield replace(
        burst, name="work-doubles", words="40 ms of work become 80 in mid drain", work=((0, 0.0433), (at, 0.0833))
    )  # fmt: skip
    yield replace(
        burst,
        name="new-rate",
        words="R is halved in mid drain, and then raised to 150/s",
        limits=((at, 50.0), (at + 20, 150.0)),
        turns=3,
    )
    yield replace(
        burst,
        name="slow-starts",
        words="a worker takes 30 s to start",
        start_seconds=30,
        told_start_seconds=30,
    )


def _trouble() -> Iterator[Scenario]:
    burst = _anchor("", 6_000, 300, "")
    weak = Database(capacity_per_second=60.0, knee=6.0, collapse=0.5, connections=10)
    yield replace(
        burst, name="weak-database", words="the database does 60/s, and less when pressed", database=weak
    )
    sick = replace(_WIDE, capacities=((40.0, 45.0), (90.0, 2000.0)), knee=6.0)
    yield replace(
        burst, name="sick-database", words="for 50 s the database does 45/s", database=sick, turns=4
    )
    yield replace(
        burst,
        name="crashes",
        words="workers die, three at once and one by one",
        crashes=((30.0, 3), (50.0, 2), (51.0, 2)),
        crashes_per_hour=30.0,
    )
    yield replace(
        burst,
        name="telemetry-loss",
        words="words of workers are lost and late, the lag is unknown for 20 s",
        telemetry_lost=0.3,
        telemetry_late=2.0,
        telemetry_out=((30.0, 50.0),),
        lag_unknown=((55.0, 75.0),),
    )
    yield replace(
        burst,
        name="restarts",
        words="the controller restarts, without its memory and with it",
        restarts=(Restart(30.0, 3.0, memory_kept=False), Restart(50.0, 3.0, memory_kept=True)),
    )
    yield replace(
        burst,
        name="no-room",
        words="there is room for four workers only",
        fits=4,
    )


def _threshold(seconds: int) -> Trace:
    """Two and three workers would be right for 40/s by turns; half of the noise lasts for some seconds."""
    rng, drift, numbers = random.Random(11), 0.0, []
    for _ in range(seconds):
        drift = 0.8 * drift + rng.gauss(0, 3)
        numbers.append(max(0.0, 40 + drift + rng.gauss(0, 4)))
    return tuple(numbers)


def evening() -> Trace:
    """What `evening.csv` was written from."""
    swell = sine(600, 12, 62, 600)
    spikes = [
        flash(600, 900, 95),
        flash(600, 1_500, 240, over=3),
        flash(600, 2_400, 330),
        flash(600, 600, 410, over=5),
    ]
    rng = random.Random(5)
    return tuple(float(max(0, round(one * rng.lognormvariate(0, 0.25)))) for one in added(swell, *spikes))
