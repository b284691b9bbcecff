"""Gauges of a pool that nobody looks after are gone, and those of one that cannot be looked at are unknown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from peakclip import telemetry
from peakclip.messages import PoolStatus
from peakclip_operator import report
from peakclip_operator.plan import Memory, Observation, PoolSpec, Totals, decide
from peakclip_operator.ports import Telemetry, Workers

SEEN = report.Seen(
    now=1.0,
    workers=Workers(running=2, starting=0),
    heard=Telemetry(Totals(1, 0, 1.0), [], starts_max_sliding_second=9, starts_recent_most=9),
    pace=None,
    has_timers=True,
)


def status(pool: str) -> PoolStatus:
    return PoolStatus(
        pool=pool, at=1.0, limit_per_second=10.0, effective_per_second=10.0, paused=False, lag_ready=5,
        lag_in_flight=1, oldest_seconds=1.0, arrival_per_second=1.0, drain_per_second=1.0,
        per_worker_per_second=5.0, workers_current=2, workers_desired=2, workers_ceiling=3, eta_seconds=1.0,
        reason="CatchingUp", binding_constraint="limit", processed_total=1, failed_total=0,
        average_processing_seconds=0.2, starts_max_sliding_second=9, burst=2, lag_delayed=0,
    )  # fmt: skip


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_what_is_unknown_how_the_database_is_and_what_is_blocked_can_be_seen() -> None:
    suffering = msgspec.structs.replace(
        status("one"),
        unknown={"lag": -19.0, "added_later": 0.0},
        inputs={"database_error_share": 0.25, "database_p95_seconds": None},
        binding_constraint="ineffective",
        lag_scheduled=4,
    )
    report.export(suffering, PoolSpec(), SEEN, 2)
    known = {
        signal: value("peakclip_signal_unknown_seconds", pool="one", signal=signal)
        for signal in report.SIGNALS
    }
    assert known == {**dict.fromkeys(report.SIGNALS, 0.0), "lag": 20.0}
    assert value("peakclip_signal_unknown_seconds", pool="one", signal="added_later") == 1.0
    assert value("peakclip_database_health", pool="one", measure="error_share") == 0.25
    for unknown in ("wait_seconds", "p95_seconds"):
        assert math.isnan(value("peakclip_database_health", pool="one", measure=unknown) or 0.0)
    assert value("peakclip_scale_up_blocked", pool="one") == 1
    assert value("peakclip_lag_messages", pool="one", state="scheduled") == 4
    report.export(status("one"), PoolSpec(), SEEN, 2)
    assert value("peakclip_scale_up_blocked", pool="one") == 0
    report.forget("one")


def test_a_pool_without_timers_has_no_number_of_them() -> None:
    report.export(status("one"), PoolSpec(), replace(SEEN, has_timers=False), 2)
    assert value("peakclip_lag_messages", pool="one", state="scheduled") is None
    report.forget("one")


def told(pool: str) -> list[float]:
    """Every gauge of the pool, whatever its other labels."""
    return [
        sample.value
        for metric in vars(telemetry).values()
        if isinstance(metric, MetricWrapperBase) and metric._type == "gauge" and "pool" in metric._labelnames
        for family in metric.collect()
        for sample in family.samples
        if sample.labels["pool"] == pool
    ]


@pytest.fixture
def two_pools() -> Iterator[None]:
    for pool in ("one", "other"):
        report.export(status(pool), PoolSpec(), SEEN, 2)
    yield
    for pool in ("one", "other"):
        report.forget(pool)


def test_every_number_of_a_pool_is_forgotten_with_it(two_pools: None) -> None:
    before = told("other")
    report.forget("one")
    assert told("one") == []
    assert told("other") == before
    assert before


def test_every_number_of_a_pool_that_cannot_be_looked_at_is_unknown(two_pools: None) -> None:
    before = told("one"), told("other")
    report.unknown("one")
    assert [math.isnan(value) for value in told("one")] == [True] * len(before[0])
    assert told("other") == before[1]


def test_what_the_decision_rests_on_names_signals_and_measures_as_the_gauges_do() -> None:
    decision, _ = decide(PoolSpec(), Observation(), Memory(), 1.0)
    assert set(decision.unknown) == set(report.SIGNALS)
    assert {f"database_{measure}" for measure in report.HEALTH} <= set(decision.inputs)
