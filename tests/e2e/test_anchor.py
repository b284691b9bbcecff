"""The same work on the same node as was measured with KEDA and the HPA: 3,000 orders of 40 ms, one at a time in each
pod, R = 100. KEDA drained them in 39 to 47 s, at 66 to 78/s or with peaks of 192/s, in 344 to 2,393 ready pod-seconds;
with 20 ms or 80 ms of work in mid-drain it went to 165/s or 47/s."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from e2e.rates import Drain, mean, most_after, per_second
from e2e.record import bar, measured
from e2e.story import counted, told
from e2e.system import System

ORDERS = 3_000
RATE = 100
MOST = 105
AFTER_SECONDS = 120
POD_SECONDS = 270
# What an engineer sets who wants few pods: none when nothing waits, and gone as soon as they are not needed.
SPEC = {
    "throughput": {"limitPerSecond": RATE, "utilization": 0.83},
    "replicas": {"min": 0, "max": 20},
    "behavior": {"scaleDown": {"stabilization": "3s"}},
}


@pytest.fixture
async def pool(system: System) -> AsyncIterator[System]:
    before = (await system.resource("orders"))["spec"]
    await system.change("orders", SPEC)
    await system.until_workers("orders", 0, 90)
    yield system
    await system.change("orders", {key: before[key] for key in SPEC})
    await system.until_workers("orders", before["replicas"]["min"], 90)


async def test_a_burst_is_drained_at_r_with_few_pods(pool: System) -> None:
    async with (
        told(pool.api, pool.namespace, pool.pool("orders")) as story,
        counted(pool.api, pool.namespace, pool.workers("orders")) as pods,
    ):
        sale = await pool.sale(ORDERS)
        began = time.time()
        orders = await pool.burst(sale, ORDERS)
        accepted = time.time()
        await pool.until_rows(sale, ORDERS, 90)
        committed, started = await pool.moments(sale), await pool.moments(sale, "started_at")
        story.say("the last one is in the database")
        # The time itself is what is counted here, not a wait for something.
        await asyncio.sleep(max(0.0, committed[-1] + AFTER_SECONDS - time.time()))
    drain = Drain.of(committed, RATE)
    pod_seconds = pods.seconds(began, committed[-1] + AFTER_SECONDS)
    figures = {
        "accept_seconds": orders.seconds, "first_commit_after_burst_seconds": round(committed[0] - accepted, 2),
        "empty_after_burst_seconds": round(committed[-1] - accepted, 2),
        "drain": drain.figures(), "most_started": most_after(started),
        "ready_pod_seconds": round(pod_seconds), "most_ready_pods": pods.most(),
        "after_drain_pod_seconds": round(pods.seconds(committed[-1], committed[-1] + AFTER_SECONDS)),
    }  # fmt: skip
    measured("anchor", figures, story.lines)
    assert len(committed) == ORDERS == len(orders.accepted)
    assert most_after(started) <= MOST
    bar(f"no more than {MOST} commits in any second", drain.most <= MOST)
    bar("empty 33 s after the burst", committed[-1] - accepted <= 33)
    bar("98/s once the pods are up", drain.steady >= 98)
    bar(f"{POD_SECONDS} ready pod-seconds to the drain and two minutes on", pod_seconds <= POD_SECONDS)


@pytest.mark.parametrize("work_ms", [20, 80])
async def test_work_that_changes_in_mid_drain_leaves_the_rate_at_r(pool: System, work_ms: int) -> None:
    """The change is a rolling update of the workers, so the queue is longer than above."""
    orders_sent, workers = 2 * ORDERS, f"deployment/{pool.fullname}-worker-orders"
    async with told(pool.api, pool.namespace, pool.pool("orders")) as story:
        sale = await pool.sale(orders_sent)
        orders = await pool.burst(sale, orders_sent)
        await pool.until_rows(sale, RATE * 10, 60)
        changed = time.time()
        await pool.kubectl("set", "env", workers, f"PEAKCLIP_WORK_MS={work_ms}")
        story.say(f"the work of an order takes {work_ms} ms from now on")
        await pool.kubectl("rollout", "status", workers, "--timeout=60s", seconds=70)
        rolled = time.time()
        story.say("all workers have it")
        await pool.until_rows(sale, orders_sent, 120)
        committed, started = await pool.moments(sale), await pool.moments(sale, "started_at")
    try:
        after = [at for at in committed if at >= rolled + 2]
        figures = {
            "work_ms": work_ms, "orders": len(committed), "accepted": len(orders.accepted),
            "rolling_seconds": round(rolled - changed, 1),
            "rate_while_rolling": round(mean([at for at in committed if changed <= at < rolled]), 1),
            "rate_after": round(mean(after), 1),
            "most_started": most_after(started), "most_committed": most_after(committed),
            "per_second": per_second(committed, committed[0], committed[-1]),
        }  # fmt: skip
        measured(f"anchor-{work_ms}ms", figures, story.lines)
        assert len(after) >= 5 * RATE, "too few were left to speak of a rate"
        bar(f"98 % of R with {work_ms} ms", mean(after) >= 0.98 * RATE)
        assert most_after(started) <= MOST
    finally:
        await pool.until_workers("orders", 0, 90)
        await pool.kubectl("set", "env", workers, "PEAKCLIP_WORK_MS=40")
