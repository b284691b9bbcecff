"""One child process: started with its log, bound to our life, watched, asked to stop, killed.

A `Child` keeps nothing of an event loop, so that one test may start it and another, in its own loop, kill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import psutil

from peakclip.errors import PeakclipError
from peakclip.local import launch

_POLL_SECONDS: Final = 0.02
# Look, do not reap: the zombie keeps its pid from being used again.
_EXITED: Final = os.WEXITED | os.WNOHANG | os.WNOWAIT
_LOG_TAIL_BYTES: Final = 2000


class ProcessError(PeakclipError):
    """A process of the stack did not start."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose rights a process gets; uid 0 keeps ours."""

    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run, and how it is asked whether it is ready and to stop."""

    name: str
    argv: Sequence[str]  # argv[0] is a path; never holds a secret, since `ps` shows it
    env: Mapping[str, str]  # the whole environment of the child
    log: Path
    readiness: Callable[[], Awaitable[bool]] | None = (
        None  # None: ask `management_url`, else ready once it runs
    )
    management_url: str | None = None
    # Why only a new start helps; its answer None: it does not need one.
    sick: Callable[[], Awaitable[str | None]] | None = None
    sick_seconds: float = 2.0  # between two of these questions
    before: Callable[[], None] | None = None  # right before every start
    account: Account = field(default_factory=Account)
    nice: int = 0  # added to our niceness
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0  # from the stop signal to SIGKILL
    death_signal: signal.Signals = signal.SIGKILL  # what it gets when we die without having stopped it
    ready_seconds: float = 60.0

    def log_tail(self) -> str:
        """The end of its log, for an error message."""
        with contextlib.suppress(OSError):
            data = self.log.read_bytes()[-_LOG_TAIL_BYTES:]
            return f"Its log ({self.log}) ends with:\n{data.decode(errors='replace')}"
        return "It left no log."


# What is run in place of a process, for tests that put something in between or plant something in it.
Adapt: TypeAlias = Callable[[ProcessSpec], ProcessSpec]


class Child:
    """The running instance of a `ProcessSpec`."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        # Not from a helper thread: Linux sends the death signal when the starting *thread* ends.
        if spec.before is not None:
            spec.before()
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        head = [sys.executable, "-I", "-S", launch.__file__, str(int(spec.death_signal)), str(os.getpid())]
        numbers = [str(spec.account.uid), str(spec.account.gid), str(spec.nice)]
        descriptor = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._popen = subprocess.Popen(  # noqa: S603
                [*head, *numbers, *spec.argv],
                env=dict(spec.env),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",  # our own directory may be closed to the account
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops in order
                umask=0o077,
            )
        finally:
            os.close(descriptor)
        self.pid = self._popen.pid
        self.started_at = time.time()

    @property
    def running(self) -> bool:
        """False as soon as it has exited, though it may not have been reaped yet."""
        if self._popen.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, _EXITED) is None

    @property
    def returncode(self) -> int | None:
        return self._popen.returncode

    async def exited(self) -> int:
        """Waits for the end, ends what it left behind in its process group, reaps it: its exit code."""
        await self._wait_exit()
        await self._end_group()
        return self._popen.wait()

    async def stop(self) -> int:
        """Stop signal, deadline, SIGKILL. Returns the exit code."""
        self.signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_seconds):
                await self._wait_exit()
        except TimeoutError:
            self.signal(signal.SIGKILL)
        return await self.exited()

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait_ready(self) -> None:
        """Raises ProcessError when it exits first or takes longer than `ready_seconds`."""
        if self.spec.readiness is None:
            return
        deadline = time.monotonic() + self.spec.ready_seconds
        while not await self.spec.readiness():
            if not self.running:
                code = await self.exited()
                raise ProcessError(f"{self.spec.name} ended with exit code {code}. {self.spec.log_tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.spec.name} was not ready in time. {self.spec.log_tail()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _wait_exit(self) -> None:
        """By pidfd where there is one, else by looking now and then."""
        if self._popen.returncode is not None or not hasattr(os, "pidfd_open"):
            while self.running:  # noqa: ASYNC110 - nothing sets an event here
                await asyncio.sleep(_POLL_SECONDS)
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _end_group(self) -> None:
        """Children of a process that was killed would go on unwatched beside those of its successor."""
        if self._popen.returncode is not None:
            return
        deadline = time.monotonic() + self.spec.stop_seconds
        number = signal.SIGTERM
        while others := group_members(self.pid):
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            for pid in others:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            await asyncio.sleep(_POLL_SECONDS * 5)


def group_members(leader: int) -> list[int]:
    """Living processes of the group, its leader excepted."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            dead = process.info["status"] == psutil.STATUS_ZOMBIE
            if process.pid != leader and not dead and os.getpgid(process.pid) == leader:
                found.append(process.pid)
    return found
