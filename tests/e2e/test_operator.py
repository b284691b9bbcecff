"""The operator against a real API server, with pods that do nothing and a nats-server of the test.

It runs as a process beside the cluster, as the ServiceAccount of its Role: a right that is missing fails here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.operator_process import RULES, Gate, Operator, account, kubeconfig, operator, role
from e2e.place import Place
from e2e.shell import Kubectl
from e2e.wait import wait_for

from peakclip import topology
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import read_pace, set_pace
from peakclip.local.nats import NatsServer
from peakclip.messages import WorkerTelemetry, encode
from peakclip_operator.resource.__main__ import text as definition

NAMESPACE: Final = os.environ.get("PEAKCLIP_E2E_OPERATOR_NAMESPACE", "peakclip-e2e-operator")
PAUSE: Final = os.environ.get("PEAKCLIP_E2E_PAUSE_IMAGE", "localhost/pause:1")
WORKLOAD: Final = "worker-orders"
POOL: Final = "orders"
SPEC: Final[dict[str, Any]] = {
    "workload": {"name": WORKLOAD},
    "source": {"stream": topology.SECKILL, "consumer": POOL},
    "throughput": {"limitPerSecond": 100},
    "replicas": {"min": 2, "max": 6},
    "behavior": {"scaleDown": {"stabilization": "1s"}},
}


@dataclass(slots=True)
class Bench:
    kubectl: Kubectl
    config: Path
    folder: Path
    nats_url: str
    js: JetStream

    def operator(self, name: str = "op-1", config: Path | None = None, **settings: str) -> Any:
        return operator(
            name, config or self.config, self.nats_url, self.kubectl.namespace, self.folder, **settings
        )

    async def workload(self, replicas: int = 1) -> None:
        container = {"name": "worker", "image": PAUSE, "imagePullPolicy": "IfNotPresent"}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": WORKLOAD}},
            "template": {
                "metadata": {"labels": {"app": WORKLOAD}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        }
        await self.apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": WORKLOAD}, "spec": spec}
        )

    async def pool(self, name: str = POOL, **changes: Any) -> None:
        await self.apply(
            {
                "apiVersion": "peakclip.dev/v1alpha1",
                "kind": "WorkerPool",
                "metadata": {"name": name},
                "spec": {**SPEC, **changes},
            }
        )

    async def apply(self, body: Mapping[str, Any]) -> None:
        await self.kubectl.apply(json.dumps(body))

    async def change(self, spec: Mapping[str, Any], name: str = POOL) -> None:
        await self.kubectl.patch(f"wp/{name}", {"spec": spec})

    async def status(self, name: str = POOL) -> dict[str, Any]:
        return dict((await self.kubectl.get(f"wp/{name}")).get("status", {}))

    async def condition(self, kind: str, name: str = POOL) -> str:
        """`True/Idle`"""
        found = (await self.status(name)).get("conditions", [])
        return next((f"{one['status']}/{one['reason']}" for one in found if one["type"] == kind), "")

    async def until(self, kind: str, word: str, name: str = POOL, seconds: float = 20.0) -> None:
        await wait_for(
            f"{kind} is {word}", lambda: self.condition(kind, name), lambda seen: seen == word, seconds, 0.2
        )

    async def asked(self) -> int:
        return int((await self.kubectl.get(f"deployment/{WORKLOAD}"))["spec"]["replicas"])

    async def until_asked(self, number: int, seconds: float = 20.0) -> None:
        await wait_for(f"{number} workers", self.asked, lambda seen: seen == number, seconds, 0.2)

    async def ready_pods(self) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in await self.kubectl.items("pods")
            if "deletionTimestamp" not in pod["metadata"]
            if any(
                one["type"] == "Ready" and one["status"] == "True"
                for one in pod["status"].get("conditions", ())
            )
        ]

    async def holder(self) -> str:
        lease = await self.kubectl.get("lease/peakclip-operator")
        return str(lease["spec"].get("holderIdentity", ""))

    async def burst(self, number: int) -> None:
        for _ in range(number):
            await self.js.publish("order.seckill.created.s1", b"{}")

    async def drained(self) -> None:
        state = await self.js.stream_state(topology.SECKILL)
        await self.js.purge_below(topology.SECKILL, state.last_seq + 1)


@pytest.fixture(scope="module")
def namespace(place: Place) -> Any:
    kubectl = Kubectl(place.env, NAMESPACE)

    async def prepare() -> None:
        await kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s", seconds=90)
        await kubectl("create", "namespace", NAMESPACE)
        if not (await kubectl("get", "crd", "workerpools.peakclip.dev", "--ignore-not-found")).strip():
            await kubectl("create", "-f", "-", stdin=definition())
        await account(kubectl)

    asyncio.run(prepare())
    yield kubectl
    asyncio.run(kubectl("delete", "namespace", NAMESPACE, "--wait=false"))


@pytest.fixture
async def bench(
    namespace: Kubectl, js: JetStream, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Bench]:
    await set_pace(js, POOL, limit_per_second=100.0)
    config = await kubeconfig(namespace, tmp_path)
    one = Bench(namespace, config, tmp_path, nats_server.url, js)
    try:
        yield one
    finally:
        await namespace("delete", "wp,deployment,events,leases", "--all")
        await namespace("wait", "--for=delete", "pods", "--all", "--timeout=30s")
        show_logs(tmp_path)


def show_logs(folder: Path) -> None:
    """pytest shows it where a test fails."""
    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}", log.read_text()[-6000:], sep="\n")


async def test_a_burst_takes_the_workers_up_and_its_end_takes_them_down(bench: Bench) -> None:
    await bench.workload()
    await bench.pool()
    async with bench.operator() as one:
        await bench.until("Ready", "True/Idle")
        await bench.until_asked(2)
        await bench.burst(500)
        await bench.until_asked(6)
        await bench.until("Ready", "True/CatchingUp")
        await wait_for("6 ready", bench.status, lambda seen: seen["replicas"]["current"] == 6, 60)
        status = await bench.status()
        assert status["lag"]["total"] == status["lag"]["ready"] == 500
        assert status["replicas"] == {"current": 6, "desired": 6, "ceiling": 6}
        print(await bench.kubectl("get", "wp", "-o", "wide"))
        await bench.drained()
        await bench.until_asked(2)
        await bench.until("Ready", "True/Idle")
        told = [(one["reason"], one["type"]) for one in await bench.kubectl.items("events")
                if one["involvedObject"]["kind"] == "WorkerPool"]  # fmt: skip
        assert ("Scaled", "Normal") in told
        assert await one.metric('peakclip_lag_messages{pool="orders",state="ready"}') == 0
        assert await one.metric("peakclip_operator_leader") == 1
        assert (
            await one.metric('peakclip_operator_api_requests_total{code="200",resource="pods",verb="list"}')
            > 5
        )
        assert 'code="403"' not in (await one.get("/metrics"))[1]


async def test_idle_pods_go_first(bench: Bench) -> None:
    await bench.workload(3)
    await bench.pool(replicas={"min": 3, "max": 6})
    async with bench.operator():
        pods = await wait_for("3 pods", bench.ready_pods, lambda seen: len(seen) == 3, 40)
        busy = sorted(pods)[1]
        telling = asyncio.create_task(_tell(bench.js, pods, busy))
        try:
            await asyncio.sleep(2)
            await bench.change({"replicas": {"min": 1}})
            await bench.until_asked(1)
            left = await wait_for("1 pod", bench.ready_pods, lambda seen: len(seen) == 1, 40)
        finally:
            telling.cancel()
        assert left == [busy]


async def _tell(js: JetStream, pods: list[str], busy: str) -> None:
    while True:
        for pod in pods:
            word = WorkerTelemetry(
                worker=f"{pod}-1", pool=POOL, pid=1, at=time.time(), finished=0, failed=0, busy_seconds=0.0,
                limiter_wait_seconds=0.0, starts_max_sliding_second=0, in_flight=int(pod == busy),
            )  # fmt: skip
            await js.publish_core(f"{topology.WORKER_TELEMETRY}.{POOL}.{pod}-1", encode(word))
        await asyncio.sleep(0.5)


async def test_an_edit_of_the_limit_is_written_at_once_and_the_loop_remembers(bench: Bench) -> None:
    await bench.workload()
    await bench.pool()
    async with bench.operator() as one:
        await bench.until("Ready", "True/Idle")
        for limit in (250, 0.5, 100):
            await bench.change({"throughput": {"limitPerSecond": limit}})
            at = time.monotonic()
            await wait_for(
                f"{limit}/s", lambda: _limit(bench.js), lambda seen, want=limit: seen == want, 5, 0.02
            )
            print(f"{limit}/s after {time.monotonic() - at:.2f} s")
            assert time.monotonic() - at < 2
        await bench.change({"paused": True})
        await bench.until("Paused", "True/WorkPaused")
        assert (await _pace(bench.js)).paused
        await bench.change({"paused": False})
        await bench.until("Paused", "False/NotPaused")
        # What somebody sets past the resource does not last.
        await set_pace(bench.js, POOL, limit_per_second=7.0)
        await wait_for("100/s", lambda: _limit(bench.js), lambda seen: seen == 100, 5, 0.02)
        found = [line for line in one.lines() if line["event"] == "worker_pool_found"]
        assert len(found) == 1


async def _pace(js: JetStream) -> Any:
    found = await read_pace(js, POOL)
    assert found is not None
    return found[0]


async def _limit(js: JetStream) -> float:
    return float((await _pace(js)).limit_per_second)


async def test_advice_touches_nothing(bench: Bench) -> None:
    await bench.workload(3)
    await bench.pool(mode="Advise", throughput={"limitPerSecond": 40})
    async with bench.operator():
        await bench.until("Ready", "True/Advising")
        await bench.burst(500)
        await wait_for("advice", bench.status, lambda seen: seen["lag"]["total"] == 500, 20)
        await asyncio.sleep(2)
        assert await bench.asked() == 3
        assert await _limit(bench.js) == 100


async def test_a_deleted_resource_leaves_workers_and_pace_as_they_are(bench: Bench) -> None:
    await bench.workload()
    await bench.pool(throughput={"limitPerSecond": 42})
    async with bench.operator() as one:
        await bench.until("Ready", "True/Idle")
        await bench.until_asked(2)
        await bench.kubectl("delete", f"wp/{POOL}")
        await wait_for("gone", lambda: _events_of(one), lambda seen: "worker_pool_gone" in seen, 10, 0.1)
        await bench.burst(300)
        await asyncio.sleep(2)
        assert await bench.asked() == 2
        assert await _limit(bench.js) == 42
        assert 'peakclip_lag_messages{pool="orders"' not in (await one.get("/metrics"))[1]


async def _events_of(one: Operator) -> list[str]:
    return [line["event"] for line in one.lines()]


@pytest.mark.parametrize(
    ("change", "condition", "reason"),
    [
        ({"workload": {"name": "nobody"}}, "Ready", "WorkloadMissing"),
        ({"source": {"stream": topology.SECKILL, "consumer": "nobody"}}, "LagAvailable", "ConsumerMissing"),
        ({"source": {"stream": "NOTHING", "consumer": POOL}}, "LagAvailable", "StreamMissing"),
    ],
)
async def test_what_is_missing_is_said_and_others_go_on(
    bench: Bench, change: dict[str, Any], condition: str, reason: str
) -> None:
    await bench.workload(3)
    await bench.pool("wrong", **change)
    async with bench.operator():
        await bench.until(condition, f"False/{reason}", "wrong")
        await bench.until("Ready", f"False/{reason}", "wrong")
        assert await bench.asked() == 3
        if "source" in change:
            await bench.change({"source": SPEC["source"]}, "wrong")
        else:
            await bench.change({"workload": SPEC["workload"]}, "wrong")
        await bench.until("Ready", "True/Idle", "wrong")


async def test_a_missing_right_is_said(bench: Bench) -> None:
    await bench.workload(3)
    await bench.pool()
    less = [rule for rule in RULES if rule["resources"] != ["deployments/scale"]]
    await bench.apply(role(bench.kubectl.namespace, less))
    try:
        async with bench.operator():
            await bench.until("Ready", "False/Forbidden")
            await bench.apply(role(bench.kubectl.namespace))
            await bench.until("Ready", "True/Idle")
    finally:
        await bench.apply(role(bench.kubectl.namespace))


async def test_a_standby_takes_over_from_a_leader_that_is_killed(bench: Bench) -> None:
    await bench.workload()
    await bench.pool()
    async with bench.operator("op-1") as first, bench.operator("op-2") as second:
        leader, other = first, second
        await bench.until("Ready", "True/Idle")
        if await bench.holder() == "op-2":
            leader, other = second, first
        assert (await other.get("/readyz"))[0] == 200
        assert await other.metric("peakclip_operator_leader") == 0
        assert "worker_pool_found" not in [line["event"] for line in other.lines()]
        await leader.end(signal.SIGKILL)
        at = time.monotonic()
        await wait_for("the other holds it", bench.holder, lambda seen: seen == other.name, 20, 0.2)
        print(f"taken over after {time.monotonic() - at:.1f} s")
        await bench.burst(300)
        await bench.until_asked(6)


async def test_an_end_releases_the_lease_and_leaves_the_workers(bench: Bench) -> None:
    await bench.workload()
    await bench.pool()
    async with bench.operator("op-1") as first:
        await bench.until_asked(2)
        at = time.monotonic()
        assert await first.end() == 0
        assert time.monotonic() - at < 5
        assert await bench.holder() == ""
        assert await bench.asked() == 2


async def test_nats_goes_and_comes_back(bench: Bench, nats_server: NatsServer) -> None:
    await bench.workload()
    await bench.pool()
    async with bench.operator() as one:
        await bench.until("Ready", "True/Idle")
        await nats_server.kill()
        try:
            await bench.until("Ready", "False/NatsUnavailable")
            assert await bench.asked() == 2
            assert (await one.get("/livez"))[0] == 200
        finally:
            await nats_server.start()
        await bench.until("Ready", "True/Idle")


async def test_the_operator_starts_before_nats(bench: Bench, nats_server: NatsServer) -> None:
    await bench.workload()
    await bench.pool()
    await nats_server.kill()
    try:
        async with bench.operator():
            await bench.until("Ready", "False/NatsUnavailable")
            await nats_server.start()
            await bench.until("Ready", "True/Idle")
            await bench.until_asked(2)
    finally:
        await nats_server.start()


async def test_the_api_server_goes_and_comes_back(bench: Bench) -> None:
    """Through a port of the test, that shuts: connections break, and new ones are refused."""
    host, port = await _api_server(bench.kubectl)
    gate = Gate(host, port)
    await gate.open()
    await bench.workload()
    await bench.pool()
    config = await kubeconfig(bench.kubectl, bench.folder, gate.port)
    async with bench.operator(config=config) as one:
        await bench.until("Ready", "True/Idle")
        await gate.shut()
        await wait_for(
            "leads no longer", lambda: _events_of(one), lambda seen: "leads_no_longer" in seen, 15, 0.2
        )
        await bench.change({"throughput": {"limitPerSecond": 55}})
        await asyncio.sleep(1)
        assert await _limit(bench.js) == 100
        assert (await one.get("/livez"))[0] == 200
        await gate.open()
        await wait_for("55/s", lambda: _limit(bench.js), lambda seen: seen == 55, 20, 0.2)
        await bench.until("Ready", "True/Idle")
    await gate.shut()


async def _api_server(kubectl: Kubectl) -> tuple[str, int]:
    server = (await kubectl.get_raw_config())["clusters"][0]["cluster"]["server"]
    host, _, port = server.rpartition("//")[2].rpartition(":")
    return host, int(port)


async def test_the_older_of_two_has_the_consumer(bench: Bench) -> None:
    await bench.workload()
    await bench.pool()
    await asyncio.sleep(1.1)  # ages are whole seconds
    await bench.pool("another", replicas={"min": 5, "max": 5})
    async with bench.operator():
        await bench.until("Ready", "False/Conflict", "another")
        await bench.until("Ready", "True/Idle")
        await asyncio.sleep(2)
        assert await bench.asked() == 2


async def test_a_foreign_consumer_is_bounded_paused_and_scaled_for(bench: Bench) -> None:
    await bench.js.ensure_stream({"name": "MAIL", "subjects": ["mail.>"], "storage": "memory"})
    await bench.js.ensure_consumer(
        "MAIL", {"durable_name": "letters", "ack_policy": "explicit", "filter_subject": "mail.letter"}
    )
    await bench.workload()
    await bench.pool(source={"stream": "MAIL", "consumer": "letters"})
    async with bench.operator():
        await bench.until("Ready", "True/Idle")
        for _ in range(300):
            await bench.js.publish("mail.letter", b"x")
        await bench.until_asked(6)
        # The status is written after the workers were asked for.
        await wait_for("the lag", bench.status, lambda seen: seen["lag"]["total"] == 300, 10)
        await bench.change({"paused": True})
        await wait_for("paused", lambda: _consumer(bench.js), lambda seen: bool(seen.get("paused")), 10, 0.2)
        await bench.change({"paused": False})
        await wait_for("resumed", lambda: _consumer(bench.js), lambda seen: not seen.get("paused"), 10, 0.2)


async def _consumer(js: JetStream) -> dict[str, Any]:
    reply = await js.request("$JS.API.CONSUMER.INFO.MAIL.letters", b"")
    return dict(json.loads(reply.data))
