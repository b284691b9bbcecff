"""Workers as processes of this machine: forked ready-made, drained on SIGTERM, killed when they do not end.

A fork server imports the worker's code once, before any burst and for all pools; a start is then a fork of some
20 ms that costs the burst next to nothing. All calls run one after another in a thread of their own: neither a
fork nor a slow disk ever holds up a control loop.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import TypeVar

import structlog
from prometheus_client import multiprocess as shared_metrics

from peakclip_operator import worker_process
from peakclip_operator.ports import Workers, WorkerSample

log = structlog.get_logger()

_T = TypeVar("_T")

_YOUNG_SECONDS = 3.0  # who dies younger than this dies of a cause that the next one will meet too
_PATIENCE = 3  # young deaths in a row that are replaced at once
_LONGEST_PAUSE_SECONDS = 30.0
_BETWEEN_LOOKS_SECONDS = 0.05  # while the last workers drain


@dataclass(slots=True)
class _Child:
    process: BaseProcess
    pid: int
    started_at: float
    kill_at: float | None = None  # set while it drains

    @property
    def draining(self) -> bool:
        return self.kill_at is not None


class ForkServer:
    """What the scalers of all pools share. Make it before the burst: the process that forks starts with it.

    One thread for all of them: at each start multiprocessing looks after all children of this process, and two
    threads that saw the same one end would take its exit code away from each other. `preload` names modules that
    every worker needs. Close it after the last scaler.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fork-server")
        self._context = multiprocessing.get_context("forkserver")
        # `__main__` too, or every child would run the console script's imports again.
        self._context.set_forkserver_preload(["__main__", worker_process.__name__, *preload])
        forkserver.ensure_running()

    async def run(self, call: Callable[[], _T]) -> _T:
        """Runs `call` in the thread, after all that were asked for before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def start(self, target: Callable[..., None], arguments: tuple[object, ...], name: str) -> BaseProcess:
        """In the thread only."""
        process = self._context.Process(target=target, args=arguments, name=name)
        process.start()
        return process

    def close(self) -> None:
        self._thread.shutdown(wait=False)


class ProcessScaler:
    """A `Scaler` of one pool. End it with `close()`.

    `target` runs in the child with the pool's name; it is looked up by name there, so it is a function of an
    importable module.
    """

    def __init__(
        self,
        pool: str,
        forks: ForkServer,
        *,
        target: Callable[[str], None] = worker_process.run_worker,
        drain_seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._forks = forks
        self._target = target
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._children: list[_Child] = []
        self._young_deaths = 0
        self._not_before = 0.0

    async def current(self) -> Workers:
        return await self._forks.run(self._look)

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        """Says the same thing twice without harm: it counts what is there and starts or drains the difference."""
        in_flight = {one.pid: one.in_flight for one in idle_first}
        missing = await self._forks.run(lambda: self._balance(replicas, in_flight))
        for _ in range(missing):  # one by one: other pools get their turn in between
            await self._forks.run(self._start)

    async def close(self) -> None:
        """Drains all workers and kills those that take longer than the deadline. No other call may follow."""
        await self._forks.run(self._drain_all)
        while await self._forks.run(self._any_left):  # noqa: ASYNC110 - the thread belongs to the other pools, too
            await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)

    def pids(self) -> list[int]:
        """Of the workers that are not draining."""
        return [one.pid for one in self._children if not one.draining]

    # -- in the thread -------------------------------------------------------------------------------------

    def _look(self) -> Workers:
        self._bury()
        draining = sum(one.draining for one in self._children)
        return Workers(running=len(self._children) - draining, starting=0, draining=draining)

    def _balance(self, replicas: int, in_flight: Mapping[int, int]) -> int:
        """Gives back who is too many; returns how many are to be started now."""
        self._bury()
        running = [one for one in self._children if not one.draining]
        now = self._clock()
        if running and all(now - one.started_at > _YOUNG_SECONDS for one in running):
            self._young_deaths = 0
        # Idle ones first; who has not been heard of yet has hardly begun, and the youngest know least.
        running.sort(key=lambda one: (in_flight.get(one.pid, 0.5), -one.started_at))
        for one in running[: max(0, len(running) - replicas)]:
            self._drain(one)
        return max(0, replicas - len(running)) if now >= self._not_before else 0

    def _start(self) -> None:
        arguments = (self._target, self._pool, self._drain_seconds)
        process = self._forks.start(worker_process.child, arguments, f"peakclip-worker-{self._pool}")
        child = _Child(process, process.pid or 0, self._clock())
        self._children.append(child)
        log.info("worker_started", pool=self._pool, worker_pid=child.pid)

    def _drain(self, child: _Child) -> None:
        child.kill_at = self._clock() + self._drain_seconds
        child.process.terminate()
        log.info("worker_draining", pool=self._pool, worker_pid=child.pid)

    def _bury(self) -> None:
        """Forgets the dead and kills those whose time to drain is over."""
        for child in list(self._children):
            code = child.process.exitcode
            if code is not None:
                self._children.remove(child)
                self._died(child, code)
            elif child.kill_at is not None and self._clock() >= child.kill_at:
                log.warning("worker_killed", pool=self._pool, worker_pid=child.pid, after=self._drain_seconds)
                child.process.kill()

    def _died(self, child: _Child, code: int) -> None:
        child.process.close()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            shared_metrics.mark_process_dead(child.pid)  # type: ignore[no-untyped-call]
        if child.draining:
            log.info("worker_drained", pool=self._pool, worker_pid=child.pid, exit_code=code)
            return
        age = self._clock() - child.started_at
        self._young_deaths = self._young_deaths + 1 if age < _YOUNG_SECONDS else 0
        pause = 0.0
        if self._young_deaths > _PATIENCE:
            pause = min(_LONGEST_PAUSE_SECONDS, 2.0 ** (self._young_deaths - _PATIENCE))
            self._not_before = self._clock() + pause
        log.warning(
            "worker_died", pool=self._pool, worker_pid=child.pid, exit_code=code, age=age, pause=pause
        )

    def _drain_all(self) -> None:
        for child in self._children:
            if not child.draining:
                self._drain(child)

    def _any_left(self) -> bool:
        self._bury()
        return bool(self._children)
