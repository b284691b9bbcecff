"""The custom resource as people use it with kubectl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from e2e.rates import per_second
from e2e.record import measured
from e2e.shell import CommandError
from e2e.system import System
from e2e.wait import wait_for

EFFECT_SECONDS = 2.0
_WINDOW = 0.25


async def test_a_new_limit_is_in_force_within_two_seconds(system: System) -> None:
    """By the moments at which orders started in the database, and by no restart of anything."""
    await system.change("orders", {"throughput": {"limitPerSecond": 100}, "replicas": {"min": 8}})
    await system.until_workers("orders", 8, 90)
    before = await _containers(system)
    sale = await system.sale(3_000)
    orders = await system.burst(sale, 3_000)
    await system.until_rows(sale, 300, 30)
    lowered = await system.change("orders", {"throughput": {"limitPerSecond": 30}})
    await wait_for("6 s at 30/s", lambda: _since(system, sale, lowered), lambda rows: rows >= 180, 60)
    raised = await system.change("orders", {"throughput": {"limitPerSecond": 100}})
    await system.until_rows(sale, 3_000, 90)
    started = await system.moments(sale, "started_at")
    slow = [at for at in started if lowered <= at < raised]
    down = max((at - lowered for at in slow if _rate(started, at - _WINDOW) > 30 + 5 / _WINDOW), default=0.0)
    up = next(at - raised for at in started if at >= raised and _rate(started, at) >= 80)
    measured("limit-change", {"lowered_seconds": round(down, 2), "raised_seconds": round(up, 2)})
    print(per_second(started, started[0], started[-1]))
    assert down < EFFECT_SECONDS
    assert up < EFFECT_SECONDS
    assert await _containers(system) == before
    assert len(orders.accepted) == 3_000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"replicas": {"min": 9, "max": 3}}, "min may not exceed max"),
        ({"throughput": {"utilization": 0.99}}, "utilization must be between 0.1 and 0.83"),
        ({"throughput": {"limitPerSecond": 0}}, "limitPerSecond must be between"),
        ({"throughput": {"shared": {"group": "Database", "limitPerSecond": 9}}}, "group is small letters"),
        (
            {"behavior": {"excludedPeriods": [{"from": "01:00", "to": "03:00", "timeZone": "Asia/Shangai"}]}},
            "timeZone must be a name of the time zone database",
        ),
        (
            {"behavior": {"excludedPeriods": [{"from": "1:00", "to": "03:00"}]}},
            "from and to are times of the day",
        ),
        ({"fallback": {"policy": "Fixed"}}, "replicas is required with the policies Floor and Fixed"),
    ],
)
async def test_a_wish_that_breaks_a_rule_is_refused_with_a_sentence(
    system: System, change: Mapping[str, Any], sentence: str
) -> None:
    before = (await system.resource("orders"))["spec"]
    with pytest.raises(CommandError, match=sentence) as refused:
        await system.change("orders", change)
    print(str(refused.value).splitlines()[-1])
    assert (await system.resource("orders"))["spec"] == before


async def test_a_missing_consumer_holds_the_replicas_and_says_so(system: System) -> None:
    name = "nothing-to-read"
    workload = {"name": name, "namespace": system.namespace}
    container = {
        "name": "pause", "image": (await _image(system)), "command": ["sleep", "infinity"],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 10001, "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    }  # fmt: skip
    labels = {"app": name}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": workload,
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }  # fmt: skip
    pool = {
        "apiVersion": "peakclip.dev/v1alpha1", "kind": "WorkerPool", "metadata": workload,
        "spec": {
            "workload": {"name": name}, "source": {"stream": "SECKILL", "consumer": "nobodys"},
            "throughput": {"limitPerSecond": 10}, "replicas": {"min": 1, "max": 5},
        },
    }  # fmt: skip
    try:
        await system.kubectl.apply(json.dumps(deployment))
        await system.kubectl.apply(json.dumps(pool))

        async def condition() -> dict[str, Any]:
            found = await system.kubectl.get("workerpool", name)
            conditions = found.get("status", {}).get("conditions", [])
            return next((one for one in conditions if one["type"] == "LagAvailable"), {})

        seen = await wait_for(
            "the lag is said to be unknown", condition, lambda it: it.get("status") == "False", 60
        )
        print(seen["reason"], seen["message"])
        assert seen["reason"] == "ConsumerMissing", seen
        assert (await system.kubectl.get("deployment", name))["spec"]["replicas"] == 2
    finally:
        await system.kubectl("delete", "workerpool", name, "--ignore-not-found")
        left = await system.kubectl.get("deployment", name)
        await system.kubectl("delete", "deployment", name, "--ignore-not-found")
    assert left["spec"]["replicas"] == 2, "deleting the resource leaves the workload as it is"


async def _since(system: System, sale: str, begin: float) -> int:
    return sum(at >= begin for at in await system.moments(sale, "started_at"))


def _rate(moments: list[float], begin: float) -> float:
    """Per second, over the window that begins there."""
    return sum(begin <= at < begin + _WINDOW for at in moments) / _WINDOW


async def _containers(system: System) -> dict[str, int]:
    pods = await system.kubectl.items("pods", "-l", system.workers("orders"))
    return {
        pod["metadata"]["name"]: sum(one["restartCount"] for one in pod["status"]["containerStatuses"])
        for pod in pods
    }


async def _image(system: System) -> str:
    found = await system.kubectl.get("deployment", f"{system.fullname}-relay")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])
