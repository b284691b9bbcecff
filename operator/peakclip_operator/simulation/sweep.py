"""Many runs of scenarios that nobody thought of: each follows from its seed, and every promise is checked in each."""

from __future__ import annotations

import math
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from peakclip.limiter.grid import chunk, default_burst, rate_milli
from peakclip_operator.simulation.arrivals import Trace, added, flash, joined, ramp, sine, steady
from peakclip_operator.simulation.database import Database
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.promises import Violation, violations
from peakclip_operator.simulation.run import run
from peakclip_operator.simulation.scenario import Restart, Scenario

STEP_SECONDS = 0.2
_TICK_SECONDS = 1.0
_AT_ONCE = 100  # seeds that a process takes at a time


@dataclass
class Found:
    """What a sweep came to."""

    runs: int = 0
    simulated_seconds: float = 0.0
    judged: Counter[str] = field(default_factory=Counter)
    """Runs by what went wrong in their world; one with two troubles counts for both."""
    broken: list[tuple[int, Violation]] = field(default_factory=list)
    """The seed with each violation."""
    seconds: float = 0.0
    """Of real time."""
    processor_seconds: float = 0.0
    """Over all processes: what `seconds` would be on one core that has nothing else to do."""

    def add(self, other: Found) -> None:
        self.runs += other.runs
        self.simulated_seconds += other.simulated_seconds
        self.judged += other.judged
        self.broken += other.broken
        self.processor_seconds += other.processor_seconds


def sweep(
    count: int, first_seed: int = 1, *, jobs: int = 1, progress: Callable[[Found], None] = lambda found: None
) -> Found:
    """`count` runs with the seeds from `first_seed` on."""
    found, begun = Found(), time.monotonic()
    seeds = range(first_seed, first_seed + count)
    parts = [seeds[at : at + _AT_ONCE] for at in range(0, count, _AT_ONCE)]
    for part in _made(parts, jobs):
        found.add(part)
        found.seconds = time.monotonic() - begun
        progress(found)
    found.broken.sort(key=lambda one: one[0])
    return found


def _made(parts: Sequence[range], jobs: int) -> Iterator[Found]:
    if jobs <= 1 or len(parts) <= 1:
        yield from map(runs, parts)
        return
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(parts))) as pool:
        yield from pool.imap_unordered(runs, parts)


def runs(seeds: range) -> Found:
    """One after the other, in this process."""
    found, begun = Found(), time.process_time()
    for seed in seeds:
        scenario = drawn(seed)
        one = run(scenario, Peakclip(scenario), seed, step_seconds=STEP_SECONDS)
        found.runs += 1
        found.simulated_seconds += scenario.seconds
        found.judged.update(scenario.words.split(", "))
        found.broken += [(seed, violation) for violation in violations(one)]
    found.processor_seconds = time.process_time() - begun
    return found


def drawn(seed: int) -> Scenario:
    """The scenario that belongs to a seed."""
    return _Draw(random.Random(seed), seed).scenario()


