"""Places where processes run: each is started, killed, stopped, frozen and started again, and always a new process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from simulation.database.pool import Pool
from simulation.database.wire import Wire
from simulation.servers.client import connect
from simulation.servers.network import Network

from peakclip.clocks import Clocks
from peakclip.jetstream import JetStream
from peakclip.service import Service
from peakclip.store import DATABASE_AWAY
from peakclip_operator.simulation.events.broker import EPOCH
from peakclip_operator.simulation.events.kernel import Kernel, Process

Program = Callable[["Running"], Awaitable[None]]


@dataclass(slots=True)
class Scene:
    """What all hosts share. `trace` is told of everything that happens; `died` are processes that ended by an error."""

    kernel: Kernel
    chance: random.Random
    network: Network
    wire: Wire
    trace: Callable[[str], None]
    late: float = 0.0
    died: list[str] = field(default_factory=list)
    buried: list[Process] = field(default_factory=list)


class Running:
    """One process, and what it is made of. A program connects, works until `service.stopping`, and returns."""

    def __init__(self, scene: Scene, name: str, number: int, skew: float) -> None:
        chance, late = random.Random(scene.chance.getrandbits(64)), scene.late
        lateness = {"lateness": lambda: chance.expovariate(1 / late)} if late else {}
        self.scene = scene
        self.name = f"{name}-{number}"
        self.process = Process(scene.kernel, self.name, **lateness)
        self.service: Service | None = None
        self.app: dict[Any, Any] | None = None  # an API process that serves
        self.clocks = Clocks(lambda: EPOCH + skew + scene.kernel.now, lambda: scene.kernel.now + number)
        self._ids = chance
        self.leaving: list[Callable[[], None]] = []  # told when it has gone

    def new_id(self) -> str:
        return f"{self._ids.getrandbits(80):020x}"

    async def connect(self) -> JetStream:
        while not self.scene.network.up:  # noqa: ASYNC110 - the client's own wait
            await asyncio.sleep(0.1)
        return connect(self.scene.network, self.process, self.name)

    async def database(self, most: int) -> Pool:
        pool = Pool(self.scene.wire, self.process, most)
        while True:
            try:
                await pool.fetchval("select 1")
                return pool
            except DATABASE_AWAY:
                await asyncio.sleep(0.1)


class Host:
    """`ended` is told when a process has come to its end by itself."""

    def __init__(self, scene: Scene, name: str, program: Program, skew: float = 0.0) -> None:
        self.scene = scene
        self.name = name
        self.running: Running | None = None
        self.wanted = False  # somebody starts it again whenever it has ended
        self._program = program
        self._skew = skew
        self._started = 0

    def start(self) -> None:
        if self.running is not None:
            return
        self._started += 1
        self.wanted = True
        self.scene.trace(f"start {self.name}")
        running = self.running = Running(self.scene, self.name, self._started, self._skew)
        process = running.process
        self.scene.kernel.at(self.scene.kernel.now, process, self._begin, running)

    def _begin(self, running: Running) -> None:
        running.service = Service()
        running.process.create_task(self._live(running, running.service))

    async def _live(self, running: Running, service: Service) -> None:
        failure: BaseException | None = None
        try:
            await self._program(running)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the process's end
            failure = exc
        finally:
            service.stopping.set()
        await service.cancel_side_tasks()
        failure = failure or service.failure
        self.scene.kernel.at(self.scene.kernel.now, None, self._ended, running, failure)

    def _ended(self, running: Running, failure: BaseException | None) -> None:
        if self.running is not running:
            return
        if failure is not None:
            self.scene.died.append(f"{running.name}: {told(failure)}")
        self.scene.trace(f"end {running.name}")
        self._gone()
        if self.wanted:
            self.scene.kernel.at(self.scene.kernel.now + 0.2, None, self.start)

    def _gone(self) -> None:
        running, self.running = self.running, None
        if running is None:
            return
        running.process.kill()
        running.app = None
        self.scene.network.killed(running.process)
        self.scene.wire.killed(running.process)
        self.scene.buried.append(running.process)
        for told_of in running.leaving:
            told_of()

    def kill(self) -> None:
        self.scene.trace(f"kill {self.name}")
        self._gone()

    def stop(self) -> None:
        """In order: it finishes what it has begun, and ends."""
        self.scene.trace(f"stop {self.name}")
        running = self.running
        if running is not None and running.service is not None:
            self.scene.kernel.at(self.scene.kernel.now, running.process, running.service.stopping.set)

    def freeze(self) -> None:
        self.scene.trace(f"freeze {self.name}")
        if self.running is not None:
            self.running.process.stop()

    def thaw(self) -> None:
        self.scene.trace(f"thaw {self.name}")
        if self.running is not None:
            self.running.process.go_on()


def told(failure: BaseException) -> str:
    if isinstance(failure, BaseExceptionGroup):
        return "; ".join(told(one) for one in failure.exceptions)
    return repr(failure)
