"""The process scaler with real processes, and the operator's adapters against a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest
from integration import standin_worker
from nats.aio.msg import Msg

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus, WorkerTelemetry, encode
from peakclip_operator.lag import JetStreamLag
from peakclip_operator.loop import ControlLoop
from peakclip_operator.pace import NatsPace
from peakclip_operator.plan import Lag, PoolSpec
from peakclip_operator.ports import Ports, Workers, WorkerSample
from peakclip_operator.processes import ProcessScaler
from peakclip_operator.status import NatsStatus
from peakclip_operator.telemetry_source import NatsTelemetry

pytestmark = pytest.mark.integration

Target = Callable[[str], None]


async def eventually(holds: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "this did not happen in time"
        await asyncio.sleep(0.02)


async def eventually_workers(scaler: ProcessScaler, wanted: Workers, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while (seen := await scaler.current()) != wanted:
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.02)


def scaler_of(folder: Path, target: Target, drain_seconds: float = 5.0) -> ProcessScaler:
    return ProcessScaler(
        str(folder), target=target, preload=["integration.standin_worker"], drain_seconds=drain_seconds
    )


def ready(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("ready-")) for path in folder.glob("ready-*")}


def drained(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("drained-")) for path in folder.glob("drained-*")}


def sample(pid: int, in_flight: int) -> WorkerSample:
    return WorkerSample(str(pid), pid, 0.0, in_flight, draining=False)


@pytest.fixture
async def scaler(tmp_path: Path) -> AsyncIterator[ProcessScaler]:
    made = scaler_of(tmp_path, standin_worker.obedient)
    yield made
    await made.close()


async def test_starts_what_is_missing_and_drains_the_idle_first(
    tmp_path: Path, scaler: ProcessScaler
) -> None:
    await scaler.scale_to(3, [])
    assert await scaler.current() == Workers(running=3, starting=0)
    await eventually(lambda: len(ready(tmp_path)) == 3)
    busy, idle, working = scaler.pids()
    await scaler.scale_to(2, [sample(idle, 0), sample(working, 1), sample(busy, 7)])
    await scaler.scale_to(2, [sample(idle, 0), sample(working, 1), sample(busy, 7)])  # no second one
    await eventually(lambda: drained(tmp_path) == {idle})
    assert set(scaler.pids()) == {busy, working}


async def test_many_start_within_a_second(tmp_path: Path, scaler: ProcessScaler) -> None:
    await scaler.scale_to(1, [])
    began = time.monotonic()
    await scaler.scale_to(7, [])
    assert time.monotonic() - began < 1.0
    await eventually(lambda: len(ready(tmp_path)) == 7)


async def test_a_killed_worker_is_noticed_and_replaced_by_the_next_call(
    tmp_path: Path, scaler: ProcessScaler
) -> None:
    await scaler.scale_to(2, [])
    victim, other = scaler.pids()
    os.kill(victim, signal.SIGKILL)
    await eventually_workers(scaler, Workers(running=1, starting=0))
    await scaler.scale_to(2, [])
    assert other in scaler.pids()
    assert victim not in scaler.pids()
    assert len(scaler.pids()) == 2


async def test_who_does_not_drain_is_killed_after_the_deadline(tmp_path: Path) -> None:
    scaler = scaler_of(tmp_path, standin_worker.stubborn, drain_seconds=0.5)
    await scaler.scale_to(1, [])
    await eventually(lambda: ready(tmp_path))
    (pid,) = scaler.pids()
    await scaler.scale_to(0, [])
    assert (await scaler.current()).draining == 1
    assert psutil.pid_exists(pid)
    await eventually_workers(scaler, Workers(running=0, starting=0))
    assert not psutil.pid_exists(pid)
    await scaler.close()


async def test_close_drains_everybody_and_kills_the_rest(tmp_path: Path) -> None:
    scaler = scaler_of(tmp_path, standin_worker.obedient)
    await scaler.scale_to(3, [])
    await eventually(lambda: len(ready(tmp_path)) == 3)
    await scaler.close()
    assert drained(tmp_path) == ready(tmp_path)
    stubborn = scaler_of(tmp_path, standin_worker.stubborn, drain_seconds=0.3)
    await stubborn.scale_to(1, [])
    await eventually(lambda: len(ready(tmp_path)) == 4)
    began = time.monotonic()
    (pid,) = stubborn.pids()
    await stubborn.close()
    assert time.monotonic() - began < 3
    assert not psutil.pid_exists(pid)


async def test_workers_that_die_at_once_are_not_started_without_end(tmp_path: Path) -> None:
    scaler = scaler_of(tmp_path, standin_worker.failing)
    for _ in range(60):
        await scaler.scale_to(1, [])
        await asyncio.sleep(0.025)
    assert 3 <= len(ready(tmp_path)) <= 5
    await scaler.close()


async def test_workers_end_when_their_operator_is_killed(tmp_path: Path) -> None:
    tests = Path(standin_worker.__file__).parents[1]
    code = f"from integration import standin_worker; standin_worker.operator({str(tmp_path)!r})"
    operator = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env={**os.environ, "PYTHONPATH": str(tests), "PEAKCLIP_MANAGEMENT_PORT": "12345"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: len(ready(tmp_path)) == 2)
        # The operator's own port would keep its workers from starting.
        await eventually(lambda: {file.read_text() for file in tmp_path.glob("ready-*")} == {"free"})
    finally:
        operator.kill()
        await operator.wait()
    await eventually(lambda: drained(tmp_path) == ready(tmp_path))
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in ready(tmp_path)))


async def test_metrics_imported_before_the_fork_are_counted_per_worker(tmp_path: Path) -> None:
    """In a process of its own, since the folder must be named before prometheus_client is imported."""
    code = """if True:
        import asyncio, os, sys, time
        from pathlib import Path
        from integration import standin_worker
        from peakclip_operator.processes import ProcessScaler
        from peakclip import telemetry

        async def main(folder):
            scaler = ProcessScaler(
                folder, target=standin_worker.measuring, preload=["integration.standin_worker", "peakclip.telemetry"]
            )
            await scaler.scale_to(2, [])
            while len(list(Path(folder).glob("ready-*"))) < 2:
                await asyncio.sleep(0.02)
            pids = set(scaler.pids())
            print(telemetry.exposition().decode())
            await scaler.close()
            files = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*")
            left = {path.name.split("_")[-1] for path in files}
            print("left", len(left & {f"{pid}.db" for pid in pids}))

        asyncio.run(main(sys.argv[1]))
    """
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        str(tmp_path),
        env={
            **os.environ,
            "PYTHONPATH": str(Path(standin_worker.__file__).parents[1]),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert 'peakclip_processed_total{outcome="created",pool="standin"} 10.0' in output
    newest = next(
        float(line.split()[-1]) for line in output.splitlines() if line.startswith("peakclip_outbox_rows ")
    )
    assert newest in ready(tmp_path)
    assert "left 0" in output


# -- adapters ----------------------------------------------------------------------------------------------


@pytest.fixture
async def js(js: JetStream) -> JetStream:
    """With a stream of these tests' own beside the declared ones."""
    await js.ensure_stream({"name": "CONTROL", "subjects": ["control.>"], "storage": "memory"})
    await js.ensure_consumer("CONTROL", {"durable_name": "c", "ack_policy": "explicit"})
    return js


