"""Lets conditions happen: servers, workers of every lane, who sets the pace, and at the end the healing of it all."""

from __future__ import annotations

import random
from asyncio import Lock, sleep
from collections.abc import Callable
from typing import Any, Final

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.limiter.limiter import Limiter
from peakclip.limiter.pace import STALE_SECONDS, set_pace
from peakclip_operator.simulation.events.broker import Broker
from peakclip_operator.simulation.events.conditions import Conditions, Happening, Kind, Lane
from peakclip_operator.simulation.events.kernel import Kernel, Process
from peakclip_operator.simulation.events.link import Client, Network
from peakclip_operator.simulation.events.queue import Queue
from peakclip_operator.simulation.events.record import Record
from peakclip_operator.simulation.events.worker import DrainMaker, Habits, ModelDrain, Service, Work

_START_SECONDS: Final = 0.3  # within which workers of a beginning run start
_LEFT_SECONDS: Final = 5.0  # what is left at the end is worked off at a rate that takes about this long
_PATIENCE_SECONDS: Final = 45.0  # after the healing
_HEALTHY_SECONDS: Final = 0.001  # of ways, work and lateness after the healing, at most
_LOOK_SLACK_SECONDS: Final = 0.001  # between the limiter's clock and the true one, over a second


class Worker:
    """A process of a pool, and the checks on what its limiter does."""

    def __init__(self, world: World, lane: Lane, number: int) -> None:
        self._world = world
        chance = random.Random(world.chance.random())
        conditions = world.conditions
        self.lane = lane
        self.name = f"{lane.name}-{number}"
        self.process = Process(world.kernel, self.name, world.lateness(chance))
        self.network = Network(chance, conditions.latency, conditions.spike_chance, conditions.spike)
        self.client = Client(world.kernel, self.process, world.broker, self.network, lane.name)
        self.client.on_increment = self._increment
        self.client.on_look = self._looked
        self._offset = chance.uniform(0, 1e6)
        self._rate = 1 + chance.uniform(-1, 1) * conditions.drift
        self._look_sent = float("-inf")
        self.service = Service()
        self.limiter = Limiter(self.client, lane.name, self.local_time)
        self.work = Work(
            world.kernel, world.record, lane.name, Habits(lane.work_seconds, lane.fail_chance), chance
        )
        self.work.on_start = self._started
        self.leaving = False

    def local_time(self) -> float:
        return self._offset + self._rate * self._world.kernel.now

    @property
    def alive(self) -> bool:
        return self.process.alive and not self.leaving

    def begin(self) -> None:
        self.process.create_task(self._main())

    async def _main(self) -> None:
        looking = self.process.create_task(self.limiter.run())
        pull = self.client.pull("WORK", self.lane.name)
        drain = self._world.make_drain(self.client, pull, self.limiter, self.work, self.lane.name)
        await drain.run(self.service)
        looking.cancel()
        self.client.cut()
        self._world.record.note(f"{self.name} has left")
        self.leaving = True

    def terminate(self) -> None:
        self.leaving = True
        self._world.kernel.at(self._world.kernel.now, self.process, self.service.stopping.set)

    def kill(self) -> None:
        self.process.kill()
        self.client.cut()

    def heal(self) -> None:
        self.process.go_on()
        self.network.extra = self.network.spike_chance = 0.0
        self.network.usual = min(self.network.usual, _HEALTHY_SECONDS)
        self.work.heal(_HEALTHY_SECONDS)

    # -- what is checked at once ---------------------------------------------------------------------------

    def _increment(self, delta: int) -> None:
        if self.work.in_hand <= 0:
            self._world.record.wrong(f"{self.name} asks for a ticket without a message in hand")

    def _looked(self, sent: float) -> None:
        self._look_sent = sent

    def _started(self, said: float, count: int) -> None:
        record, now = self._world.record, self._world.kernel.now
        if now - self._look_sent > STALE_SECONDS + _LOOK_SLACK_SECONDS:
            record.wrong(
                f"{self.name} starts {count} although it last looked {now - self._look_sent:.3f} s ago"
            )
        if count > self.work.in_hand:
            record.wrong(f"{self.name} starts {count} with {self.work.in_hand} in hand")
        # After a change of the leader the best sample may be of the one before, where they do not contradict.
        claimed = self.limiter._clock.error(self.local_time()) + self._world.conditions.clocks_apart
        off = abs(said - self._world.broker.now())
        if off > claimed + _LOOK_SLACK_SECONDS:
            record.wrong(
                f"{self.name} starts {count} {off:.6f} s off its moment, and may be off {claimed:.6f} s"
            )


