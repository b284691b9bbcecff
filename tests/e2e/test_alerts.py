"""A real Prometheus beside the cluster: the dashboard has data, and alerts fire when their causes are produced.

The rules are the chart's own; every duration in them is divided by FASTER.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from e2e.monitoring import HOW_TO_GET_IT, PROGRAM, Prometheus, dashboard_queries, in_file, places_of
from e2e.record import measured
from e2e.system import Orders, System
from e2e.wait import wait_for

FASTER: Final = 30.0
_SECONDS: Final = 120.0  # for an alert to come or to go
_PROCESSES: Final = {"api", "relay", "operator", "worker-orders", "worker-effects", "worker-reaper"}
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"NOT TESTED: alerts on a cluster. {HOW_TO_GET_IT}")


@contextlib.asynccontextmanager
async def watched(system: System, folder: Path) -> AsyncIterator[Prometheus]:
    places = folder / "places.json"
    async with system.kubectl.proxy() as port:
        following = asyncio.create_task(_follow(system, places, port))
        try:
            async with Prometheus(folder, in_file(places), faster=FASTER, scrape_seconds=2) as prometheus:
                yield prometheus
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _follow(system: System, places: Path, port: int) -> None:
    """Prometheus hears of a changed file by itself; it must never read half of one."""
    written = ""
    while True:
        pods = await system.kubectl.items("pods", "-l", f"app.kubernetes.io/instance={system.helm.release}")
        text = json.dumps(places_of(pods, port))
        if text != written:
            written = text
            places.with_suffix(".new").write_text(text)
            places.with_suffix(".new").rename(places)
        await asyncio.sleep(1)


async def test_at_work_every_query_of_the_dashboard_has_data_and_nothing_fires(
    system: System, tmp_path: Path
) -> None:
    # Nobody pays, so all pools have work; and it goes on, since rates are of the last minute.
    open_sale = await system.sale(50_000, pay_within=1)
    async with watched(system, tmp_path) as prometheus, system.steady(open_sale, 20, Orders()):
        told = await system.burst(await system.sale(600, pay_within=1), 900)
        assert len(told.accepted) == 600

        async def missing() -> Sequence[object]:
            return await prometheus.without_data(dashboard_queries(namespace=system.namespace))

        await wait_for("data for every query", missing, lambda found: not found, 180, pause=3)
        durable = {one.labels["store"]: one.value for one in await prometheus.query("peakclip_durable")}
        assert durable == {"nats": 1, "postgresql": 1}
        firing = sorted(await prometheus.alerts())
        measured("dashboard", {"queries": len(dashboard_queries()), "without_data": 0, "firing": firing}, [])
        assert firing == []


async def test_alerts_fire_when_their_cause_is_there_and_end_with_it(system: System, tmp_path: Path) -> None:
    async with watched(system, tmp_path) as prometheus:
        await _until_scraped(prometheus)
        heard = [
            await _gone(system, prometheus, "operator", "PeakclipOperatorAbsent"),
            await _gone(system, prometheus, "relay", "PeakclipRelayAbsent"),
            await _nats_away(system, prometheus),
            await _dead_letter(system, prometheus),
            await _backlog(system, prometheus),
        ]
    measured("alerts", {"fired": len(heard), "faster": FASTER}, heard)


async def _until_scraped(prometheus: Prometheus) -> None:
    async def kinds() -> set[str]:
        return {one.labels["process"] for one in await prometheus.query("peakclip_build_info")}

    await wait_for("every kind of process", kinds, lambda seen: seen == _PROCESSES, 60)


async def _gone(system: System, prometheus: Prometheus, component: str, alert: str) -> str:
    deployment = f"deployment/{system.fullname}-{component}"
    await system.kubectl("scale", deployment, "--replicas=0")
    try:
        said = await prometheus.until_firing(alert, _SECONDS)
    finally:
        await system.kubectl("scale", deployment, "--replicas=1")
        await system.kubectl("rollout", "status", deployment, "--timeout=120s", seconds=150)
    await prometheus.until_silent(alert, _SECONDS)
    return said["summary"]


async def _nats_away(system: System, prometheus: Prometheus) -> str:
    nats = f"statefulset/{system.fullname}-nats"
    await system.kubectl("scale", nats, "--replicas=0")
    try:
        said = await prometheus.until_firing("PeakclipLagUnknown", _SECONDS)
    finally:
        await system.kubectl("scale", nats, "--replicas=1")
        await system.kubectl("rollout", "status", nats, "--timeout=120s", seconds=150)
    await prometheus.until_silent("PeakclipLagUnknown", _SECONDS)
    return said["summary"]


async def _dead_letter(system: System, prometheus: Prometheus) -> str:
    async with system.database() as connection:
        await connection.execute(
            "insert into dead_letters (message_id, pool, subject, headers, payload, cause, attempts)"
            " values ('e2e-alert', 'orders', 'order.seckill.created.none', '{}', '', 'made by a test', 1)"
        )
        try:
            said = await prometheus.until_firing("PeakclipDeadLetters", _SECONDS)
        finally:
            await connection.execute("delete from dead_letters where message_id = 'e2e-alert'")
    await prometheus.until_silent("PeakclipDeadLetters", _SECONDS)
    return said["summary"]


async def _backlog(system: System, prometheus: Prometheus) -> str:
    before = (await system.resource("orders"))["spec"]["throughput"]["limitPerSecond"]
    await system.change("orders", {"throughput": {"limitPerSecond": 1}})
    try:
        sale = await system.sale(300)
        await system.burst(sale, 300)
        said = await prometheus.until_firing("PeakclipEtaPastCatchUp", _SECONDS)
    finally:
        await system.change("orders", {"throughput": {"limitPerSecond": before}})
    await prometheus.until_silent("PeakclipEtaPastCatchUp", _SECONDS)
    return said["summary"]
