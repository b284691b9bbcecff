"""Runs of the limiter on the level of events: each condition by itself, dozens from seeds, and planted mistakes."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from click.testing import CliRunner
from simulation.planted import FAULTS

from peakclip_operator.simulation.cli import command
from peakclip_operator.simulation.events.broker import ServerTime
from peakclip_operator.simulation.events.conditions import Conditions, Happening, Kind, Lane
from peakclip_operator.simulation.events.draw import draw
from peakclip_operator.simulation.events.run import Result, Summary, run_conditions, run_events, sweep
from peakclip_operator.simulation.events.telling import many_runs, one_run
from peakclip_worker.consumer import Drain

FIRST_SEEDS = range(40)


def lane(rate: float = 100.0, workers: int = 8, seconds: float = 12.0, **more: Any) -> Lane:
    """With so many seconds of work, and a chunk more for each worker, who has it in hand."""
    chunk = Lane("", rate, workers).chunk
    return Lane("orders", rate, workers, messages=round(rate * seconds) + workers * chunk, **more)


def run(*happenings: Happening, seconds: float = 10.0, of: Lane | None = None, **more: Any) -> Result:
    return run_conditions(Conditions(1, seconds, (of or lane(),), happenings, **more))


def holds(result: Result) -> None:
    assert result.ok, "\n".join((*result.violations, f"again: {result.replay}"))


@pytest.mark.parametrize("seed", FIRST_SEEDS)
def test_a_run_of_a_seed(seed: int) -> None:
    holds(run_events(seed))


@pytest.mark.parametrize("seed", FIRST_SEEDS[:8])
def test_a_run_with_the_drain_loop_of_the_workers(seed: int) -> None:
    """The simulation ships beside the workers and may not import them; here it is run around their own loop."""
    holds(run_events(seed, make_drain=Drain))


def test_a_seed_gives_the_same_run_again() -> None:
    first, second = run_events(5, trace=True), run_events(5, trace=True)
    assert first.trace == second.trace
    assert len(first.trace) > 100
    assert first.events == second.events


def test_a_sweep_on_two_cores_finds_what_single_runs_find() -> None:
    apart = {one.seed: (one.events, one.starts, one.violations) for one in sweep(2, 4, jobs=2)}
    assert apart == {
        seed: (r.events, r.starts, r.violations) for seed in range(2, 6) for r in [run_events(seed)]
    }


def test_seeds_draw_every_condition() -> None:
    drawn = [draw(seed) for seed in range(300)]
    assert {one.kind for each in drawn for one in each.happenings} == set(Kind)
    rates = [lane.rate for each in drawn for lane in each.lanes]
    assert min(rates) <= 0.5
    assert max(rates) >= 10_000
    assert {1, 64} <= {lane.workers for each in drawn for lane in each.lanes}
    assert {1, 2, 3} <= {len(each.lanes) for each in drawn}
    assert min(lane.chunk for each in drawn for lane in each.lanes) >= 1
    assert max(lane.chunk for each in drawn for lane in each.lanes) == 100


@pytest.mark.parametrize("rate", [0.5, 7.0, 33.3, 100.0, 1_000.0, 10_000.0])
@pytest.mark.parametrize("workers", [2, 20, 64])
def test_nothing_wrong(rate: float, workers: int) -> None:
    seconds = 40.0 if rate < 1 else 6.0 if rate <= 1_000 else 4.5
    chunk = Lane("", rate, 1).chunk
    of = lane(rate, workers, seconds * 1.1, work_seconds=min(1.0, workers * chunk / rate / 4))
    result = run(seconds=seconds, of=of)
    holds(result)
    assert result.calm_seconds >= seconds - 2.6
    assert result.worst_share is None or result.worst_share >= 0.985


CASES = {
    "workers join": [Happening(1 + n / 4, Kind.JOIN) for n in range(20)],
    "workers are asked to end": [Happening(1 + n, Kind.TERM, who=n) for n in range(6)],
    "workers are killed": [Happening(1 + n, Kind.KILL, who=n) for n in range(6)],
    "all stand still for a moment": [Happening(2 + 2 * n, Kind.STOP, 0.3, who=-1) for n in range(3)],
    "all stand still for longer than a look is good": [Happening(3, Kind.STOP, 1.5, who=-1)],
    "one stands still until its messages come again": [Happening(1, Kind.STOP, 13.0)],
    "the way to the server is slow": [Happening(2, Kind.SLOW, 0.01, 3.0, who=-1)],
    "the way to the server is too slow": [Happening(2, Kind.SLOW, 0.1, 3.0, who=-1)],
    "answers take longer than anybody waits": [Happening(2, Kind.SLOW, 1.5, 3.0, who=-1)],
    "the tickets are gone": [Happening(3, Kind.FORGET), Happening(6, Kind.FORGET)],
    "the tickets are replaced at once": [Happening(2 + n * 1.7, Kind.REPLACE) for n in range(4)],
    "the memory is lost": [Happening(3, Kind.MEMORY), Happening(6, Kind.MEMORY)],
    "the server is restarted": [Happening(3, Kind.DOWN, 0.4), Happening(6, Kind.DOWN, 2.0)],
    "another server leads": [Happening(3, Kind.ELECT, 0.4), Happening(6, Kind.ELECT, 1.5)],
    "the server stands still": [Happening(3, Kind.FREEZE, 0.4), Happening(6, Kind.FREEZE, 1.5)],
    "the rate changes": [Happening(2, Kind.RATE, 150.0), Happening(5, Kind.RATE, 40.0)],
    "two changes within a fence": [Happening(3, Kind.RATE, 150.0), Happening(3.4, Kind.RATE, 90.0)],
    "the effective rate falls and rises": [Happening(2, Kind.EFFECTIVE, 20.0), Happening(5, Kind.EFFECTIVE, 90.0)],
    "a change whose writing is held up": [Happening(3, Kind.HOLD, 0.5, 4.0), Happening(3.1, Kind.RATE, 110.0)],
    "pause and resume": [Happening(2, Kind.PAUSE), Happening(5, Kind.RESUME)],
    "pause and resume within a fence": [Happening(3, Kind.PAUSE), Happening(3.3, Kind.RESUME)],
    "idle, then a burst": [Happening(14.3, Kind.ARRIVE, 400)],
}  # fmt: skip
THREE_SERVERS = (ServerTime(), ServerTime(0.004), ServerTime(-0.003))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("workers", [3, 25])
def test_one_thing_happens(name: str, workers: int) -> None:
    of = lane(100.0, workers, 12.0, work_seconds=workers / 100 / 4)
    result = run(
        *CASES[name], seconds=18.0 if "idle" in name else 10.0, of=of, servers=THREE_SERVERS, drift=100e-6
    )
    holds(result)


@pytest.mark.parametrize("name", CASES)
def test_one_thing_happens_while_tickets_are_held_far_ahead(name: str) -> None:
    holds(run(*CASES[name], of=lane(30.0, 64, 12.0), servers=THREE_SERVERS))


def test_retries_are_charged() -> None:
    result = run(of=lane(work_seconds=0.01, fail_chance=0.3))
    holds(result)
    assert result.starts > 1_200


def test_slow_workers_lower_the_rate_and_never_raise_it() -> None:
    result = run(of=lane(100.0, 4, 2.8, work_seconds=0.1))
    holds(result)
    assert result.by_itself
    assert result.most <= 50


def test_a_busy_machine() -> None:
    holds(run(of=lane(500.0, 20, 12.0, work_seconds=0.05), lateness=0.02, stall_chance=0.01, stall=0.3))


def test_lanes_share_r() -> None:
    lanes = tuple(
        Lane(name, rate, 6, messages=round(rate * 9), work_seconds=6 / rate / 4)
        for name, rate in (("card", 60.0), ("wallet", 30.0), ("other", 10.0))
    )
    holds(run_conditions(Conditions(3, 8.0, lanes, (Happening(3.0, Kind.RATE, 20.0, lane=0),))))


def test_a_worker_far_away_never_stands_still_while_its_limiter_is_open() -> None:
    """A round trip of 32 ms: the answer about a number of now comes later than its start may be."""
    of = lane(100.0, 1, 0.39, work_seconds=0.01)
    result = run(of=of, seconds=30.0, latency=0.016)
    holds(result)
    assert result.seconds <= 31.0, "forty starts in thirty seconds, before anything is healed"
    assert result.by_itself


SEEDS = int(os.environ.get("PEAKCLIP_EVENTS_SEEDS", "0"))  # by so many seeds of the sweep alone: minutes
STANDING = CASES["all stand still for longer than a look is good"]
REPLACED = [Happening(2 + 0.77 * n, Kind.REPLACE) for n in range(9)]
HARD = {
    "late tickets started": (CASES["all stand still for a moment"], lane(100.0, 25)),
    "fence of the writer only": (CASES["a change whose writing is held up"], lane(100.0, 25)),
    "no fence": (CASES["the rate changes"], lane(100.0, 25)),
    "counters restart without the skip": (REPLACED, lane(100.0, 60, work_seconds=0.03)),
    "old rate not voided": (CASES["two changes within a fence"], lane(30.0, 64)),
    "stale looks trusted": (STANDING, lane(100.0, 25)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.timeout(120 + SEEDS * 10)
def test_a_planted_mistake_is_found(fault: str) -> None:
    """Those that few seeds meet, by conditions made for them; all of them by the sweep."""
    by_hand = [Conditions(1, 10.0, (of,), tuple(what)) for what, of in [HARD[fault]]] if fault in HARD else []
    for conditions in map(draw, range(SEEDS)) if SEEDS else (*by_hand, *map(draw, range(40))):
        with FAULTS[fault]() as make_drain:
            result = run_conditions(conditions, make_drain=make_drain)
        if not result.ok:
            print(f"{fault}: seed {result.seed}: {result.violations[0]}")
            return
    raise AssertionError("nothing finds it")


def test_what_the_command_says() -> None:
    words, ok = one_run(3)
    assert ok
    assert "1 runs, 0 with a broken promise" in words
    told: list[str] = []
    words, ok = many_runs(1, 4, 1, as_json=True, progress=told.append)
    assert ok
    assert json.loads(words)["runs"] == 4
    assert told[-1].startswith("4 of 4 runs")


def test_the_command_makes_a_run_again() -> None:
    found = CliRunner().invoke(command, ["--events", "--seed", "3"])
    assert found.exit_code == 0
    assert "1 runs, 0 with a broken promise" in found.output
    with FAULTS["too wide a tolerance"]():
        found = CliRunner().invoke(command, ["--events", "--seed", "0"])
    assert found.exit_code == 1
    assert "peakclip simulate --events --seed 0" in found.output


def test_a_broken_promise_is_told_with_its_seed_and_the_command() -> None:
    with FAULTS["ticket before message"]() as make_drain:
        result = run_events(2, make_drain=make_drain)
    summary = Summary()
    summary.add(result)
    words = "\n".join(summary.lines(1.0))
    assert "seed 2: at " in words
    assert "peakclip simulate --events --seed 2" in words
