"""What `peakclip explain` says of a real decision."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from peakclip.cli.explain import as_text
from peakclip.messages import PoolStatus, encode
from peakclip_operator.plan import DatabaseTotals, Lag, Memory, Observation, PoolSpec, Totals, decide
from peakclip_operator.plan.effect import Trials
from peakclip_operator.plan.explain import formula
from peakclip_operator.ports import PaceReading, Telemetry, Workers
from peakclip_operator.report import Seen, pool_status

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def status(observation: Observation, ticks: int = 20) -> PoolStatus:
    """Of the last of so many ticks, a second apart, as it comes out of NATS."""
    spec, memory = PoolSpec(), Memory()
    for tick in range(ticks):
        lag = observation.lag
        if lag is not None:
            observation = Observation(
                Lag(lag.ready - 100, lag.in_flight, lag.last_seq, lag.finished_seq + 100, 3.0, 1, 5),
                *(observation.totals, observation.replicas, observation.ready, observation.delayed),
            )
        decision, memory = decide(spec, observation, memory, NOW + tick)
    workers = None if observation.replicas is None else Workers(observation.ready or 0, 0)
    heard = Telemetry(observation.totals, (), finished_ever=7) if observation.totals else None
    seen = Seen(NOW + ticks - 1, workers, heard, PaceReading(100.0, 100.0, paused=False, burst=5))
    made = pool_status("orders", spec, observation, decision, seen)
    return msgspec.json.decode(encode(made), type=PoolStatus)


def test_a_decision_is_shown_with_its_formula_its_bounds_and_its_numbers() -> None:
    database = DatabaseTotals(0, 0, 0.0, (0, 0), (1.0,))
    text = as_text(
        status(Observation(Lag(12_000, 6, 12_000, 0), Totals(0, 0, 0.0, database), 6, ready=5, delayed=2))
    )
    lines = text.splitlines()
    assert lines[0] == "orders at 22:13:39"
    assert lines[1].startswith("workers   6 wanted, 5 running: CatchingUp, by ")
    assert lines[2] == "rate      100/s in force of 100/s (limit)"
    assert lines[4].startswith("want = min(R 100, lag 10006/120")
    assert sum(line.endswith("  binds") for line in lines) == 1
    shown = dict(line.split(maxsplit=1) for line in lines if line.count("  ") and " " in line.strip())
    assert shown["lag_ready"] == "10,000"
    assert shown["lag_delayed"] == "2"
    assert shown["utilization"] == "0.7"
    assert shown["per_worker_is_prior"] == "yes"
    assert shown["database_p95_seconds"] == "unknown"
    assert shown["speed"] == "22:13:20, for 19 s"
    assert "lag  " not in text


def test_unknown_is_said_with_its_time_and_never_as_zero() -> None:
    blind = status(Observation(), ticks=4)
    assert (blind.workers_current, blind.workers_desired, blind.lag_ready, blind.lag_redelivered) == (
        None,
    ) * 4
    text = as_text(blind)
    assert "unknown wanted, unknown running: WorkersUnknown, by unknown" in text
    for signal in ("lag", "telemetry", "workers", "ready", "delayed", "arrivals", "speed", "database"):
        assert f"\n{signal.ljust(9)}  22:13:20, for 3 s" in text


def test_what_an_older_operator_says_is_shown_as_far_as_it_goes() -> None:
    told = msgspec.to_builtins(status(Observation()))
    for name in ("formula", "bounds", "unknown", "inputs", "rate_reason"):
        del told[name]
    text = as_text(msgspec.convert(told, PoolStatus))
    assert len(text.splitlines()) == 3


NUMBERS = {
    "lag_ready": 12_340, "lag_in_flight": 10, "lag_stuck": 3, "counted_arrival_per_second": 1666.67,
    "catch_up_seconds": 120, "want_per_second": 100.0, "effective_per_second": 100.0, "start_seconds": 3.0,
    "utilization": 0.7, "demand_per_second": 2506.4, "spare": 0.2, "per_worker_per_second": 22.0,
}  # fmt: skip


def test_the_formula_shows_every_number_that_it_rests_on() -> None:
    bounds = [("limit", 6), ("ceiling", 7)]
    assert formula(NUMBERS, bounds, 6) == (
        "want = min(R 100, lag 12347/120 + arrivals 1667*3/120 + 1667/0.7 = 2506) = 100; "
        "needed = 100*1.2/22; limit 6, ceiling 7 -> 6 workers"
    )
    unknown = NUMBERS | {"lag_in_flight": None, "demand_per_second": None, "lag_stuck": None, "spare": None}
    assert formula(unknown, [], None) == (
        "want = min(R 100, lag ?/120 + arrivals 1667*3/120 + 1667/0.7 = ?) = 100; needed = 100*1/22; -> unknown"
    )
    assert "lag 12350/120" in formula(NUMBERS | {"lag_stuck": None}, [], 1)
    assert "lag ?/120" in formula(NUMBERS | {"lag_ready": None}, [], 1)
    assert formula(NUMBERS | {"want_per_second": None}, bounds[:1], 0) == "limit 6 -> 0 workers"


def test_every_number_that_was_used_is_told_under_its_name() -> None:
    spec = PoolSpec(batch=2, share_per_second=90.0)
    calls = [
        DatabaseTotals(0, 0, 0.0, (0, 0, 0), (0.1, 1.0)),
        DatabaseTotals(100, 1, 5.0, (90, 10, 0), (0.1, 1.0)),
    ]
    memory = Memory(replicas=8)
    lag = Lag(12_000, 6, 12_100, 94, 7.5, redelivered=6, floor_seq=90)
    for now, database in ((NOW, calls[0]), (NOW + 6, calls[1])):
        seen = Observation(lag, Totals(0, 0, 0.0, database), 8, ready=7, delayed=2, scheduled=3)
        trials = Trials(most=5, until=NOW + 60, rate=100.0, block_seconds=60.0)
        decision, memory = decide(spec, seen, replace(memory, trials=trials), now)
    inputs = decision.inputs
    assert {name: inputs[name] for name in NAMED} == NAMED
    assert inputs.keys() == NAMED.keys() | {
        "stable_arrival_per_second", "arrival_per_second", "counted_arrival_per_second", "drain_per_second",
        "demand_per_second", "want_per_second", "needed_workers", "database_per_second",
    }  # fmt: skip
    blind, _ = decide(spec, Observation(), replace(memory, trials=Trials()), NOW + 120)
    assert {name for name, value in blind.inputs.items() if value is None} >= {
        "lag_ready", "lag_in_flight", "lag_stuck", "lag_delayed", "lag_scheduled", "oldest_seconds", "observed_workers",
        "ready_workers", "blocked_above_workers", "blocked_until",
    }  # fmt: skip


NAMED = {
    "lag_ready": 12_000, "lag_in_flight": 6, "lag_stuck": 0, "lag_delayed": 2, "lag_scheduled": 3,
    "oldest_seconds": 7.5, "per_worker_per_second": 40.0, "per_worker_is_prior": True, "batch": 2,
    "limit_per_second": 100.0, "effective_per_second": 90.0, "share_per_second": 90.0, "database_error_share": 0.01,
    "database_wait_seconds": 0.05, "database_p95_seconds": pytest.approx(0.55), "observed_workers": 8,
    "ready_workers": 7, "blocked_above_workers": 5, "blocked_until": NOW + 60, "catch_up_seconds": 120.0,
    "start_seconds": 0.5, "utilization": 0.7, "spare": 0.2,
}  # fmt: skip
