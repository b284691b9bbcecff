"""What the embedded servers have in common: start, stop, kill and restart outside of a supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from typing import Self

from peakclip.local.process import Child, ProcessError, ProcessSpec


def minimal_env() -> dict[str, str]:
    """For programs that need nothing of ours: no secret, no PG* or PEAKCLIP_* variable gets in."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C"}


class Server(ABC):
    """A server program with data of its own; `prepare` of the subclass makes `spec`."""

    start_attempts = 1

    def __init__(self) -> None:
        self._spec: ProcessSpec | None = None
        self._child: Child | None = None

    @abstractmethod
    def prepare(self) -> Self:
        """Makes the data and the configuration if they are missing, and `spec`. Blocks."""

    @property
    def spec(self) -> ProcessSpec:
        if self._spec is None:
            raise ProcessError("The server was not prepared.")
        return self._spec

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        """Returns when it answers; does nothing if it runs."""
        for attempt in range(1, self.start_attempts + 1):
            if self.running:
                return
            self._child = Child(self.spec)
            try:
                await self._child.wait_ready()
            except ProcessError:
                if attempt == self.start_attempts or self.running:
                    raise
                await asyncio.sleep(0.25)

    async def stop(self) -> None:
        """In order, data flushed."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            await self._child.exited()
            self._child = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()