async def test_lag_tells_ready_from_in_flight_and_counts_what_is_finished(js: JetStream) -> None:
    source = JetStreamLag(js, "CONTROL", "c")
    assert await source.read() == Lag(ready=0, in_flight=0, last_seq=0, finished_seq=0, oldest_seconds=None)
    for _ in range(5):
        await js.publish("control.a", b"x")
    messages = await js.pull("CONTROL", "c").fetch(3, 1.0)
    await messages[1].ack()  # not the first: the acknowledgement floor stays
    lag = await source.read()
    assert (lag.ready, lag.in_flight, lag.last_seq, lag.finished_seq) == (2, 2, 5, 1)
    assert lag.oldest_seconds is not None
    assert 0 <= lag.oldest_seconds < 5


async def test_lag_of_a_consumer_that_does_not_exist_is_an_error(js: JetStream) -> None:
    with pytest.raises(PeakclipError):
        await JetStreamLag(js, "CONTROL", "nobody").read()


async def test_the_pace_is_set_at_the_start_and_kept_afterwards(js: JetStream) -> None:
    pace = NatsPace(js, "pool-of-this-test")
    with pytest.raises(PeakclipError):
        await pace.read()
    await pace.prepare(None)
    assert (await pace.read()).limit_per_second == 100
    await pace.prepare(400)
    await pace.prepare(None)
    seen = await pace.read()
    assert (seen.limit_per_second, seen.effective_per_second, seen.batch) == (400, 400, 4)


async def test_the_loop_hears_workers_and_tells_its_status(js: JetStream) -> None:
    statuses: list[PoolStatus] = []

    async def received(msg: Msg) -> None:
        statuses.append(msgspec.json.decode(msg.data, type=PoolStatus))

    await js.subscribe_core(f"{topology.POOL_STATUS}.control", received)
    heard = NatsTelemetry(js, "control")
    await heard.listen()
    pace = NatsPace(js, "control")
    await pace.prepare(50)
    scaler = InMemoryScaler()
    ports = Ports(JetStreamLag(js, "CONTROL", "c"), heard, scaler, pace, pace, NatsStatus(js))
    loop = ControlLoop("control", PoolSpec(), ports)
    for _ in range(60):
        await js.publish("control.a", b"x")
    word = WorkerTelemetry(
        worker="w1",
        pool="control",
        pid=1,
        at=time.time(),
        finished=44,
        failed=1,
        busy_seconds=2.0,
        limiter_wait_seconds=9.0,
        starts_max_sliding_second=40,
        in_flight=1,
    )
    await js.publish_core(f"{topology.WORKER_TELEMETRY}.control.w1", encode(word))
    await js.publish_core(f"{topology.WORKER_TELEMETRY}.control.w2", b"nonsense")
    for _ in range(20):
        await loop.tick()
        if statuses and statuses[-1].processed_total:
            break
        await asyncio.sleep(0.05)
    status = statuses[-1]
    assert (status.limit_per_second, status.lag_ready, status.processed_total, status.failed_total) == (
        50,
        60,
        44,
        1,
    )
    assert status.workers_desired == scaler.wanted
    assert status.burst is not None


class InMemoryScaler:
    def __init__(self) -> None:
        self.wanted = 1

    async def current(self) -> Workers:
        return Workers(running=self.wanted, starting=0)

    async def scale_to(self, replicas: int, idle_first: object) -> None:
        self.wanted = replicas
