"""What is done to a running stack, and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from faults.nemesis.nemesis import Nemesis, Surroundings
from faults.nemesis.plan import Fault, Kind
from faults.system import System
from support import until

from peakclip import topology
from peakclip.local.process import ProcessSpec
from peakclip.store import DATABASE_AWAY

_LOOK_SECONDS: Final = 0.01
_LONGEST_SECONDS: Final = 60.0  # until a server must have answered again
_BACKENDS_PAUSE: Final = 0.5  # the public benchmark's: twice a second
_KILLS_PAUSE: Final = 1.0
_HELD: Final = 'while [ -e "$0" ]; do sleep 0.02; done; exec "$@"'


class Locks:
    """Keep a server that has ended from starting again, as a machine that is away would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def adapt(self, spec: ProcessSpec) -> ProcessSpec:
        if spec.name not in ("nats", "postgres"):
            return spec
        return dataclasses.replace(
            spec, argv=["/bin/sh", "-c", _HELD, str(self._path(spec.name)), *spec.argv]
        )

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        path = self._path(name)
        path.touch()
        try:
            yield
        finally:
            path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}-held"


@dataclass
class Ground:
    """Where harm is done, for `seconds`."""

    system: System
    locks: Locks
    chance: random.Random
    seconds: float

    async def harm(self, kind: Kind, seconds: float = 0.0) -> None:
        """`pick`: everybody, where a part could be meant."""
        fault = Fault(0.0, kind, "postgres", seconds, pick=1.0)
        await Nemesis(self.system, Surroundings({}, {})).run([fault])

    def kill(self, pid: int) -> None:
        self.system.send(pid, signal.SIGKILL)

    def workers(self) -> list[int]:
        return self.system.pids(topology.ORDERS_POOL)


@dataclass(frozen=True, slots=True)
class Over:
    """Epoch seconds: nothing holds the dependency back; it answers."""

    mended: float
    back: float
    workers_died: bool = False  # what they had sent may still be committed, and is no success of others


async def postgres_restart(ground: Ground) -> Over:
    """Asked to end, and away for the whole time."""
    return await _restart(ground, "postgres", signal.SIGINT, _database_answers)


async def nats_restart(ground: Ground) -> Over:
    return await _restart(ground, "nats", signal.SIGTERM, _broker_answers)


async def pg_backend_kill(ground: Ground) -> Over:
    """Every backend, again and again."""
    until = time.monotonic() + ground.seconds
    while time.monotonic() < until:
        await ground.harm(Kind.BACKENDS)
        await asyncio.sleep(_BACKENDS_PAUSE)
    await ground.harm(Kind.BACKENDS)
    return _now()


async def pool_exhaustion(ground: Ground) -> Over:
    """Every connection that there is, those that the workers had, too."""
    await ground.harm(Kind.EXHAUST, ground.seconds)
    return _now()


async def crash_recovery(ground: Ground) -> Over:
    """All workers at once. Nothing that they need was ever away: measured from the blow itself."""
    for pid in ground.workers():
        ground.kill(pid)
    return _now(workers_died=True)


async def repeated_kills(ground: Ground) -> Over:
    """One of the workers that are alive, again and again."""
    for _ in range(max(1, round(ground.seconds / _KILLS_PAUSE))):
        if alive := ground.workers():
            ground.kill(ground.chance.choice(alive))
        await asyncio.sleep(_KILLS_PAUSE)
    for pid in ground.workers()[:1]:
        ground.kill(pid)
    return _now(workers_died=True)


SCENARIOS: Final[dict[str, Callable[[Ground], Awaitable[Over]]]] = {
    one.__name__: one
    for one in (
        postgres_restart,
        pg_backend_kill,
        pool_exhaustion,
        crash_recovery,
        repeated_kills,
        nats_restart,
    )
}


async def _restart(
    ground: Ground, name: str, number: signal.Signals, answers: Callable[[System], Awaitable[bool]]
) -> Over:
    with ground.locks.held(name):
        for pid in ground.system.pids(name):
            ground.system.send(pid, number)
        await asyncio.sleep(ground.seconds)
    mended = time.time()
    await until(lambda: answers(ground.system), _LONGEST_SECONDS, pause=_LOOK_SECONDS)
    return Over(mended, time.time())


async def _database_answers(system: System) -> bool:
    try:
        connection = await asyncpg.connect(system.credentials["database_url"], timeout=1)
        await connection.close()
    except DATABASE_AWAY:
        return False
    return True


async def _broker_answers(system: System) -> bool:
    """It greets with JetStream once it has recovered the streams."""
    port = urlsplit(system.credentials["nats_url"]).port
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return b'"jetstream":true' in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _now(workers_died: bool = False) -> Over:
    now = time.time()
    return Over(now, now, workers_died)
