"""Every schedule of a model: every order of steps of all its processes, every moment at which the clock moves on, and
every point at which a process dies.

A state that several schedules reach is gone on from once; the schedules are counted all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from simulation.rows import RUNNING, Model, World


class ViolationError(Exception):
    """What was found, and the schedule that leads there."""


@dataclass
class Found:
    """What an exploration went through."""

    states: int = 0
    steps: int = 0
    schedules: int = 0
    answers: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(frozen=True)
class Rules:
    """What may happen, and what must hold: both raise AssertionError."""

    at_commit: Callable[[World], None]
    at_end: Callable[[World], None]
    last_tick: int = 1  # the clock goes from 0 to this
    may_die: bool = True


def explore(model: Model, rules: Rules) -> Found:
    """Raises ViolationError with the first schedule that breaks a rule or cannot go on."""
    found = Found()
    counted: dict[World, int] = {}
    trace: list[str] = []

    def go(world: World) -> int:
        if (known := counted.get(world)) is not None:
            return known
        found.states += 1
        schedules = 0
        for what, follow in _next(model, rules, world):
            found.steps += 1
            trace.append(what)
            after = follow()
            if after.rows != world.rows or after.outbox != world.outbox:
                rules.at_commit(after)
            schedules += go(after)
            trace.pop()
        if schedules == 0:
            rules.at_end(world)
            found.answers.add(tuple(process.answer or process.state for process in world.processes))
        counted[world] = schedules or 1
        return counted[world]

    try:
        found.schedules = go(model.start())
    except AssertionError as exc:
        raise ViolationError("\n  ".join([str(exc), *trace])) from exc
    return found


def _next(model: Model, rules: Rules, world: World) -> list[tuple[str, Callable[[], World]]]:
    running = [n for n, process in enumerate(world.processes) if process.state == RUNNING]
    names = [name for name, _ in model.programs]
    able = [number for number in running if model.blocked_by(world, number) is None]
    if running and not able:
        raise AssertionError("deadlock of " + ", ".join(names[number] for number in running))
    steps: list[tuple[str, Callable[[], World]]] = []
    for number in able:
        step = model.next_step(world, number)
        what = f"commit ({step})" if isinstance(step, str) else step.what
        steps.append((f"{names[number]}: {what}", partial(model.moved, world, number)))
    if rules.may_die:
        steps += [(f"{names[number]} dies", partial(model.died, world, number)) for number in running]
    if running and world.now < rules.last_tick:
        later = world._replace(now=world.now + 1)
        steps.append((f"the clock shows {later.now}", lambda: later))
    return steps
