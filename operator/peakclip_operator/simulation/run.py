"""One scenario, one autoscaler, one seed: a run."""

from __future__ import annotations

from dataclasses import dataclass

from peakclip_operator.simulation.autoscalers import Autoscaler, Paces
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.row import Row
from peakclip_operator.simulation.scenario import Restart, Scenario
from peakclip_operator.simulation.world import World

Look = tuple[float, int, int | None, bool]
"""Time, number wanted before, number wanted after (None: no decision), and whether the lag was known."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is left of a run."""

    scenario: Scenario
    autoscaler: str
    limited: bool
    seed: int
    step_seconds: float
    rows: list[Row]
    """One for each whole second, beginning with the one after the first."""
    starts: list[int]
    """Orders started in each step."""
    arrivals: list[int]
    """Orders that came in each step."""
    waiting: list[int]
    """Orders that wait for a start at the end of each step."""
    looks: list[Look]
    """Every look of the autoscaler."""
    rates: list[tuple[float, float]]
    """From when on which rate was in force."""
    worker_seconds: float
    finished: int
    failed: int

    def rate_at(self, at: float) -> float:
        """In force at this time, orders per second."""
        return next(rate for since, rate in reversed(self.rates) if since <= at)


def run(
    scenario: Scenario, autoscaler: Autoscaler, seed: int | None = None, *, step_seconds: float = 0.1
) -> Run:
    """The same arguments give the same run."""
    world = World(scenario, limited=autoscaler.limited, seed=seed, step_seconds=step_seconds)
    steps = max(1, round(scenario.tick_seconds / step_seconds))
    looks: list[Look] = []
    paces = autoscaler if isinstance(autoscaler, Paces) else None
    restarts = list(scenario.restarts)
    while world.remaining:
        world.run(steps)
        now = world.now
        if restarts and now >= restarts[0].at:
            if now < restarts[0].at + restarts[0].seconds:
                continue
            _restarted(autoscaler, world, restarts.pop(0))
        seen = world.seen()
        wanted = autoscaler.look(seen, now)
        looks.append((now, seen.asked, wanted, seen.lag is not None))
        if wanted is not None and wanted != seen.asked:
            world.scale(wanted)
        if paces is not None:
            world.pace(paces.rate_per_second)
    return Run(
        scenario=scenario,
        autoscaler=autoscaler.name,
        limited=autoscaler.limited,
        seed=world.seed,
        step_seconds=step_seconds,
        rows=world.rows,
        starts=world.starts,
        arrivals=world.arrivals,
        waiting=world.waiting,
        looks=looks,
        rates=world.rates,
        worker_seconds=world.worker_seconds,
        finished=world.finished,
        failed=world.failed,
    )


def _restarted(autoscaler: Autoscaler, world: World, restart: Restart) -> None:
    """Another process takes over. It hears of the workers anew, whatever was kept of the memory."""
    if isinstance(autoscaler, Peakclip):
        autoscaler.begin_anew(restart.at, kept=restart.memory_kept)
        world.forget_telemetry()
