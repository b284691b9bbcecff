"""The runs of a real KEDA 2.21 and Kubernetes 1.35.4 on one node, and the simulated world that plays them again.

Measured once each: nats-server 2.15.1, PostgreSQL 18.6, a worker that does one order at a time in about 45 ms,
lagThreshold 10, a burst at second 0, everything looked at once a second. R = 100/s is a line, nothing breaks above it.

What the simulation is given of a run: the rates of 1 to 20 workers, the time that a worker takes to start, what the
work per order was changed to, and where the two timers were. Nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from peakclip_operator.simulation.arrivals import flash
from peakclip_operator.simulation.baselines.hpa import DOWN
from peakclip_operator.simulation.baselines.keda import Keda, KedaSettings, tuned
from peakclip_operator.simulation.database import Database
from peakclip_operator.simulation.run import run
from peakclip_operator.simulation.scenario import Scenario

R = 100.0
STEP = 0.1  # seconds
RATES = {1: 23.1, 4: 88.0, 8: 174.0, 16: 315.0, 20: 350.0}  # orders per second, measured (8: 171 to 177)
START_SECONDS = 1.3  # measured: "1 to 2 s"
AFTER_SECONDS = 120  # pod-seconds are counted until then after the drain

DEFAULTS = KedaSettings(maximum=20)
TUNED = replace(tuned(DEFAULTS), maximum=4)
assert TUNED.behavior is not None
QUICK_DOWN = replace(TUNED.behavior, down=replace(DOWN, window_seconds=30.0))

Changes = tuple[tuple[int, int, int], ...]  # second, from, to


@dataclass(frozen=True)
class Result:
    """What a run came to, measured or simulated."""

    first: float
    """Second of the first commit."""
    empty: int
    rate: float
    """Orders per second from the first to the last commit."""
    peak: float
    """Most in a sliding second."""
    above: float
    """Orders above R, each whole second's summed up."""
    pod_seconds: float | None
    after: float | None
    """Of these after the drain."""
    changes: Changes


@dataclass(frozen=True)
class Case:
    name: str
    settings: KedaSettings
    polling_phase: float
    sync_phase: float
    measured: Result
    orders: int = 3000
    until: int | None = None
    """Second to which it was watched, when that was not 2 min after the drain."""
    changed_at: float = math.inf
    changed_rate: float | None = None
    """Orders per second of 4 workers after the work per order was changed."""


def up(*steps: int) -> Changes:
    """up(0, 16, 4, 31, 8): from 0 to 4 at 16 s, to 8 at 31 s."""
    return tuple(zip(steps[1::2], steps[0::2], steps[2::2], strict=False))


# A change seen at second 16 came between 15 and 16: the middle is taken. Run 1: both timers in that same second.
CASES = (
    Case(
        "1 defaults, min 0",
        DEFAULTS,
        15.4,
        0.6,
        Result(16.9, 42, 119.4, 192, 672, 2393, 2261, up(0, 16, 4, 31, 8, 46, 16, 61, 20)),
    ),
    Case(
        "2 defaults, min 1",
        replace(DEFAULTS, minimum=1),
        15.5,
        14.5,
        Result(0.1, 39, 77.8, 180, 476, 2361, 2225, up(1, 15, 4, 30, 8, 45, 16, 60, 20)),
    ),
    Case("3 tuned, min 0", TUNED, 0.5, 0.4, Result(1.9, 48, 66.0, 93, 0, 613, 480, up(0, 1, 1, 16, 4))),
    Case("3b other phase", TUNED, 3.5, 8.5, Result(6.3, 45, 77.8, 96, 0, None, None, up(0, 4, 1, 9, 4))),
    Case(
        "4a work halved",
        TUNED,
        0.5,
        0.4,
        Result(1.8, 42, 74.7, 173, 578, 586, 480, up(0, 1, 1, 16, 4)),
        changed_at=33.0,
        changed_rate=165.2,
    ),
    Case(
        "4b work doubled",
        TUNED,
        0.5,
        0.4,
        Result(1.8, 62, 50.5, 95, 0, 670, 480, up(0, 1, 1, 16, 4)),
        changed_at=30.0,
        changed_rate=47.2,
    ),
    Case(
        "5 min 1, down 30 s",
        replace(TUNED, minimum=1, behavior=QUICK_DOWN),
        0.5,
        13.5,
        Result(0.1, 47, 64.9, 93, 0, 344, 204, up(1, 14, 4, 75, 1)),
    ),
    Case(
        "6 = 1 with 12,000",
        DEFAULTS,
        15.5,
        0.4,
        Result(16.7, 88, 168.7, 378, 6201, 3004, 2400, up(0, 16, 1, 31, 4, 46, 8, 61, 16, 76, 20, 376, 0)),
        orders=12_000,
        until=380,
    ),
)


