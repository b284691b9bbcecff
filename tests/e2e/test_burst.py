"""10,000 orders at once, through the Ingress: accepted durably, and the database sees R, whatever R is."""

from __future__ import annotations

import math

import pytest
from e2e.rates import Drain, allowed
from e2e.record import bar, measured
from e2e.story import Story, counted, told
from e2e.system import System

ORDERS = 10_000
WORK_SECONDS = 0.040
MIN_WORKERS = 1


@pytest.mark.parametrize("rate", [300, 100])
async def test_the_database_sees_r_and_nothing_above(system: System, rate: int) -> None:
    await system.change("orders", {"throughput": {"limitPerSecond": rate}})
    await system.until_workers("orders", MIN_WORKERS, 90)
    async with (
        told(system.api, system.namespace, system.pool("orders")) as story,
        counted(system.api, system.namespace, system.workers("orders")) as pods,
    ):
        sale = await system.sale(ORDERS)
        story.say(f"{ORDERS} orders")
        orders = await system.burst(sale, ORDERS)
        story.say(f"all answered after {orders.seconds:.2f} s")
        await system.until_rows(sale, ORDERS, ORDERS / rate * 3 + 60)
        story.say("the last one is in the database")
        await system.until_workers("orders", MIN_WORKERS, 90)
        await story.until(lambda row: row["Workers"] == row["Desired"] == str(MIN_WORKERS), 20)
    assert len(orders.accepted) == ORDERS
    assert (orders.errors, dict(orders.refused)) == (0, {})
    committed = Drain.of(await system.moments(sale), rate)
    started = Drain.of(await system.moments(sale, "started_at"), rate)
    figures = {
        "rate": rate, "accept_seconds": orders.seconds, "retries": dict(orders.causes),
        "committed": committed.figures(), "started": started.figures(),
        "most_ready_pods": pods.most(), "most_desired": _most(story, "Desired"),
        "ready_pod_seconds": round(pods.seconds(committed.first, committed.last)),
    }  # fmt: skip
    measured(f"burst-{rate}", figures, story.lines)
    bar(f"{rate}/s within 1 % once the pods are up", abs(committed.steady / rate - 1) <= 0.01)
    assert started.most <= allowed(rate)
    # When a commit ends is the database's business: on a busy node some come closer together than they started.
    bar(f"no more than {allowed(rate)} commits in any second", committed.most <= allowed(rate))
    assert _most(story, "Desired") >= math.floor(rate * WORK_SECONDS), "fewer could not do R"
    assert story.column("Desired")[0] == story.column("Desired")[-1] == str(MIN_WORKERS)
    assert pods.restarts == {}
    await system.audit(orders.accepted, max(300, rate), allowed(300) - 300)


def _most(story: Story, column: str) -> int:
    return max(int(value) for value in story.column(column) if value.isdigit())
