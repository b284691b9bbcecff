"""The stop watches of the profile, on a clock that only the tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from benchmarks import probes, profile_accept
from benchmarks.load import Run
from benchmarks.probes import Cost, Watch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def step(coroutine: Any) -> Any:
    """Runs a coroutine until it waits."""
    return coroutine.send(None)


class Waiting:
    """Something to wait for, resumed by hand."""

    def __await__(self) -> Generator[str, None, None]:
        yield "waiting"


def test_time_is_charged_to_the_innermost_stage() -> None:
    clock = Clock()
    watch = Watch(clock)
    inner = watch.on("inner", lambda: clock.pass_(3.0))

    def work() -> None:
        clock.pass_(1.0)
        inner()
        clock.pass_(0.5)

    watch.on("outer", work)()
    assert watch.own_seconds(Cost()) == {"inner": 3.0, "outer": 1.5}


def test_waiting_is_nobodys_time_and_another_coroutine_has_its_own() -> None:
    clock = Clock()
    watch = Watch(clock)

    async def slow() -> str:
        clock.pass_(1.0)
        await Waiting()
        clock.pass_(2.0)
        return "done"

    first = watch.on("first", slow)()
    second = watch.on("second", slow)()
    assert step(first) == "waiting"
    clock.pass_(100.0)  # the loop is idle, or does something else
    step(second)
    clock.pass_(100.0)
    with pytest.raises(StopIteration) as stopped:
        step(first)
    assert stopped.value.value == "done"
    assert watch.own_seconds(Cost()) == {"first": 3.0, "second": 1.0}
    second.close()


async def test_errors_and_cancellation_reach_the_coroutine() -> None:
    watch = Watch()
    seen: list[str] = []

    async def guarded() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("as it was")

    task = asyncio.create_task(watch.on("guarded", guarded)())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ValueError, match="as it was"):
        await watch.on("fails", fails)()
    assert seen == ["cancelled"]
    assert watch._stack == []


def test_what_is_thrown_into_a_waiting_coroutine_arrives_there() -> None:
    async def handles() -> str:
        try:
            await Waiting()
        except KeyError as exc:
            return f"got {exc}"
        return "got nothing"

    watched = Watch().on("handles", handles)()
    step(watched)
    with pytest.raises(StopIteration) as stopped:
        watched.throw(KeyError("this"))
    assert stopped.value.value == "got 'this'"


def test_the_watches_own_cost_is_taken_off() -> None:
    clock = Clock()
    watch = Watch(clock)
    inner = watch.on("inner", lambda: clock.pass_(1.0))

    def work() -> None:
        for _ in range(4):
            inner()
            clock.pass_(2.0)

    watch.on("outer", work)()
    own = watch.own_seconds(Cost(inside=0.25, outside=0.5))
    assert own == {"inner": 4.0 - 4 * 0.25, "outer": 8.0 - 0.25 - 4 * 0.5}
    watch.reset()
    assert watch.own_seconds(Cost()) == {"inner": 0.0, "outer": 0.0}


def test_stages_add_up_to_what_an_accept_costs_without_watches() -> None:
    watched = {"cpu_us": 130.0, "watch_us": 10.0, "stages_us": {"parse": 60.0, "write": 30.0}}
    found = profile_accept.scaled_stages({"cpu_us": 100.0}, watched)
    assert found == {"parse": 50.0, "write": 25.0, profile_accept.LOOP: 25.0}


def test_seconds_of_a_process_become_microseconds_of_an_order() -> None:
    done = Run(10_000, 1.0, 10_000.0, 20.0, 40.0, 50.0, 0, {"nats": 9.0, "client": 20.0})
    found = profile_accept.per_order(
        {"user_seconds": 0.7, "system_seconds": 0.1, "garbage_collection_seconds": 0.02, "preempted": 30},
        done,
    )
    assert (found["cpu_us"], found["system_us"], found["garbage_collection_us"]) == (80.0, 10.0, 2.0)
    assert found["preempted_per_1000"] == 3.0


def test_a_round_in_which_others_had_the_machine_says_nothing_of_a_stop_watch() -> None:
    """A thousand calls each: 0.3 us in the stage, 0.2 us in its caller beyond the bare loop."""
    quiet, busy = (0.0003, 0.0007, 0.0005), (0.0201, 0.0407, 0.0205)
    cost = probes._cost_of([busy, quiet, busy])
    assert (cost.inside, cost.outside) == (pytest.approx(3e-7), pytest.approx(2e-7))
