"""The memory of a process, looked at again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import psutil

MIB: Final = 1 << 20


class Memory:
    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.first = self.most = self._process.memory_info().rss

    @property
    def grown(self) -> int:
        """Bytes of the highest look above the first."""
        return self.most - self.first

    async def look(self) -> None:
        while True:
            self.most = max(self.most, self._process.memory_info().rss)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Memory]:
    memory = Memory(pid)
    looking = asyncio.create_task(memory.look())
    try:
        yield memory
    finally:
        looking.cancel()
