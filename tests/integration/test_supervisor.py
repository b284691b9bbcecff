"""The supervisor with small real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from peakclip.local.process import Child, ProcessError, ProcessSpec
from peakclip.local.supervisor import Supervisor, run_to_end

pytestmark = pytest.mark.integration

_SLEEP = "import time; time.sleep(600)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('on', flush=True); time.sleep(600)"
)
_PARENT = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); time.sleep(600)"
)

Make = Callable[..., ProcessSpec]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def spec(name: str, code: str, **more: object) -> ProcessSpec:
        values = {
            "name": name,
            "argv": [sys.executable, "-c", code],
            "env": {},
            "log": tmp_path / f"{name}.log",
        }
        return ProcessSpec(**(values | more))  # type: ignore[arg-type]

    return spec


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    one = Supervisor()
    yield one
    await one.stop()


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def pid_of(supervisor: Supervisor, name: str) -> int | None:
    return next((one.pid for one in supervisor.running() if one.name == name), None)


def said(spec: ProcessSpec) -> str:
    return spec.log.read_text() if spec.log.exists() else ""


async def test_what_is_killed_runs_again_at_once(supervisor: Supervisor, make: Make) -> None:
    supervisor.start(make("sleeper", _SLEEP))
    await supervisor.wait_ready("sleeper")
    first = pid_of(supervisor, "sleeper")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    before = time.monotonic()
    await until(lambda: pid_of(supervisor, "sleeper") not in (first, None))
    assert time.monotonic() - before < 2
    assert not psutil.pid_exists(first)  # reaped, no zombie


async def test_what_says_that_only_a_new_start_helps_is_started_anew_and_told_why(
    supervisor: Supervisor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["disk was full"]
    log = Mock()
    monkeypatch.setattr("peakclip.local.supervisor.log", log)

    async def sick() -> str | None:
        return words.pop() if words else None

    supervisor.start(make("server", _SLEEP, sick=sick, sick_seconds=0.05))
    first = pid_of(supervisor, "server")
    await until(lambda: pid_of(supervisor, "server") not in (first, None))
    assert [(call.args, call.kwargs.get("why")) for call in log.warning.call_args_list] == [
        (("process_sick",), "disk was full"),
        (("process_ended",), None),
    ]
    assert not psutil.pid_exists(first)
    second = pid_of(supervisor, "server")
    await asyncio.sleep(0.3)
    assert pid_of(supervisor, "server") == second, "it has been healed"


async def test_a_question_that_fails_is_asked_again(
    supervisor: Supervisor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Mock()
    monkeypatch.setattr("peakclip.local.supervisor.log", log)
    answers = [None, "disk was full", OSError("no answer that can be read")]

    async def sick() -> str | None:
        answer = answers.pop() if answers else None
        if isinstance(answer, OSError):
            raise answer
        return answer

    supervisor.start(make("server", _SLEEP, sick=sick, sick_seconds=0.05))
    first = pid_of(supervisor, "server")
    await until(lambda: pid_of(supervisor, "server") not in (first, None))
    log.exception.assert_called_once_with("sickness_unknown", name="server")


async def test_stop_ends_everything_the_last_one_first(make: Make) -> None:
    order: list[list[str]] = []
    supervisor = Supervisor(lambda: order.append([one.name for one in supervisor.running()]))
    for name in ("a", "b", "c"):
        supervisor.start(make(name, _SLEEP))
    pids = [one.pid for one in supervisor.running()]
    order.clear()
    await supervisor.stop()
    assert order == [["a", "b"], ["a"], []]
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_one_that_ignores_the_stop_signal_is_killed_after_its_time(make: Make) -> None:
    spec = make("stubborn", _STUBBORN, stop_seconds=0.3)
    child = Child(spec)
    await until(lambda: "on" in said(spec))
    assert await child.stop() == -signal.SIGKILL


async def test_a_killed_process_leaves_no_children_beside_its_successor(
    supervisor: Supervisor, make: Make
) -> None:
    spec = make("parent", _PARENT)
    supervisor.start(spec)
    await until(lambda: said(spec).endswith("\n"))
    grandchild = int(said(spec))
    first = pid_of(supervisor, "parent")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: pid_of(supervisor, "parent") not in (first, None))
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


async def test_a_wrong_setting_is_told_at_once_with_the_end_of_the_log(
    supervisor: Supervisor, make: Make
) -> None:
    supervisor.start(
        make("wrong", "import sys; print('PEAKCLIP_X: is wrong'); sys.exit(2)", readiness=_never)
    )
    with pytest.raises(ProcessError, match=r"(?s)wrong ended: exit code 2.*PEAKCLIP_X: is wrong"):
        await supervisor.wait_ready("wrong")


async def test_one_that_does_not_become_ready_is_named(supervisor: Supervisor, make: Make) -> None:
    supervisor.start(make("slow", _SLEEP, readiness=_never, ready_seconds=0.2))
    with pytest.raises(ProcessError, match=r"slow is not ready \(no answer\)"):
        await supervisor.wait_ready("slow")
    assert await supervisor.missing() == {"slow": ["no answer"]}


async def test_a_task_that_fails_says_why(make: Make) -> None:
    with pytest.raises(ProcessError, match=r"(?s)migrate failed: exit code 3.*no such table"):
        await run_to_end(make("migrate", "import sys; print('no such table'); sys.exit(3)"))


async def test_children_do_not_outlive_a_supervisor_that_is_killed(make: Make, tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from peakclip.local.process import ProcessSpec
from peakclip.local.supervisor import Supervisor

async def main():
    supervisor = Supervisor()
    supervisor.start(ProcessSpec("inner", [sys.executable, "-c", {_SLEEP!r}], {{}}, Path({str(tmp_path)!r}) / "inner"))
    print(supervisor.running()[0].pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    spec = make("outer", program)
    outer = Child(spec)
    await until(lambda: said(spec).endswith("\n"))
    inner = int(said(spec))
    await asyncio.sleep(0.3)  # let it get past its own exec
    assert psutil.pid_exists(inner)
    outer.signal(signal.SIGKILL)
    await outer.exited()
    await until(
        lambda: not psutil.pid_exists(inner) or psutil.Process(inner).status() == psutil.STATUS_ZOMBIE
    )


def _never() -> Awaitable[bool]:
    return asyncio.sleep(0, False)
