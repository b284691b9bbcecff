"""Keeps processes running: a crash is followed by a restart, and so is the word of one that only that helps.

A stop goes through them in reverse order.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from peakclip.local.probe import not_ready
from peakclip.local.process import Child, ProcessError, ProcessSpec

log = structlog.get_logger()

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0
HEALTHY_SECONDS: Final = 10.0  # a run of this length was a success: its crash is a first crash
_MOST_FAILED_STARTS: Final = 5
_SETTINGS_WRONG: Final = 2  # exit code: trying again would end the same way
_POLL_SECONDS: Final = 0.05


def restart_delay(previous_seconds: float | None, ran_seconds: float) -> float:
    """Pause before the next start: 0.1 s after a healthy run, else twice the last one, at most 5 s.

    Crashes after 1 s each: 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5 …
    """
    if previous_seconds is None or ran_seconds >= HEALTHY_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(LONGEST_DELAY_SECONDS, previous_seconds * 2)


def describe_exit(code: int) -> str:
    """`-9` to `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


@dataclass(slots=True)
class _Kept:
    spec: ProcessSpec
    child: Child | None = None
    task: asyncio.Task[None] | None = None
    # The last exit codes.
    codes: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST_FAILED_STARTS))


@dataclass(frozen=True, slots=True)
class Running:
    """A process as it is now."""

    name: str
    pid: int
    started_at: float  # epoch seconds
    management_url: str | None


class Supervisor:
    """`changed` is called whenever a process has started or ended."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._kept: dict[str, _Kept] = {}
        self._changed = changed
        self.restarts = 0

    def start(self, spec: ProcessSpec) -> None:
        """Starts it and keeps it running; see `wait_ready`."""
        kept = _Kept(spec)
        self._kept[spec.name] = kept
        self._launch(kept)
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {spec.name}")

    async def wait_ready(self, *names: str) -> None:
        """These, or all. Raises ProcessError when one keeps ending, or is not ready in its time."""
        await run_all(*(self._wait_ready(self._kept[name]) for name in names or tuple(self._kept)))

    def running(self) -> list[Running]:
        """A dead operator is not among them, though its successor waits until its workers have ended."""
        return [
            Running(kept.spec.name, kept.child.pid, kept.child.started_at, kept.spec.management_url)
            for kept in self._kept.values()
            if kept.child is not None and kept.child.running
        ]

    async def missing(self) -> dict[str, list[str]]:
        """Processes that are not ready, with the reasons; empty when all are."""
        kept = list(self._kept.values())
        reasons = await asyncio.gather(*(_reasons(item) for item in kept))
        return {item.spec.name: why for item, why in zip(kept, reasons, strict=True) if why}

    async def stop(self) -> None:
        """The last one started is stopped first; each has its own time before it is killed."""
        while self._kept:
            _, kept = self._kept.popitem()
            if kept.task is not None:
                kept.task.cancel()
                await asyncio.wait([kept.task])
            if kept.child is not None:
                code = await kept.child.stop()
                log.debug("process_stopped", name=kept.spec.name, ended=describe_exit(code))
            self._changed()

    def _launch(self, kept: _Kept) -> None:
        kept.child = Child(kept.spec)
        self._changed()

    async def _keep(self, kept: _Kept) -> None:
        delay: float | None = None
        while True:
            if kept.child is not None:
                started = time.monotonic()
                code = await _end(kept.spec, kept.child)
                ran = time.monotonic() - started
                kept.child = None
                kept.codes.append(code)
                self._changed()
                delay = restart_delay(delay, ran)
                log.warning("process_ended", name=kept.spec.name, ended=describe_exit(code), again_in=delay)
            await asyncio.sleep(delay or 0.0)
            self.restarts += 1
            try:
                self._launch(kept)
            except (OSError, ProcessError) as exc:  # for a moment no memory, no process id …
                delay = restart_delay(delay, 0.0)
                log.error("process_not_started", name=kept.spec.name, error=repr(exc))

    async def _wait_ready(self, kept: _Kept) -> None:
        spec = kept.spec
        deadline = time.monotonic() + spec.ready_seconds
        while reasons := await _reasons(kept):
            if _SETTINGS_WRONG in kept.codes or len(kept.codes) >= _MOST_FAILED_STARTS:
                raise ProcessError(f"{spec.name} ended: {describe_exit(kept.codes[-1])}. {spec.log_tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{spec.name} is not ready ({', '.join(reasons)}). {spec.log_tail()}")
            await asyncio.sleep(_POLL_SECONDS)


async def _end(spec: ProcessSpec, child: Child) -> int:
    """Waits until it has ended, or is sick and has been stopped: its exit code."""
    watching = asyncio.create_task(_stop_when_sick(spec, child), name=f"watch {spec.name}")
    try:
        return await child.exited()
    finally:
        watching.cancel()


async def _stop_when_sick(spec: ProcessSpec, child: Child) -> None:
    while spec.sick is not None:
        await asyncio.sleep(spec.sick_seconds)
        try:
            why = await spec.sick()
        except Exception:  # not known now; the next answer may be
            log.exception("sickness_unknown", name=spec.name)
            continue
        if why:
            log.warning("process_sick", name=spec.name, why=why, then="it is started anew")
            await child.stop()
            return


async def _reasons(kept: _Kept) -> list[str]:
    if kept.child is None or not kept.child.running:
        return ["not running"]
    if kept.spec.readiness is not None:
        return [] if await kept.spec.readiness() else ["no answer"]
    if kept.spec.management_url is not None:
        return await not_ready(kept.spec.management_url)
    return []


async def run_all(*work: Coroutine[Any, Any, object]) -> None:
    """All at once; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def run_to_end(spec: ProcessSpec) -> None:
    """Runs a process that does one thing. Raises ProcessError if it fails; ends it if we are cancelled."""
    child = Child(spec)
    try:
        code = await child.exited()
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await asyncio.shield(child.stop())
        raise
    if code != 0:
        raise ProcessError(f"{spec.name} failed: {describe_exit(code)}. {spec.log_tail()}")