class _Draw:
    """A scenario by chance: some arrivals, a pool that fits R, and often one or two troubles.

    `turns` is stated beforehand: each burst or swell may bring workers and let them go, each trouble may once more, and
    so may the first guess of their speed.
    What the pool is told of the work and of the start is right but for a factor of three, and of 1.3.
    """

    def __init__(self, rng: random.Random, seed: int) -> None:
        self._rng = rng
        self._seed = seed
        self._seconds = rng.randrange(60, 101, 10)
        self._limit = _round(math.exp(rng.uniform(math.log(5), math.log(1000))))
        self._words: list[str] = []
        self._turns = 2  # a first guess that was wrong is taken back

    def scenario(self) -> Scenario:
        rng = self._rng
        batch = chunk(rate_milli(self._limit), default_burst(self._limit))
        # Two to twenty workers do R: what one takes for a batch follows from it.
        work = rng.uniform(2.0, 20.0) * batch / self._limit
        arrivals = self._arrivals()
        start = rng.choice((0.5, 1.5, 3.0, 6.0))
        base = Scenario(
            name=f"seed-{self._seed}",
            arrivals=arrivals,
            seed=self._seed,
            limit_per_second=self._limit,
            min_replicas=rng.choice((0, 1, 1, 2)),
            max_replicas=rng.choice((30, 40, 60)),
            catch_up_seconds=rng.choice((20.0, 30.0, 45.0)),
            stabilization_seconds=rng.choice((10.0, 20.0, 30.0)),
            told_start_seconds=start,
            prior_work_seconds=work * math.exp(rng.uniform(-math.log(3), math.log(3))),
            start_seconds=start * rng.uniform(0.7, 1.3),
            work=((0.0, work),),
            work_noise=rng.choice((0.1, 0.3, 0.6)),
            database=Database(
                capacity_per_second=3 * self._limit, knee=80.0 * batch, connections=100 * batch
            ),
            tick_seconds=_TICK_SECONDS,
        )
        values = {name: getattr(base, name) for name in base.__slots__}
        for trouble in rng.sample(_TROUBLES, rng.choice((0, 1, 1, 2))):
            values.update(trouble(self, work, batch))
        return Scenario(**{**values, "words": ", ".join(self._words), "turns": self._turns})

    # -- arrivals ------------------------------------------------------------------------------------------

    def _arrivals(self) -> Trace:
        rng, limit, seconds = self._rng, self._limit, self._seconds
        base = steady(seconds, limit * rng.choice((0.0, 0.02, 0.1, 0.3)))
        kind = rng.choice(("steady", "burst", "bursts", "ramp", "swell", "above R"))
        self._words.append(kind)
        self._turns += 1
        if kind == "steady":
            return steady(seconds, limit * rng.uniform(0.02, 0.9))
        if kind == "burst":
            return added(base, self._burst(rng.randrange(2, seconds // 2)))
        if kind == "bursts":
            count = rng.choice((2, 3))
            self._turns += 2 * (count - 1)
            gap = seconds // (count + 1)
            return added(
                base, *(self._burst(2 + gap * index + rng.randrange(gap // 2)) for index in range(count))
            )
        if kind == "ramp":
            low, high = sorted(limit * rng.uniform(0.0, 0.95) for _ in range(2))
            half = seconds // 2
            return joined(ramp(half, low, high), ramp(seconds - half, high, low))
        if kind == "swell":
            self._turns += 2
            return sine(seconds, limit * rng.uniform(0, 0.3), limit * rng.uniform(0.4, 0.95), seconds / 2)
        before, during = rng.randrange(2, 20), rng.randrange(5, 20)
        after = seconds - before - during
        low = limit * rng.uniform(0, 0.3)
        return joined(steady(before, low), steady(during, limit * rng.uniform(1.1, 3.0)), steady(after, low))

    def _burst(self, at: int) -> Trace:
        return flash(
            self._seconds, self._limit * self._rng.uniform(0.5, 25.0), at, over=self._rng.choice((1, 1, 2, 5))
        )

    # -- troubles: what they change in the scenario ----------------------------------------------------------

    def _trouble(self, name: str, turns: int) -> None:
        self._words.append(name)
        self._turns += turns

    def _span(self, shortest: float, longest: float) -> tuple[float, float]:
        at = self._rng.uniform(2, self._seconds - 15)
        return at, at + self._rng.uniform(shortest, longest)

    def _faster(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("work gets lighter", 2)
        return {"work": ((0.0, work), (self._span(1, 2)[0], work * self._rng.uniform(0.3, 0.9)))}

    def _slower(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("work gets heavier", 2)
        return {"work": ((0.0, work), (self._span(1, 2)[0], work * self._rng.uniform(1.1, 2.0)))}

    def _deaths(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("workers die", 2)
        count = self._rng.randrange(1, 4)
        return {"crashes": tuple((self._span(1, 2)[0], self._rng.randrange(1, 5)) for _ in range(count))}

    def _mute(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("telemetry is lost", 2)
        out = (self._span(2, 20),) if self._rng.random() < 0.5 else ()
        return {
            "telemetry_lost": self._rng.uniform(0, 0.6),
            "telemetry_late": self._rng.choice((0.0, 1.0, 3.0)),
            "telemetry_out": out,
        }

    def _blind(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("lag is unknown", 2)
        return {"lag_unknown": (self._span(2, 25),)}

    def _restart(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("controller restarts", 2)
        at = self._span(1, 2)[0]
        kept = self._rng.random() < 0.5
        return {"restarts": (Restart(at, self._rng.uniform(1, 8), memory_kept=kept),)}

    def _cramped(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("no room", 2)
        return {"fits": self._rng.randrange(1, 12)}

    def _hanging(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("starts hang", 2)
        return {"never_start": self._rng.uniform(0.05, 0.4)}

    def _another_rate(self, work: float, batch: int) -> dict[str, object]:
        """Within what is done in the same batches."""
        self._trouble("another R", 2)
        most = 190.0 if self._limit < 200 else 1.1 * self._limit
        limit = _round(min(most, self._limit * self._rng.uniform(0.4, 1.8)))
        return {"limits": ((self._span(1, 2)[0], limit),)}

    def _weak(self, work: float, batch: int) -> dict[str, object]:
        self._trouble("weak database", 4)
        limit = self._limit
        return {
            "database": Database(
                capacity_per_second=limit * self._rng.uniform(0.4, 1.1),
                knee=batch * self._rng.uniform(3, 20),
                collapse=self._rng.uniform(0, 1),
                connections=batch * self._rng.randrange(4, 30),
            )
        }


_TROUBLES: tuple[Callable[[_Draw, float, int], dict[str, object]], ...] = (
    _Draw._faster,
    _Draw._slower,
    _Draw._deaths,
    _Draw._mute,
    _Draw._blind,
    _Draw._restart,
    _Draw._cramped,
    _Draw._hanging,
    _Draw._another_rate,
    _Draw._weak,
)


def _round(value: float) -> float:
    """Two digits that count."""
    return float(f"{value:.2g}")
