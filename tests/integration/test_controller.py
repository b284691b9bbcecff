"""The process scaler with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
import structlog
from integration import standin_worker

from peakclip_operator.ports import Workers, WorkerSample
from peakclip_operator.processes import ForkServer, ProcessScaler

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


def scaler_of(forks: ForkServer, folder: Path, target: Target, drain_seconds: float = 5.0) -> ProcessScaler:
    return ProcessScaler(str(folder), forks, target=target, drain_seconds=drain_seconds)


def ready(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("ready-")) for path in folder.glob("ready-*")}


def drained(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("drained-")) for path in folder.glob("drained-*")}


def sample(pid: int, in_flight: int) -> WorkerSample:
    return WorkerSample(str(pid), pid, 0.0, in_flight, draining=False)


@pytest.fixture
def forks() -> Iterator[ForkServer]:
    made = ForkServer(["integration.standin_worker"])
    yield made
    made.close()


@pytest.fixture
async def scaler(forks: ForkServer, tmp_path: Path) -> AsyncIterator[ProcessScaler]:
    made = scaler_of(forks, tmp_path, standin_worker.obedient)
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


async def test_who_does_not_drain_is_killed_after_the_deadline(forks: ForkServer, tmp_path: Path) -> None:
    scaler = scaler_of(forks, tmp_path, standin_worker.stubborn, drain_seconds=0.5)
    await scaler.scale_to(1, [])
    await eventually(lambda: ready(tmp_path))
    (pid,) = scaler.pids()
    await scaler.scale_to(0, [])
    assert (await scaler.current()).draining == 1
    assert psutil.pid_exists(pid)
    await eventually_workers(scaler, Workers(running=0, starting=0))
    assert not psutil.pid_exists(pid)
    await scaler.close()


async def test_close_drains_everybody_and_kills_the_rest(forks: ForkServer, tmp_path: Path) -> None:
    scaler = scaler_of(forks, tmp_path, standin_worker.obedient)
    await scaler.scale_to(3, [])
    await eventually(lambda: len(ready(tmp_path)) == 3)
    await scaler.close()
    assert drained(tmp_path) == ready(tmp_path)
    stubborn = scaler_of(forks, tmp_path, standin_worker.stubborn, drain_seconds=0.3)
    await stubborn.scale_to(1, [])
    await eventually(lambda: len(ready(tmp_path)) == 4)
    began = time.monotonic()
    (pid,) = stubborn.pids()
    await stubborn.close()
    assert time.monotonic() - began < 3
    assert not psutil.pid_exists(pid)


async def test_workers_that_die_at_once_are_not_started_without_end(
    forks: ForkServer, tmp_path: Path
) -> None:
    scaler = scaler_of(forks, tmp_path, standin_worker.failing)
    deadline = time.monotonic() + 30
    while len(ready(tmp_path)) < 4:  # three deaths in a row are replaced at once
        assert time.monotonic() < deadline
        await scaler.scale_to(1, [])
        await asyncio.sleep(0.025)
    for _ in range(40):
        await scaler.scale_to(1, [])
        await asyncio.sleep(0.025)
    assert len(ready(tmp_path)) == 4
    await scaler.close()


async def test_the_scalers_of_several_pools_do_not_meet(forks: ForkServer, tmp_path: Path) -> None:
    """Each start looks after all children of this process, those of the other pools included."""
    folders = [tmp_path / name for name in ("a", "b", "c")]
    scalers = [scaler_of(forks, folder, standin_worker.obedient) for folder in folders]
    for folder in folders:
        folder.mkdir()
    with structlog.testing.capture_logs() as lines:
        try:
            for round_ in range(3):
                await asyncio.gather(*(scaler.scale_to(4, []) for scaler in scalers))
                for folder in folders:
                    await eventually(lambda folder=folder, all_=4 + round_: len(ready(folder)) == all_)  # type: ignore[misc]
                for scaler in scalers:
                    os.kill(scaler.pids()[0], signal.SIGKILL)
                for scaler in scalers:
                    await eventually_workers(scaler, Workers(running=3, starting=0))
        finally:
            await asyncio.gather(*(scaler.close() for scaler in scalers))
    codes = [line["exit_code"] for line in lines if line["event"] == "worker_died"]
    assert codes == [-signal.SIGKILL] * 9
    assert [len(drained(folder)) for folder in folders] == [3, 3, 3]


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
        from peakclip_operator.processes import ForkServer, ProcessScaler
        from peakclip import telemetry

        async def main(folder):
            forks = ForkServer(["integration.standin_worker", "peakclip.telemetry"])
            scaler = ProcessScaler(folder, forks, target=standin_worker.measuring)
            await scaler.scale_to(2, [])
            while len(list(Path(folder).glob("ready-*"))) < 2:
                await asyncio.sleep(0.02)
            pids = set(scaler.pids())
            print(telemetry.exposition().decode())
            await scaler.close()
            forks.close()
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
