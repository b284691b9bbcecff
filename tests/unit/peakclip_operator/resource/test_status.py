"""Status, conditions and Events, made from decisions of the real plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from peakclip.errors import PeakclipError, RefusedError, UnavailableError
from peakclip_operator.plan import Lag, Memory, Observation, Totals, decide
from peakclip_operator.ports import PaceReading, Telemetry, Workers
from peakclip_operator.report import Seen, pool_status
from peakclip_operator.resource.conditions import Facts
from peakclip_operator.resource.events import Event, EventMemory, events
from peakclip_operator.resource.model import read_spec
from peakclip_operator.resource.status import build_status
from peakclip_operator.resource.status_model import WorkerPoolStatus
from peakclip_operator.resource.trouble import (
    ForbiddenError,
    KubernetesUnavailableError,
    NatsRefusedError,
    WorkloadMissingError,
)
from peakclip_operator.resource.wish import read_pauses, to_pool_spec

SPEC: dict[str, Any] = {
    "workload": {"name": "peakclip-worker-orders"},
    "source": {"stream": "SECKILL", "consumer": "orders"},
    "throughput": {"limitPerSecond": 100},
}
START = 1_700_000_000.0


@dataclass
class Pool:
    """Ticks of the real plan; `facts` is what an operator would know of the last one."""

    spec: dict[str, Any] = field(default_factory=lambda: dict(SPEC))
    annotations: dict[str, str] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    generation: int = 1
    running: int | None = 1
    now: float = START
    memory: Memory = field(default_factory=Memory)
    status: dict[str, Any] = field(default_factory=dict)
    told: EventMemory = field(default_factory=EventMemory)
    events: list[Event] = field(default_factory=list)

    def tick(self, lag: Lag | None, seconds: float = 1.0, totals: Totals | None = None) -> dict[str, Any]:
        spec = read_spec(self.spec)
        self.now += seconds
        wish = to_pool_spec(spec, self.annotations)
        observation = Observation(lag, totals, self.running)
        decision, self.memory = decide(wish, observation, self.memory, self.now)
        workers = None if self.running is None else Workers(self.running, 0)
        heard = Telemetry(totals, ()) if totals else None
        seen = Seen(self.now, workers, heard, PaceReading(100.0, 100.0, paused=wish.paused), 3)
        facts = Facts(
            "shop",
            self.generation,
            self.now,
            spec,
            pauses=read_pauses(self.annotations, spec),
            decision=decision,
            status=pool_status("orders", wish, observation, decision, seen),
            workers=self.running,
            failures=self.failures,
        )
        if spec.mode == "Enforce" and self.running is not None:
            self.running = decision.replicas
        return self.write(facts)

    def write(self, facts: Facts) -> dict[str, Any]:
        self.status = build_status(facts, self.status)
        new, self.told = events(facts, self.status, self.told)
        self.events += new
        return self.status

    def condition(self, kind: str) -> tuple[str, str, str]:
        (one,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return one["status"], one["reason"], one["message"]

    def word(self, kind: str) -> str:
        return "/".join(self.condition(kind)[:2])


def drained(at: float, *, stored: int = 12_300, rate: float = 100.0) -> Lag:
    done = int(at * rate)
    return Lag(stored - done - 4, 4, stored, done, oldest_seconds=at)


def test_a_burst_from_its_beginning_to_its_end() -> None:
    pool = Pool()
    for _ in range(20):
        pool.tick(Lag(0, 0, 0, 0))
    assert pool.word("Ready") == "True/Idle"
    assert pool.events == []
    for second in range(1, 60):
        pool.tick(drained(second), totals=Totals(100 * second, 0, 4.0 * second))
    status = pool.status
    assert (pool.word("Ready"), pool.word("Scaling")) == ("True/CatchingUp", "True/Active")
    assert (pool.word("LagAvailable"), pool.word("Paused")) == ("True/Available", "False/NotPaused")
    assert status["lag"] == {
        "total": 6_400, "ready": 6_396, "inFlight": 4, "delayed": 3, "scheduled": None, "oldestSeconds": 59,
    }  # fmt: skip
    assert status["rates"] == {
        "arrivalPerSecond": 0.0, "drainPerSecond": 100.0, "perWorkerPerSecond": 25.0, "limitPerSecond": 100.0,
        "effectivePerSecond": 100.0,
    }  # fmt: skip
    assert (status["etaSeconds"], status["eta"]) == (64, "1m4s")
    assert status["replicas"] == {"current": 6, "desired": 6, "ceiling": 6}
    assert status["decision"]["inputs"]["perWorkerPerSecond"] == 25.0
    assert [(one.type, one.reason) for one in pool.events] == [("Normal", "Scaled")]
    assert pool.events[0].message == (
        "1 -> 6 workers: 12,200 waiting, 2,050/s in, 20/s per worker (a guess), limit 100/s"
        " (CatchingUp, by limit)"
    )


def test_a_quiet_pools_status_stays_the_same() -> None:
    pool = Pool()
    lag = Lag(0, 0, 700, 700)
    seen = [pool.tick(lag, totals=Totals(700 + second % 2, 0, 3.0)) for second in range(120)]
    assert all(one == seen[-1] for one in seen[10:])
    assert pool.events == []


def test_a_time_moves_with_its_status_only() -> None:
    pool = Pool()
    pool.tick(Lag(0, 0, 0, 0))
    first = {one["type"]: one["lastTransitionTime"] for one in pool.status["conditions"]}
    assert set(first) == {"Ready", "Scaling", "LagAvailable", "Paused"}
    pool.tick(Lag(9_000, 0, 9_000, 0), 100)
    assert pool.word("Ready") == "True/CatchingUp"  # another reason
    assert {one["type"]: one["lastTransitionTime"] for one in pool.status["conditions"]} == first
    pool.failures = {"lag": UnavailableError()}
    pool.generation = 2
    pool.tick(None, 100)
    times = {one["type"]: one["lastTransitionTime"] for one in pool.status["conditions"]}
    changed = {kind for kind in times if times[kind] != first[kind]}
    assert changed == {"Ready", "LagAvailable", "Scaling"}
    assert times["Ready"] == "2023-11-14T22:16:41Z"
    assert {one["observedGeneration"] for one in pool.status["conditions"]} == {2}
    assert pool.status["observedGeneration"] == 2


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
        ("lag", NatsRefusedError("Permissions Violation for Publish to \"$JS.API.CONSUMER.INFO.A.b\""), "NatsRefused",
         "Permissions Violation for Publish to \"$JS.API.CONSUMER.INFO.A.b\". Check its Secret"),
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


@pytest.mark.parametrize(
    ("ready", "eta"), [(0, "0s"), (100, "1s"), (59_900, "9m59s"), (100_000, "16m40s"), (1_000_000, "2h47m")]
)
def test_the_eta_is_as_coarse_as_people_are(ready: int, eta: str) -> None:
    pool = Pool()
    pool.tick(Lag(ready, 0, ready, 0))
    pool.tick(Lag(ready, 0, ready, 0), 1.0)
    assert pool.status["eta"] == eta


def test_the_eta_says_never_and_paused() -> None:
    pool = Pool()
    for second in range(60):
        pool.tick(Lag(200 * second, 0, 300 * second, 100 * second))
    assert (pool.status["eta"], pool.status["etaSeconds"]) == ("never", None)
    pool.spec["paused"] = True
    pool.tick(Lag(9_000, 0, 18_000, 9_000))
    assert pool.status["eta"] == "paused"


def test_every_status_is_one_that_the_definition_allows() -> None:
    pool = Pool()
    pool.tick(drained(1))
    again = WorkerPoolStatus.model_validate(pool.status)
    assert again.model_dump(mode="json", by_alias=True) == pool.status
