"""The numbers of a status, and the Events of its changes, made from decisions of the real plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from resource_pool import SPEC, START, Pool

from peakclip.errors import UnavailableError
from peakclip_operator.plan import Lag, Memory, Observation, PoolSpec, Totals, decide
from peakclip_operator.resource.conditions import Facts
from peakclip_operator.resource.model import read_spec
from peakclip_operator.resource.status_model import WorkerPoolStatus


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
        "total": 6_400, "ready": 6_396, "inFlight": 4, "delayed": 3, "scheduled": None, "redelivered": None,
        "oldestSeconds": 59,
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


def test_rates_are_rounded_to_what_people_read() -> None:
    pool = Pool()
    for second in range(1, 30):
        pool.tick(drained(second, rate=99.87), totals=Totals(second * 1_234, 0, second * 1.0))
    assert pool.status["rates"]["drainPerSecond"] == 99.8
    assert pool.status["rates"]["perWorkerPerSecond"] == 1_230
    assert pool.status["decision"]["inputs"]["perWorkerPerSecond"] == 1_230


def test_a_quiet_pools_status_stays_the_same() -> None:
    pool = Pool()
    lag = Lag(0, 0, 700, 700)
    seen = [pool.tick(lag, totals=Totals(700 + second % 2, 0, 3.0)) for second in range(120)]
    assert all(one == seen[-1] for one in seen[40:])
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


def test_a_decision_is_told_with_its_bounds_and_what_is_unknown_since_when() -> None:
    pool = Pool()
    for second in range(1, 10):
        pool.tick(replace(drained(second), redelivered=2))
    told = pool.status["decision"]
    assert pool.status["lag"]["redelivered"] == 2
    assert told["rateReason"] == "limit"
    assert told["formula"].startswith("want = min(R 100")
    assert {"constraint": told["bindingConstraint"], "workers": pool.status["replicas"]["desired"]} in told[
        "bounds"
    ]
    since = datetime.fromtimestamp(START + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert told["unknown"] == dict.fromkeys(("telemetry", "ready", "speed", "database"), since)


def test_a_time_among_the_inputs_keeps_all_its_digits() -> None:
    usual, _ = decide(PoolSpec(), Observation(), Memory(), START)
    decision = replace(usual, inputs={**usual.inputs, "blocked_until": START + 61.4, "spare": 0.23456})
    pool = Pool()
    pool.write(Facts("shop", 1, START, read_spec(SPEC), decision=decision))
    inputs = pool.status["decision"]["inputs"]
    assert (inputs["blockedUntil"], inputs["spare"]) == (START + 61, 0.235)
