"""NATS and PostgreSQL, each on a disk of its own, whose plugs are pulled together or one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import psutil
from faults.disk.disk import Disk
from faults.disk.names import Semantics
from faults.system import System, running

from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.process import ProcessError
from peakclip.local.server import Server

BOTH: Final = ("nats", "postgres")


class Machines:
    """Logs, and the processes of the stack, are elsewhere."""

    def __init__(self, nats: NatsServer, postgres: PostgresServer, disks: dict[str, Disk]) -> None:
        self.disks = disks
        self._nats = nats
        self._postgres = postgres
        self._servers: dict[str, Server] = {"nats": nats, "postgres": postgres}

    @property
    def settings(self) -> dict[str, str]:
        """For processes that are to use them."""
        return {"PEAKCLIP_NATS_URL": self._nats.url, "PEAKCLIP_DATABASE_URL": self._postgres.url}

    def settle(self) -> None:
        """As if all had been as it is for long: it is on the disks, names too."""
        for disk in self.disks.values():
            disk.sync()

    async def start(self, names: Iterable[str] = BOTH) -> None:
        for name in names:
            await self._servers[name].start()

    async def pull_the_plug(
        self, seed: int, names: Iterable[str] = BOTH, *, torn: bool = True
    ) -> dict[str, dict[str, int]]:
        """And start anew on what is left. What was not synced of each, for people."""
        kill(pid for name in names for pid in family(self._servers[name].pid))
        told = {name: self.disks[name].cut(seed, torn=torn) for name in names}
        for name in names:
            await self._servers[name].kill()
            self.disks[name].mount()
        await self.start(names)
        return told

    def runs(self, name: str) -> bool:
        return self._servers[name].running

    async def heal(self, name: str) -> str | None:
        """As its supervisor would: why it had to be started anew."""
        if why := await self._servers[name].spec.sick():
            await self._servers[name].kill()
        await self.start((name,))
        return why

    @contextlib.asynccontextmanager
    async def supervised(self, name: str) -> AsyncIterator[None]:
        """Whenever it has ended, or only a new start helps."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(2)
                with contextlib.suppress(ProcessError):
                    if why := await self.heal(name):
                        print(f"{name}: {why}")

        watching = asyncio.create_task(watch(), name=f"watch {name}")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def stop(self, names: Iterable[str] = BOTH) -> None:
        for name in names:
            await self._servers[name].stop()


def family(pid: int | None) -> list[int]:
    """PostgreSQL's processes lead groups of their own."""
    if pid is None:
        return []
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def kill(pids: Iterable[int]) -> None:
    """All of them are looked up before the first one dies."""
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def on_disks(
    folder: Path,
    semantics: Semantics = Semantics.ORDERED,
    nats: type[NatsServer] = NatsServer,
    postgres: type[PostgresServer] = PostgresServer,
) -> AsyncIterator[Machines]:
    """Prepared long ago."""
    with contextlib.ExitStack() as undo:
        disks = {name: undo.enter_context(Disk(folder / f"{name}-machine", semantics)) for name in BOTH}
        machines = Machines(
            nats(disks["nats"].path / "nats", folder / "nats.log", owner=True).prepare(),
            postgres(disks["postgres"].path / "postgres", folder / "postgres.log").prepare(),
            disks,
        )
        machines.settle()
        try:
            await machines.start()
            yield machines
        finally:
            await machines.stop()


@contextlib.asynccontextmanager
async def running_on(machines: Machines, data: Path, rate: float) -> AsyncIterator[System]:
    """A stack whose processes are on a third machine, long after its installation."""
    async with running(data, machines.settings, rate=rate, min_workers=2, max_workers=3) as system:
        machines.settle()
        yield system
