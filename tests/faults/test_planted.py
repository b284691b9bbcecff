"""The checker bites: one protection is taken out, and what it protected from is found; with all of them, nothing is.

Each damage is found within ROUNDS aimed faults. A healthy system stands all of these faults, one after another.

PEAKCLIP_PLANTED_ROUNDS=N   rounds of every fault that the healthy system must stand (1)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from faults.buyers import Buyers
from faults.clock import Clock
from faults.history.finding import Damage
from faults.history.record import History, Kind
from faults.judge import findings
from faults.launcher import READY_SECONDS, launched
from faults.points import (
    BURIED,
    COMMITTED,
    FOLDER,
    HELD_SECONDS,
    OVERDRAWN,
    POISON,
    PUBLISHED,
    RESERVED,
    TAKEN_APART,
    Points,
)
from faults.sabotage import SABOTAGES, no_judge
from faults.system import System, running
from support import until

from peakclip.audit.rest import effects_under_way, look, under_way
from peakclip.errors import PeakclipError
from peakclip.load.access import create_sale
from peakclip.local.process import ProcessSpec
from peakclip.local.stack import TENANT
from peakclip.store import DATABASE_AWAY
from peakclip_worker.reconciler import LOOK_SECONDS

ROUNDS: Final = 3
HEALTHY_ROUNDS: Final = int(os.environ.get("PEAKCLIP_PLANTED_ROUNDS", "1"))
RATE = 500.0
WAVE = 120  # orders
SCARCE = 20  # units of a sale whose admission says yes too often
TOO_MANY = 5

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(1200 + 200 * HEALTHY_ROUNDS)]


@dataclass
class Stage:
    """A running system, somebody who buys, and the points at which its processes can be held."""

    system: System
    points: Points
    clock: Clock  # of the relay
    buyers: Buyers
    sale: str
    history: History

    async def kill_at(self, point: str) -> None:
        """In the middle of a wave of orders."""
        self.points.arm(point)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.buyers.wave(self.sale, WAVE, connections=16))
            os.kill(await self.points.reached(point), signal.SIGKILL)

    async def hold_at(self, point: str) -> None:
        """It goes on afterwards, and may not know how late it is."""
        self.points.arm(point)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.buyers.wave(self.sale, WAVE, connections=16))
            await self.points.reached(point)
            await asyncio.sleep(HELD_SECONDS)

    async def set_clock(self) -> None:
        """The relay's goes forward, while an API process is about to return units and is not late at all."""
        scarce = await self.open_scarce(SCARCE)
        self.points.arm(OVERDRAWN, 4 * LOOK_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.buyers.wave(scarce, 3 * SCARCE, connections=16))
            await self.points.reached(OVERDRAWN)
            await asyncio.sleep(1.5 * LOOK_SECONDS)  # the relay has heard of the reservation
            self.clock.set(3_600.0)
            await asyncio.sleep(1.5 * LOOK_SECONDS)
            self.clock.set(0.0)

    async def open_scarce(self, stock: int) -> str:
        credentials = self.system.credentials
        return await create_sale(credentials["url"], credentials["admin"], stock=stock)

    async def kill_relay(self) -> None:
        await self.kill_at(TAKEN_APART)
        await self.kill_at(PUBLISHED)

    async def poison(self) -> None:
        """An order is accepted that no worker can read, and the first that tries dies of its last words."""
        self.points.arm(BURIED)
        await self.order(f"{POISON}-{len(self.history.entries)}")
        os.kill(await self.points.reached(BURIED), signal.SIGKILL)

    async def order(self, customer: str) -> None:
        url, key = self.system.credentials["url"], self.system.credentials["service"]
        headers = {
            "Authorization": f"Bearer {key}", "Peakclip-Customer": customer, "Idempotency-Key": customer,
        }  # fmt: skip
        attempt = self.history.invoke(Kind.PURCHASE, key=customer, customer=customer, sale=self.sale)
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{url}/v1/sales/{self.sale}/orders", json={}) as answer,
        ):
            assert answer.status == 202
            self.history.answered(attempt, answer.status, await answer.json())

    async def admit_too_many(self) -> None:
        """The admission is in front for speed only: whatever it says, the database sells what there is."""
        scarce = await self.open_scarce(SCARCE + TOO_MANY)
        await self.system.database.execute(
            "update sales set initial = initial - $2, available = available - $2 where sale_id = $1",
            scarce, TOO_MANY,
        )  # fmt: skip
        await self.buyers.wave(scarce, SCARCE + TOO_MANY + 10, connections=8)

    async def settled(self) -> None:
        await self.system.until_ready(READY_SECONDS)
        await until(self._at_rest, 300, pause=0.5)

    async def _at_rest(self) -> bool:
        """Whether counters match is for the checker to say."""
        try:
            moment = await look(self.system.database, self.system.js)
        except (PeakclipError, *DATABASE_AWAY):
            return False
        reasons = [one for one in under_way(moment) if not one.startswith("a counter differs")]
        return not reasons and not effects_under_way(moment)

    async def damages(self) -> set[Damage]:
        await self.settled()
        return {one.damage for one in await findings(self.system, self.history, RATE)}


