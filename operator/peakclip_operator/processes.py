"""Workers as processes of this machine: forked ready-made, drained on SIGTERM, killed when they do not end.

A fork server imports the worker's code once, before any burst; a start is then a fork of some 20 ms that costs
the burst next to nothing. All calls run one after another in a thread of their own: neither a fork nor a
slow disk ever holds up the control loop.
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
from multiprocessing.connection import wait
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


@dataclass(slots=True)
class _Child:
    process: BaseProcess
    pid: int
    started_at: float
    kill_at: float | None = None  # set while it drains

    @property
    def draining(self) -> bool:
        return self.kill_at is not None


class ProcessScaler:
    """A `Scaler`. Make it before the burst: the fork server starts with it. End it with `close()`.

    `target` runs in the child with the pool's name; it is looked up by name there, so it is a function of an
    importable module. `preload` names modules that the fork server imports.
    """

    def __init__(
        self,
        pool: str,
        *,
        target: Callable[[str], None] = worker_process.run_worker,
        preload: Sequence[str] | None = None,
        drain_seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if preload is None:
            preload = (worker_process.worker_entry_point().module,)
        self._pool = pool
        self._target = target
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._children: list[_Child] = []
        self._young_deaths = 0
        self._not_before = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-scaler")
        self._context = multiprocessing.get_context("forkserver")
        # `__main__` too, or every child would run the console script's imports again.
        self._context.set_forkserver_preload(["__main__", worker_process.__name__, *preload])
        forkserver.ensure_running()

    async def current(self) -> Workers:
        return await self._in_thread(self._look)

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        """Says the same thing twice without harm: it counts what is there and starts or drains the difference."""
        await self._in_thread(lambda: self._scale(replicas, {one.pid: one.in_flight for one in idle_first}))

    async def close(self) -> None:
        """Drains all workers and kills those that take longer than the deadline. No other call may follow."""
        await self._in_thread(self._end_all)
        self._thread.shutdown(wait=False)

    def pids(self) -> list[int]:
        """Of the workers that are not draining."""
        return [one.pid for one in self._children if not one.draining]

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # -- in the thread -------------------------------------------------------------------------------------

    def _look(self) -> Workers:
        self._bury()
        draining = sum(one.draining for one in self._children)
        return Workers(running=len(self._children) - draining, starting=0, draining=draining)

    def _scale(self, replicas: int, in_flight: Mapping[int, int]) -> None:
        self._bury()
        running = [one for one in self._children if not one.draining]
        now = self._clock()
        if running and all(now - one.started_at > _YOUNG_SECONDS for one in running):
            self._young_deaths = 0
        if len(running) < replicas and now >= self._not_before:
            for _ in range(replicas - len(running)):
                self._start()
        # Idle ones first; who has not been heard of yet has hardly begun, and the youngest know least.
        running.sort(key=lambda one: (in_flight.get(one.pid, 0.5), -one.started_at))
        for one in running[: max(0, len(running) - replicas)]:
            self._drain(one)

    def _start(self) -> None:
        process = self._context.Process(
            target=worker_process.child,
            args=(self._target, self._pool, self._drain_seconds),
            name=f"peakclip-worker-{self._pool}",
        )
        process.start()
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

    def _end_all(self) -> None:
        for child in self._children:
            if not child.draining:
                self._drain(child)
        while self._children:
            self._bury()
            soonest = min((one.kill_at or 0.0 for one in self._children), default=0.0)
            wait([one.process.sentinel for one in self._children], max(0.05, soonest - self._clock()))
