"""Does to a running stack what a plan says, and mends it all at the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
from faults.clock import Clock
from faults.launcher import launched
from faults.nemesis.links import Link, links
from faults.nemesis.plan import CLOCKS, LINKS, Fault, Kind
from faults.system import OURS, System
from support import until

from peakclip.local.ports import LOOPBACK
from peakclip.local.process import ProcessSpec
from peakclip.store import DATABASE_AWAY

_PATIENCE_SECONDS: Final = 3.0  # for a process that is between two lives
# `operator` is the parent of the workers: what it inherits, they do.
_URLS: Final = {
    "PEAKCLIP_NATS_URL": "{}-nats",
    "PEAKCLIP_DATABASE_URL": "{}-postgres",
    "PEAKCLIP_WORKER_NATS_URL": "worker-nats",
}


@dataclass
class Surroundings:
    """What processes are started with: links to the servers, and clocks."""

    links: Mapping[str, Link]
    clocks: Mapping[str, Clock]

    def adapt(self, spec: ProcessSpec) -> ProcessSpec:
        kind = spec.name.partition("-")[0]
        if kind not in CLOCKS:
            return spec  # a server
        env = dict(spec.env)
        for variable, name in _URLS.items():
            if variable in env:
                database = "worker" if kind == "operator" and "DATABASE" in variable else kind
                link = self.links.get(name.format(database))
                env[variable] = env[variable] if link is None else _by(link, env[variable])
        for variable, name in (("FAULTS_CLOCK", kind), ("FAULTS_WORKER_CLOCK", "worker")):
            if name in self.clocks:
                env[variable] = str(self.clocks[name].path)
        return launched(dataclasses.replace(spec, env=env))


def _by(link: Link, url: str) -> str:
    parts = urlsplit(url)
    link.target = parts.port or 0
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{LOOPBACK}:{link.port}"))


@contextlib.asynccontextmanager
async def surroundings(folder: Path) -> AsyncIterator[Surroundings]:
    clocks = {name: Clock(folder / f"clock-{name}") for name in CLOCKS}
    async with links(LINKS) as found:
        yield Surroundings(found, clocks)


class Watch(Protocol):
    """Who is told what is done."""

    def begins(self, fault: Fault) -> None: ...

    def ends(self, fault: Fault, *, missed: bool) -> None: ...

    def says(self, words: str) -> None: ...


class Printed:
    def begins(self, fault: Fault) -> None:
        print(f"  {fault}")

    def ends(self, fault: Fault, *, missed: bool) -> None:
        pass

    def says(self, words: str) -> None:
        print(f"  {words}")


@dataclass
class Nemesis:
    system: System
    around: Surroundings
    watch: Watch = field(default_factory=Printed)
    done: Counter[str] = field(default_factory=Counter)
    missed: list[Fault] = field(default_factory=list)  # nobody was there
    mending: dict[str, int] = field(default_factory=dict)  # faults under way, by what they bend

    async def run(self, plan: Sequence[Fault]) -> None:
        """Returns when the last fault is over and everything is mended. The processes may not be ready yet."""
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for fault in plan:
                    await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
                    group.create_task(self._do(fault))
        finally:
            self.mend()

    def mend(self) -> None:
        for link in self.around.links.values():
            link.heal()
        for clock in self.around.clocks.values():
            clock.set(0.0)

    async def _do(self, fault: Fault) -> None:
        self.watch.begins(fault)
        missed = False
        try:
            match fault.kind:
                case Kind.KILL | Kind.RESTART | Kind.FREEZE:
                    await self._signal(fault)
                case Kind.CUT | Kind.SLOW | Kind.BLACKHOLE:
                    await self._link(fault, self.around.links[fault.target])
                case Kind.BACKENDS:
                    await self._terminate_backends(fault)
                case Kind.EXHAUST:
                    await self._exhaust(fault)
                case Kind.CLOCK:
                    await self._clock(fault)
            self.done[fault.kind] += 1
        except _MissedError:
            self.missed.append(fault)
            missed = True
        finally:
            self.watch.ends(fault, missed=missed)

    # -- processes -----------------------------------------------------------------------------------------

    async def _signal(self, fault: Fault) -> None:
        try:
            pids = await until(lambda: self.system.pids(fault.target), _PATIENCE_SECONDS)
        except AssertionError:
            raise _MissedError from None
        pid = pids[min(int(fault.pick * len(pids)), len(pids) - 1)]
        if fault.kind is Kind.KILL:
            self.system.send(pid, signal.SIGKILL)
        elif fault.kind is Kind.RESTART:
            # PostgreSQL waits for its clients on SIGTERM, and they never go.
            self.system.send(pid, signal.SIGINT if fault.target == "postgres" else signal.SIGTERM)
        else:
            await self._freeze(_with_backends(pid) if fault.target == "postgres" else [pid], fault.seconds)

    async def _freeze(self, pids: Sequence[int], seconds: float) -> None:
        try:
            for pid in pids:
                self.system.send(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                self.system.send(pid, signal.SIGCONT)

    # -- links ---------------------------------------------------------------------------------------------

    async def _link(self, fault: Fault, link: Link) -> None:
        if fault.kind is Kind.CUT:
            link.cut(fault.after_bytes)
            link.refusing = not fault.after_bytes
        elif fault.kind is Kind.SLOW:
            link.delay = fault.delay
        else:
            link.blackhole()
        with self._mended(link.name, link.heal):
            await asyncio.sleep(fault.seconds)

    @contextlib.contextmanager
    def _mended(self, what: str, mend: Any) -> Any:
        """Of two faults of the same thing that overlap the last one to end mends it."""
        self.mending[what] = self.mending.get(what, 0) + 1
        try:
            yield
        finally:
            self.mending[what] -= 1
            if not self.mending[what]:
                mend()

    async def _clock(self, fault: Fault) -> None:
        clock = self.around.clocks[fault.target]
        clock.set(fault.delay)
        with self._mended(f"clock {fault.target}", lambda: clock.set(0.0)):
            await asyncio.sleep(fault.seconds)

    # -- the database --------------------------------------------------------------------------------------

    async def _terminate_backends(self, fault: Fault, held: Sequence[Any] = ()) -> None:
        """A share of all but the test's own."""
        async with self._connection(held) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend'"
                " and pid <> pg_backend_pid() and application_name <> $1 and random() < $2",
                OURS, max(0.05, fault.pick),
            )  # fmt: skip

    async def _exhaust(self, fault: Fault) -> None:
        """Takes every connection there is, and those that become free, from everybody but the test."""
        held: list[Any] = []
        over = time.monotonic() + fault.seconds + _PATIENCE_SECONDS
        try:
            while time.monotonic() < over:
                taken = await asyncio.gather(*(self._take(held) for _ in range(10)))
                if not any(taken):
                    over = min(over, time.monotonic() + fault.seconds)
                    with contextlib.suppress(_MissedError):
                        await self._terminate_backends(fault, held)
                    await asyncio.sleep(0.02)
        finally:
            self.watch.says(f"held {len(held)} connections")
            for one in held:
                one.terminate()

    async def _take(self, held: list[Any]) -> bool:
        try:
            held.append(await asyncpg.connect(_ours(self.system), timeout=2))
        except DATABASE_AWAY:
            return False
        return True

    @contextlib.asynccontextmanager
    async def _connection(self, held: Sequence[Any]) -> AsyncIterator[Any]:
        """One of these, or one of its own."""
        connection = held[0] if held else None
        try:
            if connection is None:
                connection = await asyncpg.connect(_ours(self.system), timeout=2)
            yield connection
        except DATABASE_AWAY:
            raise _MissedError from None
        finally:
            if connection is not None and not held:
                connection.terminate()


def _ours(system: System) -> str:
    return f"{system.credentials['database_url']}&application_name={OURS}"


class _MissedError(Exception):
    """Nobody was there to be harmed."""


def _with_backends(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children())]
    return [pid]