def scenario(case: Case) -> Scenario:
    """The node as it was measured: workers that slow each other down, and a database that nothing is too much for."""
    alone = 1 / RATES[1]
    work = [(0.0, alone)]
    if case.changed_rate is not None:
        work.append((case.changed_at, 4 / case.changed_rate / slower(4)))
    return Scenario(
        name=case.name,
        arrivals=flash(case.until or 200, case.orders, 0),
        poisson=False,
        limit_per_second=R,
        min_replicas=case.settings.minimum,
        max_replicas=case.settings.maximum,
        work=tuple(work),
        contention=tuple((float(workers), slower(workers)) for workers in RATES),
        start_seconds=START_SECONDS,
        database=Database(capacity_per_second=10_000.0, knee=100.0),
        tick_seconds=STEP,
    )


def slower(workers: int) -> float:
    """How many times longer one of so many takes: 4 x 23.1 / 88 = 1.05."""
    return workers * RATES[1] / RATES[workers]


def play(case: Case, seed: int = 1) -> Result:
    """The run again, simulated."""
    keda = Keda(case.settings, polling_phase_seconds=case.polling_phase, sync_phase_seconds=case.sync_phase)
    made = run(scenario(case), keda, seed, step_seconds=STEP)
    per = round(1 / STEP)
    first = next(at for at, count in enumerate(made.starts) if count) * STEP + 1 / RATES[1]
    empty = (max(at for at, left in enumerate(made.waiting) if left) + 1) * STEP
    drained = math.ceil(empty)
    rows = made.rows[: drained + AFTER_SECONDS]
    watched = case.until or drained + AFTER_SECONDS
    changes = [
        (math.ceil(now - 1e-6), before, wanted)
        for now, before, wanted, _ in made.looks
        if wanted is not None and now <= watched
    ]
    counted = case.measured.pod_seconds is not None
    return Result(
        first=first,
        empty=drained,
        rate=case.orders / (empty - first),
        peak=max(sum(made.starts[at : at + per]) for at in range(len(made.starts) - per)),
        above=sum(max(row.finished - R, 0.0) for row in rows),
        pod_seconds=sum(row.ready for row in rows) if counted else None,
        after=sum(row.ready for row in rows[drained:]) if counted else None,
        changes=merged(changes),
    )


def merged(changes: list[tuple[int, int, int]]) -> Changes:
    """As somebody sees them who looks once a second: 0 to 1 and 1 to 4 in the same second are 0 to 4."""
    seen: list[tuple[int, int, int]] = []
    for second, before, after in changes:
        if seen and seen[-1][0] == second:
            before = seen.pop()[1]
        seen.append((second, before, after))
    return tuple(seen)


def rows() -> Iterator[tuple[Case, Result]]:
    return ((case, play(case)) for case in CASES)


def table() -> str:
    """Measured | simulated."""
    heads = ("run", "first", "empty", "rate", "peak", "above R", "pod-s", "after", "changes (at:workers)")
    lines: list[tuple[str, ...]] = [heads]
    for case, made in rows():
        real = case.measured
        pairs = (
            (f"{real.first:.1f}", f"{made.first:.1f}"),
            (real.empty, made.empty),
            (real.rate, f"{made.rate:.1f}"),
            (f"{real.peak:.0f}", f"{made.peak:.0f}"),
            (f"{real.above:.0f}", f"{made.above:.0f}"),
            (real.pod_seconds or "-", "-" if made.pod_seconds is None else f"{made.pod_seconds:.0f}"),
            (real.after or "-", "-" if made.after is None else f"{made.after:.0f}"),
            (told(real.changes), told(made.changes)),
        )
        lines.append((case.name, *(f"{one} | {other}" for one, other in pairs)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def told(changes: Changes) -> str:
    return " ".join(f"{second}:{after}" for second, _, after in changes)
