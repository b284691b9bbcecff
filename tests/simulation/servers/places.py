"""The same scenario on the model, in virtual time, and on a real nats-server, in real time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import pytest
from simulation.servers.client import connect
from simulation.servers.network import Network
from simulation.servers.scenes import until

from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip_operator.simulation.events.kernel import Kernel, Process

_LONGEST_SECONDS: Final = 120.0  # of a scenario, on virtual time


class Place(Protocol):
    js: JetStream

    async def restart(self) -> None:
        """Of the server, in order. Returns when `js` is connected again."""

    async def crash(self) -> None:
        """The same by SIGKILL."""


Scenario = Callable[[Any], Awaitable[None]]


def on_both(scenario: Scenario) -> Callable[..., None]:
    """A test of an asynchronous function that is given a `Place`: `[model]` and `[server]`."""

    def test(where: str, request: pytest.FixtureRequest) -> None:
        if where == "model":
            on_model(scenario)
        else:
            on_server(scenario, request.getfixturevalue("nats_server"))

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    places = ["model", pytest.param("server", marks=pytest.mark.integration)]
    return pytest.mark.parametrize("where", places)(test)


class Model:
    def __init__(self, kernel: Kernel, seed: int) -> None:
        self.network = Network(kernel, random.Random(seed))
        self.process = Process(kernel, "test")
        self.js = connect(self.network, self.process, "test")

    async def restart(self) -> None:
        self.network.stop()
        await self._started()

    async def crash(self) -> None:
        self.network.crash()
        await self._started()

    async def _started(self) -> None:
        await asyncio.sleep(0.2)
        self.network.start()
        await until(lambda: self.js.connected)


def on_model(scenario: Scenario, seed: int = 0) -> None:
    kernel = Kernel()
    place = Model(kernel, seed)
    ended: list[BaseException | None] = []

    async def run() -> None:
        try:
            await scenario(place)
        except BaseException as exc:  # noqa: BLE001 - it is the test's
            ended.append(exc)
        else:
            ended.append(None)

    kernel.at(0.0, place.process, place.process.create_task, run())
    while not ended and kernel.now < _LONGEST_SECONDS:
        kernel.run(kernel.now + 1.0)
    in_time = bool(ended)
    place.process.bury()
    if not in_time:
        raise AssertionError(f"this did not end in {_LONGEST_SECONDS} s of virtual time")
    if ended[0] is not None:
        raise ended[0]
    assert not kernel.failures, kernel.failures


class _Server:
    def __init__(self, server: NatsServer, js: JetStream) -> None:
        self._server = server
        self.js = js

    async def restart(self) -> None:
        await self._server.stop()
        await self._started()

    async def crash(self) -> None:
        await self._server.kill()
        await self._started()

    async def _started(self) -> None:
        generation = self.js.generation
        await self._server.start()
        await until(lambda: self.js.connected and self.js.generation > generation, 15)


def on_server(scenario: Scenario, server: NatsServer) -> None:
    asyncio.run(_on_server(scenario, server))


async def _on_server(scenario: Scenario, server: NatsServer) -> None:
    await server.start()  # a test may have killed it
    async with await JetStream.connect(server.url, name="test") as js:
        for name in (await js._api("STREAM.NAMES")).get("streams") or []:
            await js._api(f"STREAM.DELETE.{name}")
        await scenario(_Server(server, js))
