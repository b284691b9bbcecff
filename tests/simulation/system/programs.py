"""The programs of the simulated processes: those of the real ones, from where they have their connections on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from simulation.system.front import StandingKeys
from simulation.system.hosts import Host, Program, Running

from peakclip import topology
from peakclip.roles import API, ROLES
from peakclip.streams import until_there
from peakclip_api import keys
from peakclip_api.accepting import Accepting
from peakclip_api.lane import ExpressLane
from peakclip_api.lookup import Lookup
from peakclip_api.sales import Sales
from peakclip_api.stock import Stock
from peakclip_operator.lanes import SharedRates
from peakclip_operator.pool import PoolOperator
from peakclip_operator.ports import Workers, WorkerSample
from peakclip_operator.settings import OperatorSettings
from peakclip_worker.main import work_with
from peakclip_worker.relay_main import relay_with
from peakclip_worker.settings import RelaySettings, WorkerSettings

_WORKER: Final = {pool: WorkerSettings(pool=pool) for pool in topology.POOLS}
_RELAY: Final = RelaySettings()
_OPERATOR: Final = OperatorSettings()
EXPRESS: Final = "express"
_LAST_ANSWERS_SECONDS: Final = 1.0


async def api(running: Running) -> None:
    service = running.service
    if service is None:
        raise RuntimeError("a process that does not run")
    js, pool = await running.connect(), await running.database(4)
    await until_there(js, ROLES[API])
    accepting = Accepting(js, 200_000, None, clocks=running.clocks, new_id=running.new_id)
    sales, standing = Sales(pool, running.clocks.steady), StandingKeys()
    app: dict[Any, Any] = {
        keys.SERVICE: service, keys.JS: js, keys.POOL: pool, keys.KEYS: standing, keys.SALES: sales,
        keys.ACCEPTOR: accepting.acceptor,
        keys.STOCK: Stock(js, pool, sales, clock=running.clocks.epoch, new_id=running.new_id),
        keys.LOOKUP: Lookup(pool, accepting.line, accepting.follower, accepting.wait.seconds),
        EXPRESS: ExpressLane(standing, sales, accepting.acceptor, service),  # type: ignore[arg-type]
    }  # fmt: skip
    await accepting.begin(service)
    running.app = app
    await service.stopping.wait()
    running.app = None
    await asyncio.sleep(_LAST_ANSWERS_SECONDS)
    await accepting.board.stop()


def worker(pool: str) -> Program:
    async def program(running: Running) -> None:
        if running.service is None:
            raise RuntimeError("a process that does not run")
        js, database = await running.connect(), await running.database(2)
        await work_with(
            _WORKER[pool], running.service, js, database, clocks=running.clocks, worker=running.name
        )

    return program


async def relay(running: Running) -> None:
    if running.service is None:
        raise RuntimeError("a process that does not run")
    js, database = await running.connect(), await running.database(4)
    await relay_with(_RELAY, running.service, js, database, running.clocks.epoch)


class HostScaler:
    """The controller's workers on one machine: hosts that are started and stopped."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    async def current(self) -> Workers:
        there = [one for one in self._hosts if one.running is not None]
        running = sum(one.wanted for one in there)
        return Workers(running=running, starting=0, draining=len(there) - running)

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        running = [one for one in self._hosts if one.running is not None and one.wanted]
        for host in running[replicas:]:
            host.wanted = False
            host.stop()
        idle = [one for one in self._hosts if one.running is None]
        for host in idle[: max(0, replicas - len(running))]:
            host.start()


def operator(hosts: Sequence[Host]) -> Program:
    """Of the pool `orders`."""

    async def program(running: Running) -> None:
        if running.service is None:
            raise RuntimeError("a process that does not run")
        js = await running.connect()
        one = PoolOperator(
            topology.ORDERS_POOL, _OPERATOR, js, HostScaler(hosts), SharedRates(), clocks=running.clocks
        )
        with contextlib.suppress(asyncio.CancelledError):
            await one.run(running.service.stopping)

    return program
