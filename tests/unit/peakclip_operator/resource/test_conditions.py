"""What is wrong or unusual about a pool, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from resource_pool import SPEC, START, Pool

from peakclip import errors
from peakclip.errors import PeakclipError, RefusedError, UnavailableError
from peakclip_operator.plan import Lag, Memory, Observation, PoolSpec, decide
from peakclip_operator.resource.conditions import Facts
from peakclip_operator.resource.events import Event
from peakclip_operator.resource.model import read_spec
from peakclip_operator.resource.trouble import (
    ForbiddenError,
    KubernetesUnavailableError,
    WorkloadMissingError,
)


@pytest.mark.parametrize(
    ("port", "error", "reason", "words"),
    [
        ("scaler", WorkloadMissingError(), "WorkloadMissing",
         "The Deployment peakclip-worker-orders does not exist in the namespace shop: create it or correct"
         " spec.workload.name. The number of workers is held."),
        ("scale", ForbiddenError("patch", "deployments/scale"), "Forbidden", "to patch deployments/scale in the"),
        ("scaler", TimeoutError(), "KubernetesUnavailable", "The API server does not answer"),
        ("scale", KubernetesUnavailableError(), "KubernetesUnavailable", "The number of workers is held."),
        ("lag", RefusedError(10059, "stream not found"), "StreamMissing", "The stream SECKILL does not exist: create"),
        ("lag", RefusedError(10014, "consumer not found"), "ConsumerMissing",
         "The stream SECKILL has no consumer orders: create it"),
        ("lag", UnavailableError(), "NatsUnavailable", "NATS does not answer"),
        ("lag", TimeoutError(), "NatsUnavailable", "NATS does not answer"),
        ("lag", errors.ForbiddenError("publish to", "$JS.API.CONSUMER.INFO.A.b", "operator"), "NatsRefused",
         "NATS does not allow operator to publish to $JS.API.CONSUMER.INFO.A.b. Check its Secret"),
        ("set_pace", RefusedError(10077, "maximum messages exceeded"), "Failing", "The rate in force stays."),
        ("lag", PeakclipError("Something new."), "Failing", "Something new."),
    ],
)  # fmt: skip
def test_trouble_has_one_word_and_says_what_to_do(
    port: str, error: Exception, reason: str, words: str
) -> None:
    pool = Pool()
    pool.tick(Lag(0, 0, 0, 0))
    pool.failures = {port: error}
    if port == "scaler":
        pool.running = None
    pool.tick(None if port == "lag" else Lag(0, 0, 0, 0))
    assert pool.word("Ready") == f"False/{reason}"
    assert words in pool.condition("Ready")[2]
    assert pool.word("LagAvailable") == (f"False/{reason}" if port == "lag" else "True/Available")
    if port in ("lag", "scaler"):
        assert pool.word("Scaling") == "False/Held"
    assert [(one.type, one.reason) for one in pool.events] == [("Warning", reason)]
    pool.failures, pool.running = {}, 1
    pool.tick(Lag(0, 0, 0, 0))
    assert [one.reason for one in pool.events] == [reason, "Recovered"]


def test_what_keeps_the_operator_from_acting_is_said_before_what_keeps_it_from_seeing() -> None:
    pool = Pool(running=None, failures={"lag": UnavailableError(), "scaler": WorkloadMissingError()})
    pool.tick(None)
    assert pool.word("Ready") == "False/WorkloadMissing"
    assert pool.word("LagAvailable") == "False/NatsUnavailable"
    assert pool.status["replicas"] == {"current": None, "desired": None, "ceiling": 8}
    assert pool.status["eta"] == "unknown"


def test_trouble_that_comes_and_goes_is_not_told_each_time() -> None:
    pool = Pool()
    for _ in range(50):
        pool.failures = {"lag": UnavailableError()}
        pool.tick(None, 5)
        pool.failures = {}
        pool.tick(Lag(0, 0, 0, 0), 5)
    assert [one.reason for one in pool.events].count("NatsUnavailable") == 1  # 500 seconds
    pool.failures = {"lag": UnavailableError()}
    pool.tick(None, 200)
    assert [one.reason for one in pool.events].count("NatsUnavailable") == 2


def test_a_clock_that_is_set_back_silences_no_events() -> None:
    pool = Pool()
    pool.tick(Lag(10_000, 0, 10_000, 0))
    pool.spec = {**pool.spec, "replicas": {"min": 1, "max": 2}}
    pool.tick(Lag(10_000, 0, 10_000, 0), seconds=-3600)
    pool.tick(Lag(10_000, 0, 10_000, 0))
    assert [event.reason for event in pool.events].count("Scaled") == 2


def test_a_fallback_is_active_and_says_so() -> None:
    pool = Pool(SPEC | {"fallback": {"policy": "Fixed", "replicas": 5}})
    pool.tick(Lag(0, 0, 0, 0))
    pool.failures = {"lag": UnavailableError()}
    pool.tick(None)
    assert pool.word("Scaling") == "False/Held"
    pool.tick(None, 31)
    assert pool.word("Scaling") == "True/Active"
    assert (
        pool.condition("Scaling")[2]
        == "5 workers: spec.fallback, since the lag is unknown for more than 30s."
    )
    assert "held" not in pool.condition("Ready")[2]
    assert pool.events[-1].message.startswith("1 -> 5 workers: lag unknown")


@pytest.mark.parametrize(
    ("spec", "annotations", "ready", "paused", "scaling"),
    [
        ({"paused": True}, {}, "True/Paused", "True/WorkPaused", "False/Held"),
        ({}, {"peakclip.dev/paused": "true"}, "True/Paused", "True/ScalingPaused", "False/Held"),
        ({}, {"peakclip.dev/paused-replicas": "3"}, "True/Paused", "True/ReplicasPaused", "False/Held"),
        ({}, {"peakclip.dev/paused-scale-down": "true"}, "True/Idle", "True/ScaleDownPaused", "True/Active"),
    ],
)
def test_each_pause_has_its_word(
    spec: dict[str, Any], annotations: dict[str, str], ready: str, paused: str, scaling: str
) -> None:
    pool = Pool()
    pool.tick(Lag(0, 0, 0, 0))
    pool.spec, pool.annotations = SPEC | spec, annotations
    pool.tick(Lag(0, 0, 0, 0))
    pool.tick(Lag(0, 0, 0, 0))
    assert (pool.word("Ready"), pool.word("Paused"), pool.word("Scaling")) == (ready, paused, scaling)
    assert "until" in pool.condition("Paused")[2]
    pool.spec, pool.annotations = dict(SPEC), {}
    pool.tick(Lag(0, 0, 0, 0))
    assert pool.word("Paused") == "False/NotPaused"
    told = [one.reason for one in pool.events if one.reason not in ("Scaled",)]
    assert told == ["Paused", "Resumed"]


def test_advice_is_told_as_advice() -> None:
    pool = Pool(SPEC | {"mode": "Advise"})
    pool.tick(Lag(0, 0, 0, 0))
    pool.tick(Lag(9_000, 0, 9_000, 0))
    assert (pool.word("Ready"), pool.word("Scaling")) == ("True/Advising", "False/Held")
    assert (
        pool.condition("Ready")[2]
        == "Nothing is touched. The advice is 6 workers (CatchingUp)."
    )  # fmt: skip
    assert pool.status["replicas"]["desired"] == 6
    assert [(one.reason, one.message[:22]) for one in pool.events] == [("Advised", "Would go 1 -> 6 worker")]


def test_a_pool_at_its_maximum_is_limited_and_warns() -> None:
    pool = Pool(SPEC | {"replicas": {"max": 3}})
    pool.tick(Lag(9_000, 0, 9_000, 0))
    assert (pool.word("Ready"), pool.word("Scaling")) == ("True/AtMaximum", "True/Limited")
    assert "raise spec.replicas.max" in pool.condition("Ready")[2]
    assert [(one.type, one.reason) for one in pool.events] == [
        ("Normal", "Scaled"),
        ("Warning", "AtMaximum"),
    ]


def test_a_way_up_in_steps_is_limited_and_told_as_few_events() -> None:
    pool = Pool(SPEC | {"behavior": {"scaleUp": {"pods": 1, "period": "1s"}}})
    pool.tick(Lag(9_000, 0, 9_000, 0))
    assert pool.word("Scaling") == "True/Limited"
    for _ in range(9):
        pool.tick(Lag(9_000, 0, 9_000, 0))
    told = [one.message.partition(":")[0] for one in pool.events]
    assert told == ["1 -> 2 workers", "2 -> 6 workers"]


def test_workers_that_do_not_run_yet_are_told_apart() -> None:
    pool = Pool()
    pool.tick(Lag(9_000, 0, 9_000, 0))
    assert pool.condition("Scaling")[2] == "6 workers, 1 of them running: as many as 100/s needs."
    pool.tick(Lag(9_000, 0, 9_000, 0))
    assert pool.condition("Scaling")[2].startswith("6 workers: ")


def test_a_changed_limit_is_an_event() -> None:
    pool = Pool()
    pool.tick(Lag(0, 0, 0, 0))
    pool.spec["throughput"] = {"limitPerSecond": 300}
    pool.tick(Lag(0, 0, 0, 0))
    assert pool.events == [Event("Normal", "LimitChanged", "100/s -> 300/s, all workers together.")]


def test_a_spec_that_cannot_be_read_leaves_everything_as_it_is() -> None:
    pool = Pool()
    pool.write(Facts("shop", 2, START, None, invalid="spec.replicas: min may not exceed max."))
    assert pool.word("Ready") == "False/InvalidSpec"
    assert pool.condition("Ready")[2].startswith("spec.replicas: min may not exceed max. The workers")
    assert (pool.word("Scaling"), pool.word("LagAvailable")) == ("False/Held", "Unknown/InvalidSpec")


def test_before_the_first_tick_nothing_is_claimed() -> None:
    pool = Pool()
    pool.write(Facts("shop", 1, START, read_spec(SPEC)))
    assert pool.word("Ready") == "Unknown/Starting"
    assert pool.status["decision"] is None
    assert pool.events == []


def decided(now: float, **changes: Any) -> Facts:
    usual, _ = decide(PoolSpec(), Observation(Lag(9, 9, 99, 9), replicas=5), Memory(), now)
    decision = replace(usual, **{"reason": "CatchingUp", "binding_constraint": "limit", **changes})
    return Facts("shop", 1, now, read_spec(SPEC), decision=decision, workers=5)


def test_a_database_that_suffers_is_told_and_that_it_is_well_again() -> None:
    pool = Pool()
    pool.write(decided(START))
    pool.write(decided(START + 5, rate=70.0, rate_reason="database"))
    pool.write(decided(START + 10, rate=49.0, rate_reason="database"))
    assert pool.condition("Ready")[2].endswith("The database suffers, so 49/s are in force until it is well.")
    pool.write(decided(START + 15, rate_reason="database", valid=False))  # nothing is known at this moment
    pool.write(decided(START + 60))
    assert [(one.type, one.reason, one.message) for one in pool.events] == [
        ("Warning", "RateLowered", "The database suffers: 70/s of 100/s until it is well."),
        ("Normal", "RateRestored", "The database is well again: 100/s."),
    ]
    pool.write(decided(START + 90, rate=70.0, rate_reason="database"))
    assert len(pool.events) == 2  # not again so soon


@pytest.mark.parametrize(
    ("reason", "binding", "ready", "scaling", "words"),
    [
        ("Ineffective", "ineffective", "True/Ineffective", "True/Limited", "brought no throughput"),
        ("CatchingUp", "trial", "True/CatchingUp", "True/Limited", "show first whether they bring"),
        ("Excluded", "excluded", "True/Excluded", "False/Held", "nobody is started or ended"),
        ("KeepingUp", "beginning", "True/KeepingUp", "False/Held", "has just begun"),
        ("CatchingUp", "activation", "True/CatchingUp", "True/Active", "begin at once where there were none"),
    ],
)
def test_what_holds_the_number_has_a_word_and_a_sentence(
    reason: str, binding: str, ready: str, scaling: str, words: str
) -> None:
    pool = Pool()
    pool.write(decided(START, reason=reason, binding_constraint=binding))
    assert (pool.word("Ready"), pool.word("Scaling")) == (ready, scaling)
    assert words in pool.condition("Scaling")[2]
    assert [one.reason for one in pool.events] == (["Ineffective"] if reason == "Ineffective" else [])
