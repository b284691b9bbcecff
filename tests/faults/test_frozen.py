"""An API process that stands still between reserving units and storing the orders, and wakes up too late."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from pathlib import Path

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, buy_the_rest, holds
from faults.system import System, running
from support import until

from peakclip import topology
from peakclip.audit.fetch import read_stream
from peakclip.jetstream import StoredMessage
from peakclip.load.access import create_sale

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

RATE = 1_000.0
STOCK = 5_000
FROZEN_SECONDS = 20.0  # longer than the reconciler's patience
SHORT_FREEZES = 10
SHORT_SECONDS = 1.8  # longer than a patience of 1 s, shorter than the 2 s that a process waits for its units
_YOUNG_SECONDS = 0.4  # the other process may still be storing the frame of a younger reservation


async def test_a_process_that_wakes_up_late_sells_nothing_twice(data: Path, chance: random.Random) -> None:
    async with running(data, rate=RATE, min_workers=2, max_workers=3) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=STOCK)
        over = asyncio.Event()

        async def bursts() -> None:
            while not over.is_set():
                await buyers.wave(sale, 60, connections=30)
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            group.create_task(bursts())
            await asyncio.sleep(1.0)
            pid, frames = await freeze_between(system, chance)
            frozen_at = time.monotonic()
            print(f"frozen with {len(frames)} reservations that have no frame")
            try:
                # As long as it takes, on a busy machine; but no fence at all must show in the audit, too.
                with contextlib.suppress(AssertionError):
                    await until(lambda: _fenced(system, frames), 2 * FROZEN_SECONDS, pause=0.5)
                await asyncio.sleep(max(0.0, frozen_at + FROZEN_SECONDS - time.monotonic()))
            finally:
                system.send(pid, signal.SIGCONT)
            await asyncio.sleep(3.0)  # it goes on in the middle of the burst
            over.set()
        await system.until_ready()
        await buy_the_rest(system, buyers, sale)
        result = await system.audit(buyers.accepted, RATE)
        holds(result)
        await answers_hold(system, buyers)
        assert await system.available(sale) == 0
        assert await _fenced(system, frames), "no frame has taken the place of the fence"


async def test_a_process_that_wakes_up_in_its_own_time_but_after_the_fence(
    data: Path, chance: random.Random
) -> None:
    """With so little patience the units are returned while the process would still store their orders.

    After a long sleep it finds that its own question for units has timed out, and stores nothing; only after a short
    one does it go on, and nothing but the fence is in its way.
    """
    settings = {"PEAKCLIP_RECONCILE_AFTER_SECONDS": "1"}
    async with running(data, settings, rate=RATE, min_workers=1, max_workers=2) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=100_000)
        over = asyncio.Event()

        async def bursts() -> None:
            while not over.is_set():
                await buyers.wave(sale, 60, connections=30)

        async with asyncio.TaskGroup() as group:
            group.create_task(bursts())
            for _ in range(SHORT_FREEZES):
                await asyncio.sleep(chance.uniform(0.2, 0.6))
                pids = system.pids("api")
                for pid in pids:
                    system.send(pid, signal.SIGSTOP)
                await asyncio.sleep(SHORT_SECONDS)
                for pid in pids:
                    system.send(pid, signal.SIGCONT)
            over.set()
        await system.until_ready()
        result = await system.audit(buyers.accepted, RATE)
        fences = sum((await _frames(system)).values())
        print(f"{fences} fences, {buyers.retries} retries: {dict(buyers.causes)}")
        holds(result)
        await answers_hold(system, buyers)
        assert fences, "somebody came too late"


async def freeze_between(system: System, chance: random.Random) -> tuple[int, set[str]]:
    """Stops an API process until it happens to stand where it should: with units taken and no frame stored."""
    for _ in range(60):
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        (pid, *_) = chance.sample(system.pids("api"), 1)
        system.send(pid, signal.SIGSTOP)
        await asyncio.sleep(2 * _YOUNG_SECONDS)
        if frames := await reserved_without_frame(system):
            return pid, frames
        system.send(pid, signal.SIGCONT)
    raise AssertionError("no process was ever caught between reservation and frame")


async def reserved_without_frame(system: System) -> set[str]:
    reserved: set[str] = set()
    now = (await system.js.stream_state(topology.STOCK)).server_time

    def note(message: StoredMessage) -> None:
        kind = message.headers.get("Nats-Msg-Id", "").partition("-")[0]
        if kind == topology.RESERVATION and message.at < now - _YOUNG_SECONDS:
            reserved.add(message.headers[topology.FRAME_HEADER])

    await read_stream(system.js, topology.STOCK, "stock.*", 1, note)
    return reserved - set(await _frames(system))


async def _frames(system: System) -> dict[str, bool]:
    """Frame id -> whether it is a fence."""
    found: dict[str, bool] = {}

    def note(message: StoredMessage) -> None:
        frame_id = message.subject.partition(".")[2]
        found[frame_id] = message.headers.get(topology.FRAME_ORDERS_HEADER) == "0"

    await read_stream(system.js, topology.INTAKE, "intake.>", 1, note)
    return found


async def _fenced(system: System, frames: set[str]) -> bool:
    found = await _frames(system)
    return all(found.get(frame) for frame in frames)