class World:
    """One run. `run` returns when everything is finished, or will not be any more."""

    def __init__(
        self, conditions: Conditions, make_drain: DrainMaker = ModelDrain, *, trace: bool = False
    ) -> None:
        self.conditions = conditions
        self.chance = random.Random(conditions.seed)
        self.make_drain = make_drain
        self.kernel = Kernel()
        self.broker = Broker(self.kernel, list(conditions.servers))
        self.broker.pace_leader = conditions.pace_server
        self.record = Record(self.kernel, self.broker.now, trace=[] if trace else None)
        self.workers: list[Worker] = []
        self.by_itself = False  # everything was finished before the healing
        self._healthy = False
        self._numbers = 0
        for lane in conditions.lanes:
            self.record.add(lane.name)
            self.broker.queues[lane.name] = Queue(self.kernel, lane.name)
        self._operator = Process(self.kernel, "operator")
        self._changes = Lock()  # one after the other, as they were wished for
        self._operator_network = Network(random.Random(self.chance.random()), conditions.latency)
        self._operator_client = Client(self.kernel, self._operator, self.broker, self._operator_network)

    def lateness(self, chance: random.Random) -> Callable[[], float]:
        conditions = self.conditions

        def draw() -> float:
            if self._healthy:
                return chance.random() * 2 * min(conditions.lateness, _HEALTHY_SECONDS)
            if conditions.stall_chance and chance.random() < conditions.stall_chance:
                return chance.random() * 2 * conditions.stall
            return chance.random() * 2 * conditions.lateness

        return draw

    def run(self) -> None:
        conditions = self.conditions
        for number, lane in enumerate(conditions.lanes):
            self._set_pace(number, limit_per_second=lane.rate, burst=lane.burst)
            self.broker.queues[lane.name].add(lane.messages)
            for _ in range(lane.workers):
                self._join(number, self.chance.uniform(0, _START_SECONDS))
        for one in conditions.happenings:
            self.kernel.at(one.at, None, self._happen, one)
        self.kernel.run(conditions.seconds)
        self.by_itself = not self._unfinished()
        self._heal()
        deadline = self.kernel.now + _PATIENCE_SECONDS
        while self._unfinished() and self.kernel.now < deadline:
            self.kernel.run(self.kernel.now + 0.5)
        self._end()

    def _unfinished(self) -> int:
        return sum(queue.unfinished for queue in self.broker.queues.values())

    def _end(self) -> None:
        if left := self._unfinished():
            self.record.wrong(
                f"{left} messages are still not finished after {_PATIENCE_SECONDS:g} s of health"
            )
        for worker in self.workers:
            worker.client.cut()
            worker.process.bury()
        self._operator.bury()
        for failure in self.kernel.failures:
            self.record.wrong(failure)

    # -- what happens --------------------------------------------------------------------------------------

    def _happen(self, one: Happening) -> None:
        self.record.note(one.words)
        lane = self.conditions.lanes[one.lane]
        match one.kind:
            case Kind.JOIN:
                self._join(one.lane, self.kernel.now)
            case Kind.TERM | Kind.KILL | Kind.STOP | Kind.SLOW:
                self._happen_to(one, self._chosen(one))
            case Kind.HOLD:
                self._slow_down(one, self._operator_network)
            case Kind.RATE:
                self._set_pace(one.lane, limit_per_second=one.value)
            case Kind.EFFECTIVE:
                self._set_pace(one.lane, effective_per_second=one.value)
            case Kind.PAUSE | Kind.RESUME:
                self._set_pace(one.lane, paused=one.kind is Kind.PAUSE)
            case Kind.ARRIVE:
                self.broker.queues[lane.name].add(round(one.value))
            case _:
                self._happen_to_servers(one)

    def _happen_to(self, one: Happening, workers: list[Worker]) -> None:
        for worker in workers:
            if one.kind is Kind.TERM:
                worker.terminate()
            elif one.kind is Kind.KILL:
                worker.kill()
            elif one.kind is Kind.STOP:
                worker.process.stop()
                self.kernel.at(self.kernel.now + one.value, None, worker.process.go_on)
            else:
                self._slow_down(one, worker.network)

    def _slow_down(self, one: Happening, network: Network) -> None:
        network.extra = one.value
        self.kernel.at(self.kernel.now + one.lasts, None, setattr, network, "extra", 0.0)

    def _happen_to_servers(self, one: Happening) -> None:
        broker, until = self.broker, self.kernel.now + one.value
        match one.kind:
            case Kind.FORGET:
                broker.forget_tickets()
            case Kind.REPLACE:
                broker.forget_tickets()
                broker.create_stream(topology.TICKETS)
            case Kind.MEMORY:
                # A worker that looks for a number may ask each window up to the horizon.
                starts = sum(lane.rate / lane.chunk for lane in self.conditions.lanes)
                broker.lose_memory(14 * len(self.workers) + 2 * starts)
            case Kind.FREEZE:
                broker.frozen_until = until
            case Kind.DOWN:
                broker.go_down()
                broker.forget_tickets()
                self.kernel.at(until, None, setattr, broker, "connected", True)
            case Kind.ELECT:
                broker.answers = False
                self.kernel.at(until, None, self._elected)

    def _elected(self) -> None:
        self.broker.answers = True
        self.broker.leader = (self.broker.leader + 1) % len(self.conditions.servers)

    def _chosen(self, one: Happening) -> list[Worker]:
        mine = [each for each in self.workers if each.alive and each.lane is self.conditions.lanes[one.lane]]
        if one.who < 0:
            return mine
        if one.kind in (Kind.TERM, Kind.KILL) and len(mine) < 2:
            return []  # somebody has to be left, or the run says nothing
        return [mine[one.who % len(mine)]] if mine else []

    def _join(self, lane: int, at: float) -> Worker:
        self._numbers += 1
        worker = Worker(self, self.conditions.lanes[lane], self._numbers)
        self.workers.append(worker)
        self.kernel.at(at, worker.process, worker.begin)
        return worker

    def _set_pace(self, lane: int, **change: Any) -> None:
        name = self.conditions.lanes[lane].name

        async def insist() -> None:
            async with self._changes:
                while True:
                    try:
                        await set_pace(self._operator_client, name, **change)
                        return
                    except PeakclipError as exc:
                        self.record.note(f"the pace is not set: {exc!r}")
                        await sleep(0.2)

        self.kernel.at(self.kernel.now, self._operator, lambda: self._operator.create_task(insist()))

    def _heal(self) -> None:
        """From now on nothing is wrong any more; what is left must come to its end."""
        self.record.note("all is healed")
        self._healthy = True
        broker = self.broker
        broker.connected = broker.answers = True
        broker.frozen_until = self._operator_network.extra = 0.0
        for worker in self.workers:
            worker.heal()
        for number, lane in enumerate(self.conditions.lanes):
            left = broker.queues[lane.name].unfinished
            if not left:
                continue
            while sum(each.alive and each.lane is lane for each in self.workers) < 4:
                self._join(number, self.kernel.now).heal()
            rate = max(lane.rate, min(10_000.0, left / _LEFT_SECONDS))
            self._set_pace(number, limit_per_second=rate, paused=False)


def pace_subject(pool: str) -> str:
    return f"$KV.{topology.PACE}.{pool}"
