"""A real Prometheus on a real stack: the dashboard has data, and alerts fire when their causes are produced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from e2e.monitoring import HOW_TO_GET_IT, PROGRAM, Prometheus, at, dashboard_queries
from faults.system import System, running

from peakclip import roles
from peakclip.jetstream import JetStream
from peakclip.load import LoadOptions, run_load
from peakclip.load.access import create_sale
from peakclip.local.folder import temporary

RATE = 10.0  # so that a minute of it is little
FASTER = 60.0

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(PROGRAM is None, reason=f"NOT TESTED: alerts on a real stack. {HOW_TO_GET_IT}"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="peakclip-monitoring-", dir=temporary()) as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_the_dashboard_has_data_and_causes_ring(folder: Path) -> None:
    async with running(folder / "data", rate=RATE, reaper_rate=RATE, api_processes=1) as system:
        address = system.credentials["management_url"].removeprefix("http://")
        (folder / "prometheus").mkdir()
        async with Prometheus(folder / "prometheus", at(address), faster=FASTER) as prometheus:
            await a_backlog_grows(system, prometheus)
            await a_letter_is_dead(system, prometheus)
            await everything_has_data(system, prometheus)
            await nats_is_silent(system, prometheus)


async def a_backlog_grows(system: System, prometheus: Prometheus) -> None:
    sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=2_000)
    # Soon unpaid orders are due, for the reaper's part of the dashboard.
    options = LoadOptions(
        url=system.credentials["url"], sale=sale, key=system.credentials["service"], orders=2_500, rate=120
    )
    load = asyncio.create_task(run_load(options))
    said = await prometheus.until_firing("PeakclipBacklogGrowing", 40)
    assert "pool orders grows by" in said["summary"]
    said = await prometheus.until_firing("PeakclipEtaPastCatchUp", 40)
    assert "longer than its catch-up time" in said["summary"]
    assert (await load).errors == 0
    await prometheus.until_silent("PeakclipBacklogGrowing", 40)


async def a_letter_is_dead(system: System, prometheus: Prometheus) -> None:
    # To the empty pool: in the other one it would wait for its turn behind the backlog.
    url = system.stack._nats_urls[roles.RELAY]  # who publishes events
    async with await JetStream.connect(url, name="test") as relay:
        await relay.publish("order.created", b"no order at all", headers={"Nats-Msg-Id": "broken"})
    said = await prometheus.until_firing("PeakclipDeadLetters", 40)
    assert said["summary"] == "1 dead letters of pool effects wait for somebody to decide."


async def everything_has_data(system: System, prometheus: Prometheus) -> None:
    await system.database.execute("update orders set expires_at = now() where status = 'pending_payment'")
    async with asyncio.timeout(60):
        while missing := await prometheus.without_data(dashboard_queries()):
            print("without data:", *missing, sep="\n  ")
            await asyncio.sleep(2)
    durable = {one.labels["store"]: one.value for one in await prometheus.query("peakclip_durable")}
    assert durable == {"nats": 1, "postgresql": 1}
    # The backlog is still there, and too long: nothing else fires.
    assert set(await prometheus.alerts()) <= {"PeakclipDeadLetters", "PeakclipEtaPastCatchUp"}


async def nats_is_silent(system: System, prometheus: Prometheus) -> None:
    async with stopped(system, "nats"):
        said = await prometheus.until_firing("PeakclipLagUnknown", 40)
        assert "the workers are held" in said["summary"]
    await prometheus.until_silent("PeakclipLagUnknown", 40)


@contextlib.asynccontextmanager
async def stopped(system: System, kind: str) -> AsyncIterator[None]:
    """Alive, and silent."""
    (pid,) = system.pids(kind)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
