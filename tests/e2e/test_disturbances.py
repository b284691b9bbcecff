"""Steady load while everything is replaced, killed or away: nothing is lost or doubled, the rate never above R."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import pytest
from e2e.rates import allowed, mean, most_after
from e2e.record import bar, measured
from e2e.story import told
from e2e.system import Orders, System
from e2e.wait import wait_for

RATE: Final = 100
LOAD: Final = 70  # orders per second: the pool can catch up
DELETIONS: Final = int(os.environ.get("PEAKCLIP_E2E_DELETIONS", "50"))
AWAY_SECONDS: Final = float(os.environ.get("PEAKCLIP_E2E_AWAY", "60"))
_PAUSE_SECONDS: Final = 2.5
_PROCESSES: Final = "app.kubernetes.io/component in (api,worker,relay,operator)"


@contextlib.asynccontextmanager
async def under_load(system: System, name: str) -> AsyncIterator[Orders]:
    """Customers while the block runs; then all of theirs must be in the database, once, and not too fast."""
    await system.change("orders", {"throughput": {"limitPerSecond": RATE}})
    sale, orders, began = await system.sale(200_000), Orders(), time.time()
    async with told(system.api, system.namespace, system.pool("orders")) as story:
        async with system.steady(sale, LOAD, orders):
            await asyncio.wait_for(system.until_rows(sale, 2 * LOAD, 60), 70)  # it is steady
            yield orders
        await system.until_rows(sale, len(orders.accepted), 180)
    starts = await system.started_since(began + 2)  # after the last change of the limit
    figures = {
        "sent": orders.sent, "accepted": len(orders.accepted), "errors": orders.errors,
        "refused": dict(orders.refused), "repeated_attempts": dict(orders.causes),
        "slowest_ms": round(orders.slowest_ms), "seconds": round(time.time() - began), "most": most_after(starts),
        "mean": round(mean(starts), 1),
    }  # fmt: skip
    measured(f"disturbed-{name}", figures, story.lines)
    assert (orders.errors, dict(orders.refused)) == (0, {})
    assert len(orders.accepted) == orders.sent
    assert most_after(starts) <= allowed(RATE)
    await system.audit(orders.accepted, 300, allowed(300) - 300)


@pytest.mark.parametrize("component", ["api", "worker", "relay", "operator"])
async def test_an_upgrade_costs_no_request(system: System, component: str) -> None:
    """`helm upgrade` with a changed value; not one attempt of a customer fails."""
    before = await _pods(system, f"app.kubernetes.io/component={component}")
    async with under_load(system, f"upgrade-{component}") as orders:
        await system.upgrade("--set-string", f"{component}.podAnnotations.e2e={secrets.token_hex(4)}")
        after = await _pods(system, f"app.kubernetes.io/component={component}")
    assert not set(before) & set(after), "the value was to replace every pod"
    assert dict(orders.causes) == {}


@pytest.mark.parametrize("component", ["nats", "postgresql"])
async def test_an_upgrade_of_a_server_costs_a_wait(system: System, component: str) -> None:
    """There is one of each in a first installation: customers are told to come again, and do."""
    before = await _pods(system, f"app.kubernetes.io/component={component}")
    async with under_load(system, f"upgrade-{component}"):
        await system.upgrade("--set-string", f"{component}.podAnnotations.e2e={secrets.token_hex(4)}")
    after = await _pods(system, f"app.kubernetes.io/component={component}")
    assert not {pod["metadata"]["uid"] for pod in before.values()} & {
        pod["metadata"]["uid"] for pod in after.values()
    }


@pytest.mark.timeout(900, func_only=True)
async def test_pods_deleted_at_random(system: System) -> None:
    chance = random.Random(seed := int(os.environ.get("PEAKCLIP_E2E_SEED") or secrets.randbelow(1_000_000)))
    print(f"PEAKCLIP_E2E_SEED={seed}")
    deleted: list[str] = []
    async with under_load(system, "deletions") as orders:
        while len(deleted) < DELETIONS:
            name = chance.choice(_expendable(await _pods(system, _PROCESSES), deleted))
            await system.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found")
            deleted.append(name)
            await asyncio.sleep(_PAUSE_SECONDS)  # so that they are spread over minutes
    kinds = [name.removeprefix(f"{system.fullname}-").split("-")[0] for name in deleted]
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))}, dict(orders.causes))
    assert dict(orders.causes) == {}, "a pod that is asked to go finishes what it has"
    await _all_ready(system)


async def test_the_operator_is_away_for_a_minute(system: System) -> None:
    """The workers go on at R: the operator is not in the path of an order."""
    operator = f"deployment/{system.fullname}-operator"
    async with under_load(system, "no-operator") as orders:
        await system.kubectl("scale", operator, "--replicas=0")
        gone = time.time()
        await asyncio.sleep(AWAY_SECONDS)  # its absence itself, not a wait for something
        back = time.time()
        await system.kubectl("scale", operator, "--replicas=1")
        await system.kubectl("rollout", "status", operator, "--timeout=60s", seconds=70)
        await wait_for("the pool is looked after again", lambda: _seen(system), lambda at: at >= back - 2, 60)
    starts = [at for at in await system.started_since(gone) if at < back]
    print(f"{mean(starts):.1f} starts per second without an operator")
    bar("95 % of the load without an operator", mean(starts) >= 0.95 * LOAD)
    assert dict(orders.causes) == {}


@pytest.mark.parametrize("server", ["nats", "postgresql"])
async def test_a_server_is_killed(system: System, server: str) -> None:
    """One second is the least that Kubernetes allows where the next pod uses the same volume."""
    pod = f"{system.fullname}-{server}-0"
    before = (await system.kubectl.get("pod", pod))["metadata"]["uid"]
    async with under_load(system, f"killed-{server}"):
        await system.kubectl("delete", "pod", pod, "--grace-period=1", "--wait=false")

        async def fresh() -> bool:
            found = await system.kubectl.get("pod", pod)
            ready = {one["type"]: one["status"] for one in found["status"].get("conditions", [])}.get("Ready")
            return bool(found["metadata"]["uid"] != before and ready == "True")

        await wait_for(f"a new {pod} is ready", fresh, bool, 120)
        await asyncio.sleep(5)  # customers go on after it is back
    await _all_ready(system)


async def _pods(system: System, selector: str) -> dict[str, Any]:
    """Pods of the release that live, by name."""
    labels = f"app.kubernetes.io/instance={system.helm.release},{selector}"
    found = await system.kubectl.items("pods", "-l", labels)
    return {
        pod["metadata"]["name"]: pod
        for pod in found
        if pod["status"]["phase"] in ("Running", "Pending") and "deletionTimestamp" not in pod["metadata"]
    }


def _expendable(living: dict[str, Any], deleted: list[str]) -> list[str]:
    """Any but the last API process that is ready: `kubectl delete` asks no disruption budget, and a proxy that has
    nobody else to send a request to answers 503 by itself."""
    fresh = sorted(set(living) - set(deleted)) or sorted(living)
    return [
        name
        for name in fresh
        if _component(living[name]) != "api"
        or any(_component(pod) == "api" and _ready(pod) for other, pod in living.items() if other != name)
    ]


def _component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["app.kubernetes.io/component"])


def _ready(pod: dict[str, Any]) -> bool:
    return all(one["ready"] for one in pod["status"].get("containerStatuses", [{"ready": False}]))


async def _all_ready(system: System) -> None:
    async def unready() -> list[str]:
        pods = await _pods(system, "app.kubernetes.io/component!=migrate")
        return [name for name, pod in pods.items() if not _ready(pod)]

    await wait_for("every pod is ready", unready, lambda names: not names, 90)


async def _seen(system: System) -> float:
    """When the operator last renewed its Lease: it acts."""
    leases = await system.kubectl.items("leases")
    return max(_epoch(lease["spec"]["renewTime"]) for lease in leases if lease["spec"].get("holderIdentity"))


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
