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
from faults.history import sequence, stock, transitions
from faults.history.check import check
from faults.history.finding import Case
from simulation.system import programs
from simulation.system.facts import audited, rows, told, unrest
from simulation.system.plan import Mode, Plan, draw
from simulation.system.planted import planted
from simulation.system.world import World

from peakclip.audit.checks import judge
from peakclip_worker import main as worker_main
from peakclip_worker import relay_main

LONGEST_SECONDS: Final = 180.0  # until all is at rest after the last fault
_OPENING_SECONDS: Final = 10.0
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
    findings: list[str] = []
    if plan.mode == "safety":
        world.customers.over = True
        findings += _now(world)
    else:
        world.heal()
        healed = kernel.now
        while (left := unrest(world)) and kernel.now < healed + LONGEST_SECONDS:
            kernel.run(kernel.now + _LOOK_SECONDS)
        rested = None if left else kernel.now - healed
        findings += [f"not at rest after {LONGEST_SECONDS:g} s: {one}" for one in left]
        findings += _at_rest(world) if not left else _now(world)
    findings += [f"a process ended: {one}" for one in world.scene.died]
    findings += [f"nobody caught: {one}" for one in kernel.failures]
    findings += [f"an answer that nobody may get: {one}" for one in world.customers.defects]
    if world.wire.server.deadlocks:
        findings.append(f"deadlocks: {world.wire.server.deadlocks}")
    return Outcome(
        plan, tuple(findings), world.trace.number, world.trace.count, kernel.now, rested,
        len(world.wire.server.store.tables["orders"]), len(plan.faults), tuple(world.trace.lines or ()),
    )  # fmt: skip


def _audit(world: World, *, at_rest: bool) -> list[str]:
    result = judge(audited(world, at_rest=at_rest))
    return [f"audit: {one.message}: {list(one.rows)}" for one in result.violations]


def _now(world: World) -> list[str]:
    """What must hold at every moment."""
    case = Case.of(world.customers.history, told(world))
    overtaking = bool(world.plan.faults)  # what a relay that died has in hand or on its way may come later
    found = [
        *stock.limits(case), *stock.rate(case), *transitions.transitions(case), *transitions.payments(case),
        *sequence.events(case, overtaking=overtaking), *sequence.answers(case), *sequence.told(case),
        *sequence.expiries(case),
    ]  # fmt: skip
    return [f"{one.damage}: {one.subjects}: {one.evidence}" for one in found] + _audit(world, at_rest=False)


def _at_rest(world: World) -> list[str]:
    found = check(world.customers.history, told(world))
    letters = {row["message_id"] for row in rows(world, "dead_letters")}
    lost = [f"neither done nor a dead letter: {one}" for one in world.poisoned if one not in letters]
    return (
        lost
        + [f"{one.damage}: {one.subjects}: {one.evidence}" for one in found]
        + _audit(world, at_rest=True)
    )