Aim = Callable[[Stage], Awaitable[None]]

# What is aimed at whom, and what must be found.
CASES: Final[dict[str, tuple[Aim, Damage]]] = {
    "no-dedupe": (Stage.kill_relay, Damage.DUPLICATED),
    "no-outbox": (lambda stage: stage.kill_at(PUBLISHED), Damage.LOST),
    "no-fence": (lambda stage: stage.hold_at(RESERVED), Damage.OVERSOLD),
    "own-clock": (Stage.set_clock, Damage.OVERSOLD),
    "no-return": (lambda stage: stage.kill_at(RESERVED), Damage.UNDERSOLD),
    "ack-first": (lambda stage: stage.kill_at(COMMITTED), Damage.LOST),
    "no-letter": (Stage.poison, Damage.LOST),
    "no-judge": (Stage.admit_too_many, Damage.OVERSOLD),
}


@contextlib.asynccontextmanager
async def staged(data: Path, chance: random.Random, sabotage: str = "") -> AsyncIterator[Stage]:
    points = Points(data.parent / "points")
    clock = Clock(data.parent / "clock")
    planted = {FOLDER: str(points.folder)} | ({"FAULTS_SABOTAGE": sabotage} if sabotage in SABOTAGES else {})

    def adapt(spec: ProcessSpec) -> ProcessSpec:
        clocks = {"FAULTS_CLOCK": str(clock.path)} if spec.name == "relay" else {}
        return launched(spec, **planted, **clocks)

    async with running(
        data, {"PEAKCLIP_RECONCILE_AFTER_SECONDS": "6"}, adapt=adapt, rate=RATE, min_workers=1,
        max_workers=2,
    ) as system:  # fmt: skip
        url, admin = system.credentials["url"], system.credentials["admin"]
        history = History(TENANT)
        buyers = Buyers(url, system.credentials["service"], chance, history=history)
        stage = Stage(system, points, clock, buyers, await create_sale(url, admin, stock=100_000), history)
        await stage.settled()  # nothing of the sale's own beginning is caught at a point
        yield stage


@pytest.mark.parametrize("name", CASES)
async def test_what_is_taken_out_is_found(name: str, data: Path, chance: random.Random) -> None:
    aim, damage = CASES[name]
    async with staged(data, chance, name) as stage:
        if name not in SABOTAGES:
            await no_judge(stage.system.database)
        for number in range(1, ROUNDS + 1):
            await aim(stage)
            if damage in await stage.damages():
                print(f"{name}: {damage} found in round {number}")
                return
    raise AssertionError(f"{damage} was not found in {ROUNDS} rounds")


async def test_a_healthy_system_stands_all_of_it(data: Path, chance: random.Random) -> None:
    async with staged(data, chance) as stage:
        for _ in range(HEALTHY_ROUNDS):
            await stage.poison()
            await stage.admit_too_many()
            await stage.hold_at(RESERVED)
            await stage.set_clock()
            # Units that wait for the reconciler come last: of what dies with a relay it takes a minute to hear again.
            for point in (COMMITTED, TAKEN_APART, PUBLISHED, RESERVED):
                await stage.kill_at(point)
        assert await stage.damages() == set()
        letters = await stage.system.database.fetchval("select count(*) from dead_letters")
        assert letters == HEALTHY_ROUNDS
