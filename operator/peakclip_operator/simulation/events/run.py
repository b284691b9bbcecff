"""Runs: one seed or conditions written by hand, and sweeps over many seeds on several cores."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from peakclip_operator.simulation.events.conditions import Conditions
from peakclip_operator.simulation.events.draw import draw
from peakclip_operator.simulation.events.judge import judge
from peakclip_operator.simulation.events.worker import DrainMaker, ModelDrain
from peakclip_operator.simulation.events.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """What a run showed."""

    seed: int
    seconds: float  # simulated
    took_seconds: float  # of real time
    events: int
    starts: int
    redeliveries: int
    most: int  # starts in any sliding second
    fullest: float  # that second as a share of what it may hold
    calm_seconds: float  # in which the mean was judged
    worst_share: float | None  # of R, over those
    by_itself: bool  # everything was finished before all was healed
    violations: tuple[str, ...]
    trace: tuple[str, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def replay(self) -> str:
        """The command that shows the same run again."""
        return f"peakclip simulate --events --seed {self.seed}"


def run_events(seed: int, *, make_drain: DrainMaker = ModelDrain, trace: bool = False) -> Result:
    """The run that belongs to a seed."""
    return run_conditions(draw(seed), make_drain=make_drain, trace=trace)


def run_conditions(
    conditions: Conditions, *, make_drain: DrainMaker = ModelDrain, trace: bool = False
) -> Result:
    began = time.perf_counter()
    world = World(conditions, make_drain, trace=trace)
    logged = structlog.get_config()
    structlog.configure(logger_factory=_Nobody, cache_logger_on_first_use=False)
    try:
        world.run()
    finally:
        structlog.configure(**logged)
    found = judge(world)
    return Result(
        seed=conditions.seed,
        seconds=world.kernel.now,
        took_seconds=time.perf_counter() - began,
        events=world.kernel.count,
        starts=sum(one.count for starts in world.record.starts.values() for one in starts),
        redeliveries=sum(queue.redeliveries for queue in world.broker.queues.values()),
        most=found.most,
        fullest=found.fullest,
        calm_seconds=found.calm_seconds,
        worst_share=found.worst_share,
        by_itself=world.by_itself,
        violations=tuple(world.record.violations),
        trace=tuple(world.record.trace or ()),
    )


class _Nobody:
    """A logger without a reader: a run says what is worth saying in its result."""

    def __init__(self, *_: object) -> None:
        pass

    def _nothing(self, *_: object, **__: object) -> None:
        pass

    msg = log = debug = info = warn = warning = error = critical = exception = _nothing


def sweep(first_seed: int, count: int, jobs: int = 1) -> Iterator[Result]:
    """One run for each seed, as they come to their end."""
    seeds = range(first_seed, first_seed + count)
    if jobs <= 1:
        yield from map(run_events, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_events, seeds, chunksize=4)


@dataclass(slots=True)
class Summary:
    """Figures of a sweep."""

    runs: int = 0
    seconds: float = 0.0
    events: int = 0
    starts: int = 0
    redeliveries: int = 0
    fullest: float = 0.0
    calm_seconds: float = 0.0
    worst_share: float | None = None
    failed: list[Result] = field(default_factory=list)

    def add(self, one: Result) -> None:
        self.runs += 1
        self.seconds += one.seconds
        self.events += one.events
        self.starts += one.starts
        self.redeliveries += one.redeliveries
        self.fullest = max(self.fullest, one.fullest)
        self.calm_seconds += one.calm_seconds
        if one.worst_share is not None:
            self.worst_share = min(one.worst_share, self.worst_share or 9.0)
        if not one.ok:
            self.failed.append(one)

    def lines(self, took_seconds: float) -> Iterator[str]:
        for one in self.failed:
            yield f"seed {one.seed}: {one.violations[0]}"
            yield from (f"    {words}" for words in one.violations[1:4])
            yield f"    again: {one.replay}"
        yield (
            f"{self.runs:,} runs, {len(self.failed)} with a broken promise; {self.seconds:,.0f} s in "
            f"{took_seconds:,.1f} s of real time: {self.seconds / max(took_seconds, 1e-9):,.0f} times as fast"
        )
        share = "none" if self.worst_share is None else f"{100 * self.worst_share:.2f} %"
        yield (
            f"{self.events:,} events, {self.starts:,} starts, {self.redeliveries:,} redeliveries; fullest second "
            f"{100 * self.fullest:.1f} % of its bound; worst mean {share} of R over {self.calm_seconds:,.0f} calm s"
        )
