"""One run: load and faults, then the judgement. Safety is judged in the middle of it, liveness once all is at rest."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from unittest import mock

import structlog
from faults.history.finding import Damage
from simulation.system import programs
from simulation.system.facts import COUNTER_OFF, rows, unrest
from simulation.system.judges import Found, at_every_moment, at_rest
from simulation.system.plan import Mode, Plan, draw
from simulation.system.planted import planted
from simulation.system.world import World

from peakclip_worker import main as worker_main
from peakclip_worker import relay_main

LONGEST_SECONDS: Final = 180.0  # until all is at rest after the last fault
_OPENING_SECONDS: Final = 10.0
_FIRST_ORDER_SECONDS: Final = 20.0  # beyond the time that was drawn
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    plan: Plan
    findings: tuple[str, ...]
    trace: int
    happened: int  # steps in the trace
    virtual_seconds: float
    rested_after: float | None  # seconds after the last fault; None: it did not, or nobody waited
    orders: int
    faults: int
    damages: frozenset[Damage] = frozenset()
    lines: tuple[str, ...] = ()

    @property
    def replay(self) -> str:
        names = "".join(f" --plant {name}" for name in sorted(self.plan.planted))
        return f"make dst FROM={self.plan.seed} RUNS=1 ARGS='--mode {self.plan.mode}{names} --trace'"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Thousands of runs say nothing of themselves."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


async def _no_look(*_: object) -> None:
    """A tenth of a run would be spent on it."""


@contextlib.contextmanager
def _all_there() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in (programs, worker_main, relay_main):
            stack.enter_context(mock.patch.object(module, "until_there", _no_look))
        yield


def run(
    seed: int,
    mode: Mode | None = None,
    bugs: frozenset[str] = frozenset(),
    *,
    keep_trace: bool = False,
    prepare: Callable[[Plan], Plan] = lambda plan: plan,
) -> Outcome:
    plan = prepare(draw(seed, mode, bugs))
    looking = contextlib.nullcontext() if plan.looks else _all_there()
    with planted(bugs), looking, mock.patch.object(os, "getpid", return_value=1):  # workers tell theirs
        world = World(plan, keep_trace=keep_trace)
        try:
            return _run(world)
        finally:
            world.bury()


def _run(world: World) -> Outcome:
    plan, kernel = world.plan, world.kernel
    world.begin()
    while world.opened_at is None and kernel.now < _OPENING_SECONDS:
        kernel.run(kernel.now + 0.1)
    kernel.run(kernel.now + plan.seconds)
    rested: float | None = None
    found: list[Found] = []
    if plan.mode == "safety":
        latest = kernel.now + _FIRST_ORDER_SECONDS
        while not rows(world, "orders") and kernel.now < latest:  # else there is nothing to judge
            kernel.run(kernel.now + _LOOK_SECONDS / 4)
        world.customers.over = True
        found += at_every_moment(world)
    else:
        world.heal()
        healed = kernel.now
        while (left := unrest(world)) and kernel.now < healed + LONGEST_SECONDS:
            kernel.run(kernel.now + _LOOK_SECONDS)
        rested = None if left else kernel.now - healed
        found += [Found(f"not at rest after {LONGEST_SECONDS:g} s: {one}") for one in left]
        # With nothing under way a counter stays as it is: everything may be judged, it first of all.
        found += at_every_moment(world) if set(left) - {COUNTER_OFF} else at_rest(world)
    found += [Found(f"a process ended: {one}") for one in world.scene.died]
    found += [Found(f"nobody caught: {one}") for one in kernel.failures]
    found += [Found(f"an answer that nobody may get: {one}") for one in world.customers.defects]
    if world.wire.server.deadlocks:
        found.append(Found(f"deadlocks: {world.wire.server.deadlocks}"))
    return Outcome(
        plan, tuple(one.words for one in found), world.trace.number, world.trace.count, kernel.now, rested,
        len(world.wire.server.store.tables["orders"]), len(plan.faults),
        frozenset(one.damage for one in found if one.damage is not None), tuple(world.trace.lines or ()),
    )  # fmt: skip
