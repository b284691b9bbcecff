"""A whole system on one virtual clock: servers, processes, customers, and what befalls them."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from simulation.database.wire import Faults as DatabaseFaults
from simulation.database.wire import Wire
from simulation.servers.client import connect
from simulation.servers.network import End, Faults, Network
from simulation.servers.words import Message
from simulation.system import programs
from simulation.system.buyers import Customers
from simulation.system.front import Front
from simulation.system.hosts import Host, Scene
from simulation.system.plan import Fault, Plan, Weather

from peakclip import streams, topology
from peakclip.errors import PeakclipError
from peakclip.limiter.pace import set_pace
from peakclip.messages import Order, encode, order_id
from peakclip_operator.simulation.events.broker import EPOCH
from peakclip_operator.simulation.events.kernel import Kernel, Process

_USUAL_SECONDS: Final = 0.0003
CALM: Final = Weather()


@dataclass(slots=True)
class Armed:
    """Something that happens at the `left`-th step of a kind, to whoever made it."""

    server: str
    who: str
    step: str
    left: int
    call: Callable[[str], None]  # with the name of the process

    def is_met(self, word: str) -> bool:
        server, _, rest = word.partition(" ")
        who, _, what = rest.partition(" ")
        if server != self.server or not who.startswith(self.who) or not what.startswith(self.step):
            return False
        self.left -= 1
        return self.left <= 0


class Trace:
    """What happened, as one number; `lines` keeps it in words, if anybody wants to read them."""

    def __init__(self, kernel: Kernel, *, keep: bool = False) -> None:
        self._kernel = kernel
        self.number = 0
        self.count = 0
        self.lines: list[str] | None = [] if keep else None
        self.armed: list[Armed] = []

    def __call__(self, word: str) -> None:
        line = f"{self._kernel.now:.6f} {word}"
        self.number = zlib.crc32(line.encode(), self.number)
        self.count += 1
        if self.lines is not None:
            self.lines.append(line)
        for one in self.armed:
            if one.is_met(word):
                self.armed.remove(one)
                self._kernel.at(self._kernel.now, None, one.call, word.split(" ", 2)[1])
                break


class _Watched(Network):
    """A network that tells of every message that reaches its server."""

    trace: Callable[[str], None]

    def _arrived(self, end: End, epoch: int, message: Message) -> None:
        self.trace(f"nats {end.process.name} {message.subject} {message.reply} {len(message.payload)}")
        super()._arrived(end, epoch, message)


class World:
    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.kernel = Kernel()
        self.trace = Trace(self.kernel, keep=keep_trace)
        chance = random.Random(plan.seed * 7919 + 1)
        self.network = _Watched(self.kernel, random.Random(chance.getrandbits(64)), Faults())
        self.network.trace = self.trace
        self.wire = Wire(self.kernel, random.Random(chance.getrandbits(64)), DatabaseFaults())
        self.wire.trace = self.trace
        self.scene = Scene(self.kernel, chance, self.network, self.wire, self.trace, plan.late)
        self.hosts = self._make_hosts(chance)
        self.clients = Process(self.kernel, "clients")
        fronts = [host for name, host in self.hosts.items() if name.startswith("api")]
        self.front = Front(self.kernel, random.Random(chance.getrandbits(64)), self.clients, fronts)
        self.front.express = plan.express
        self.customers = Customers(plan, self.front, lambda: self.kernel.now)
        self.opened_at: float | None = None
        self.poisoned: list[str] = []  # ids of messages that can end as dead letters only

    def _make_hosts(self, chance: random.Random) -> dict[str, Host]:
        plan, scene = self.plan, self.scene

        def host(name: str, program: programs.Program) -> tuple[str, Host]:
            return name, Host(scene, name, program, chance.uniform(-plan.skew, plan.skew))

        found = dict(host(f"api-{n}", programs.api) for n in range(plan.apis))
        workers = dict(
            host(f"orders-{n}", programs.worker(topology.ORDERS_POOL)) for n in range(plan.workers)
        )
        found |= workers
        found |= dict(
            [host("relay", programs.relay), host("reaper-0", programs.worker(topology.REAPER_POOL))]
        )
        if plan.effects:
            found |= dict([host("effects-0", programs.worker(topology.EFFECTS_POOL))])
        if plan.operator:
            found |= dict([host("operator", programs.operator(list(workers.values())))])
        return found

    # -- its beginning -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Streams and rates are made first, as `peakclip migrate` does, by somebody whom nothing befalls."""
        setup = Process(self.kernel, "setup")
        self.scene.buried += [setup, self.clients]
        self.kernel.at(0.0, setup, setup.create_task, self._set_up(setup))

    async def _set_up(self, setup: Process) -> None:
        js = connect(self.network, setup, "setup")
        await streams.ensure(js)
        for pool in topology.POOLS:
            await set_pace(js, pool, limit_per_second=self.plan.rate)
        await js.close()
        self.kernel.at(self.kernel.now, None, self._start_all)

    def _start_all(self) -> None:
        for host in self.hosts.values():
            host.start()
        self.kernel.at(self.kernel.now, self.clients, self.clients.create_task, self._open())

    async def _open(self) -> None:
        await self.customers.open_sales()
        self.opened_at = self.kernel.now
        for number, buyer in enumerate(self.plan.buyers):
            self.clients.create_task(self.customers.come(number, buyer))
        self.kernel.at(self.kernel.now, None, self._let_it_befall)

    def _let_it_befall(self) -> None:
        for change in self.plan.changes:
            self.kernel.at(
                self.kernel.now, self.clients, self.clients.create_task, self.customers.change(*change)
            )
        for number, at in enumerate(self.plan.poison):
            later = self.kernel.now + at
            self.kernel.at(later, self.clients, self.clients.create_task, self._poison(number))
        for after, weather in self.plan.weather:
            self.kernel.at(self.kernel.now + after, None, self.change, weather)
        for fault in self.plan.faults:
            if fault.step is None:
                self.kernel.at(self.kernel.now + fault.at, None, self._befalls, fault)
            else:
                self.trace.armed.append(Armed(*fault.step, partial(self._befalls_maker, fault)))

    async def _poison(self, number: int) -> None:
        """An order that can be read, and that PostgreSQL takes from nobody; or nothing that can be read."""
        while not self.network.up:  # noqa: ASYNC110 - the client's own wait
            await asyncio.sleep(0.1)
        js = connect(self.network, self.clients, f"stranger-{number}")
        message_id = f"poison-{number}"
        order = Order(order_id("t", message_id), "t", "c", self.customers.sale_ids[0], 1 << 40, "p", EPOCH)
        body = encode(order) if number % 2 == 0 else b"{"
        while True:
            try:
                await js.publish(
                    topology.seckill_subject(self.customers.sale_ids[0]), body, message_id=message_id
                )
                break
            except PeakclipError:
                await asyncio.sleep(0.1)
        self.poisoned.append(message_id)
        await js.close()

    def _befalls_maker(self, fault: Fault, process: str) -> None:
        name = process.rpartition("-")[0]
        self._befalls(replace(fault, target=name if name in self.hosts else fault.target))

    # -- what befalls it -----------------------------------------------------------------------------------

    def change(self, weather: Weather) -> None:
        self.trace(f"weather {weather}")
        nats, database = self.network.faults, self.wire.faults
        nats.request_lost = nats.answer_lost = weather.lost
        nats.cut = weather.cut
        nats.spike_chance = database.spike_chance = weather.spikes
        nats.spike_seconds = database.spike_seconds = weather.spike_seconds
        database.cut_before = database.cut_after = weather.database / 2
        database.swallowed = weather.database / 10
        database.terminated = weather.database / 4
        database.step_seconds = weather.step_seconds
        database.refused = weather.refused

    def _befalls(self, fault: Fault) -> None:
        self.trace(f"fault {fault}")
        host = self.hosts[fault.target]
        later = self.kernel.now + fault.seconds
        match fault.kind:
            case "kill":
                host.kill()
                self.kernel.at(later, None, self._again, host)
            case "stop":
                host.stop()
            case "freeze":
                host.freeze()
                self.kernel.at(later, None, host.thaw)
            case "hole" if host.running is not None:
                way = (host.running.process.name, fault.at % 1 < 0.5)
                (self.network if fault.at % 0.5 < 0.3 else self.wire).holes[way] = later
            case "cut":
                for end in [
                    one for one in self.network._ends if host.running and one.process is host.running.process
                ]:
                    self.network.cut(end)
            case "nats crash" | "nats stop" if self.network.up:
                (self.network.crash if fault.kind == "nats crash" else self.network.stop)()
                self.kernel.at(later, None, self.network.start)
            case "postgres crash" if self.wire.up:
                self.wire.crash()
                self.kernel.at(later, None, self.wire.start)
            case "terminate":
                for line in list(self.wire.lines):
                    self.wire.terminate(line)

    @staticmethod
    def _again(host: Host) -> None:
        if host.wanted:
            host.start()

    def heal(self) -> None:
        """No fault begins any more, and every way is quick; who is frozen is so until its time is up."""
        self.change(CALM)
        self.trace.armed.clear()
        if not self.network.up:
            self.network.start()
        if not self.wire.up:
            self.wire.start()
        for host in self.hosts.values():
            if host.wanted:
                host.start()

    def bury(self) -> None:
        for host in self.hosts.values():
            if host.running is not None:
                self.scene.buried.append(host.running.process)
        for process in self.scene.buried:
            process.alive = False
        for process in self.scene.buried:
            process.bury()
