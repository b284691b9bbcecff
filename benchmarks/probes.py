"""Stop watches on the stages of an accept, put on from outside: the code that is measured is the code that runs.

Each stage is charged for the time on the event loop that is its own: what it calls is charged to the callee's stage,
and time in which a coroutine waits is nobody's. A stop watch costs time itself, half of it seen by the stage and
half by its caller; `calibrate` measures both shares, and `Watch.own_seconds` takes them off.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

_CALIBRATION_CALLS = 1_000
_CALIBRATION_ROUNDS = 20


@dataclass(slots=True)
class Stage:
    """Totals of one stage. `entered` counts calls and resumptions, `called` those of other stages from this one."""

    seconds: float = 0.0
    entered: int = 0
    called: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that one entry costs: `inside` is seen by the stage itself, `outside` by its caller."""

    inside: float = 0.0
    outside: float = 0.0


@dataclass(slots=True)
class Watch:
    """One thread's stop watches."""

    clock: Callable[[], float] = time.perf_counter
    stages: dict[str, Stage] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)  # seconds from call to return, by name
    _stack: list[Stage] = field(default_factory=list)
    _since: float = 0.0

    def enter(self, stage: Stage) -> None:
        now = self.clock()
        if self._stack:
            above = self._stack[-1]
            above.seconds += now - self._since
            above.called += 1
        stage.entered += 1
        self._stack.append(stage)
        self._since = now

    def leave(self) -> None:
        now = self.clock()
        self._stack.pop().seconds += now - self._since
        self._since = now

    def reset(self) -> None:
        for stage in self.stages.values():
            stage.seconds, stage.entered, stage.called = 0.0, 0, 0
        for waits in self.waits.values():
            waits.clear()

    def own_seconds(self, cost: Cost) -> dict[str, float]:
        """By stage, without what the stop watches themselves cost."""
        return {
            name: max(0.0, stage.seconds - stage.entered * cost.inside - stage.called * cost.outside)
            for name, stage in self.stages.items()
        }

    def on(self, stage_name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, or coroutine function, under the watch of a stage."""
        stage = self.stages.setdefault(stage_name, Stage())
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
                return await self._drive(stage, function(*args, **kwargs))

            return watched_coroutine

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return watched

    @types.coroutine
    def _drive(self, stage: Stage, inner: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            self.enter(stage)
            try:
                waited_for = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                self.leave()
            value, error = None, None
            try:
                value = yield waited_for
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine, as `await` would
                error = exc

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The coroutine function; how long each call takes, waiting included, goes to `waits[name]`."""
        waits = self.waits.setdefault(name, [])

        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            began = self.clock()
            try:
                return await function(*args, **kwargs)
            finally:
                waits.append(self.clock() - began)

        return timed


def calibrate() -> Cost:
    """What a stop watch on an empty function costs here and now; a mean over functions and coroutines.

    Of many short rounds the least counts: on a busy machine the others hold time in which nothing ran.
    """
    plain = [_round(_nothing) for _ in range(_CALIBRATION_ROUNDS)]
    coroutines = [asyncio.run(_coroutine_round()) for _ in range(_CALIBRATION_ROUNDS)]
    costs = [_cost_of(plain), _cost_of(coroutines)]
    return Cost(sum(c.inside for c in costs) / len(costs), sum(c.outside for c in costs) / len(costs))


def _cost_of(rounds: Sequence[tuple[float, float, float]]) -> Cost:
    """The empty call itself is part of `bare`, and counted as the caller's."""
    inside, caller, bare = (min(seconds) / _CALIBRATION_CALLS for seconds in zip(*rounds, strict=True))
    return Cost(inside, max(0.0, caller - bare))


def _nothing() -> None:
    """Called for its own sake."""


async def _nothing_async() -> None:
    """Called for its own sake."""


def _round(function: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds that the stage of the callee saw, that of the caller, and the loop without stop watches."""
    watch = Watch()
    watched = watch.on("callee", function)

    def repeat(call: Callable[[], None]) -> None:
        for _ in range(_CALIBRATION_CALLS):
            call()

    began = time.perf_counter()
    repeat(function)
    bare = time.perf_counter() - began
    watch.on("caller", repeat)(watched)
    return watch.stages["callee"].seconds, watch.stages["caller"].seconds, bare


async def _coroutine_round() -> tuple[float, float, float]:
    watch = Watch()
    watched = watch.on("callee", _nothing_async)

    async def repeat(call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        for _ in range(_CALIBRATION_CALLS):
            await call()

    began = time.perf_counter()
    await repeat(_nothing_async)
    bare = time.perf_counter() - began
    await watch.on("caller", repeat)(watched)
    return watch.stages["callee"].seconds, watch.stages["caller"].seconds, bare
