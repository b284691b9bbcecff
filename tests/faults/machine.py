"""The machine of the servers: NATS and PostgreSQL on one disk, whose plug is pulled under both at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
from faults.disk.disk import Disk
from faults.disk.names import Semantics
from faults.system import System, running

from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.server import Server


class Machine:
    """Its own logs, and the processes of the stack, are elsewhere."""

    def __init__(self, disk: Disk, nats: NatsServer, postgres: PostgresServer) -> None:
        self.disk = disk
        self.nats = nats
        self.postgres = postgres

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.nats, self.postgres

    @property
    def settings(self) -> dict[str, str]:
        """For processes that are to use them."""
        return {"PEAKCLIP_NATS_URL": self.nats.url, "PEAKCLIP_DATABASE_URL": self.postgres.url}

    async def start(self) -> None:
        for server in self.servers:
            await server.start()

    async def pull_the_plug(self, seed: int) -> dict[str, int]:
        """And start anew on what is left."""
        pids = [pid for server in self.servers for pid in _family(server.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        told = self.disk.cut(seed)
        for server in self.servers:
            await server.kill()
        self.disk.mount()
        await self.start()
        return told

    async def stop(self) -> None:
        for server in self.servers:
            await server.stop()


def _family(pid: int | None) -> list[int]:
    """PostgreSQL's processes lead groups of their own."""
    if pid is None:
        return []
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


@contextlib.asynccontextmanager
async def on_a_disk(
    folder: Path,
    semantics: Semantics = Semantics.ORDERED,
    nats: type[NatsServer] = NatsServer,
    postgres: type[PostgresServer] = PostgresServer,
) -> AsyncIterator[Machine]:
    """Prepared long ago: what made it is on the disk."""
    with Disk(folder / "machine", semantics) as disk:
        machine = Machine(
            disk,
            nats(disk.path / "nats", folder / "nats.log", owner=True).prepare(),
            postgres(disk.path / "postgres", folder / "postgres.log").prepare(),
        )
        disk.sync()
        try:
            await machine.start()
            yield machine
        finally:
            await machine.stop()


@contextlib.asynccontextmanager
async def running_on(machine: Machine, data: Path, rate: float) -> AsyncIterator[System]:
    """A stack whose processes are on another machine, long after its installation."""
    async with running(data, machine.settings, rate=rate, min_workers=2, max_workers=4) as system:
        machine.disk.sync()
        yield system
