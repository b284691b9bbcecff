"""One virtual clock and one heap of events; each process is an asyncio event loop on them.

A process can be late (its machine is busy), stopped and continued, or killed. What it would have done meanwhile it
does when it goes on, in the order in which it came: as the kernel treats a process after SIGCONT.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

_MOST_STEPS: Final = 100_000  # of one process at one moment: more of them is a loop that never ends

_Event = tuple[float, int, "Process | None", asyncio.Handle]


class Kernel:
    """Runs events in the order of their times (true seconds), and of their making where the times are the same."""

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0  # events so far
        self.failures: list[str] = []  # what processes raised and nobody caught
        self._made = 0
        self._heap: list[_Event] = []
        self._nobody = Process(self, "nobody")

    def at(
        self, when: float, process: Process | None, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """Calls back at a time, in a process or (None) in the world outside of all processes."""
        handle = asyncio.TimerHandle(when, callback, args, (process or self._nobody).as_loop)
        self.push(when, process, handle)
        return handle

    def push(self, when: float, process: Process | None, handle: asyncio.Handle) -> None:
        self._made += 1
        heappush(self._heap, (max(when, self.now), self._made, process, handle))

    def run(self, until: float) -> None:
        """Every event up to this time; the clock then stands at it."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, made, process, handle = heappop(heap)
            if handle.cancelled():
                continue
            self.now = when
            if process is None:
                self.count += 1
                handle._run()
            elif process.alive:
                later = process.may_go_on(when)
                if later is None:
                    process.held.append((made, handle))
                elif later > when:
                    heappush(heap, (later, made, process, handle))  # its place in line stays
                else:
                    self.count += 1
                    process.step(handle)
        self.now = until

    def go_on(self, process: Process) -> None:
        """What a stopped process has missed happens now, oldest first."""
        for made, handle in process.held:
            heappush(self._heap, (self.now, made, process, handle))
        process.held.clear()


def _never_late() -> float:
    return 0.0


class Process:
    """One worker process: as much of an event loop as asyncio's own primitives need; its time is the kernel's."""

    def __init__(self, kernel: Kernel, name: str, lateness: Callable[[], float] = _never_late) -> None:
        self._kernel = kernel
        self.name = name
        self.as_loop: Any = self
        self._lateness = lateness  # draws by how many seconds it wakes up late
        self.alive = True
        self.held: list[tuple[int, asyncio.Handle]] = []
        self._stopped = False
        self._blocked_until = 0.0
        self._drawn = False  # its lateness for the step that is due
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- what the world does to it -------------------------------------------------------------------------

    def stop(self) -> None:
        self._stopped = True

    def go_on(self) -> None:
        if self._stopped:
            self._stopped = False
            self._kernel.go_on(self)

    def kill(self) -> None:
        self.alive = False
        self.held.clear()

    def may_go_on(self, now: float) -> float | None:
        """When its next step runs: now, later because it is late, or (None) not before it is continued."""
        if self._stopped:
            return None
        if self._blocked_until > now:
            return self._blocked_until
        if not self._drawn:
            self._drawn = True
            self._blocked_until = now + self._lateness()
        return self._blocked_until if self._blocked_until > now else now

    def step(self, handle: asyncio.Handle) -> None:
        """Runs one event, and all that becomes ready by it, in no time."""
        self._drawn = False
        outer = _get_running_loop()
        _set_running_loop(self.as_loop)
        try:
            handle._run()
            self._run_ready()
        finally:
            _set_running_loop(outer)

    def _run_ready(self) -> None:
        ready, steps = self._ready, 0
        while ready:
            one = ready.popleft()
            if not one.cancelled():
                one._run()
            steps += 1
            if steps > _MOST_STEPS:
                ready.clear()
                self._kernel.failures.append(f"{self.name}: goes round for ever without waiting")

    def bury(self) -> None:
        """Ends its tasks without letting them do anything that takes time, so that nothing is left behind."""
        self.alive = False
        outer = _get_running_loop()
        _set_running_loop(self.as_loop)
        try:
            for _ in range(20):
                tasks = list(self._tasks)
                if not tasks:
                    break
                for task in tasks:
                    task.cancel()
                self._run_ready()
        finally:
            _set_running_loop(outer)

    # -- the event loop ------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._kernel.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.as_loop, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._kernel.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self.as_loop, context)
        self._kernel.push(when, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is thrown away when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_loop)

    def create_task(self, coro: Any, **named: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self.as_loop, **named)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.alive:
            self._kernel.failures.append(
                f"{self.name}: {context.get('message')}: {context.get('exception')!r}"
            )
