"""The rate, changed in mid-drain and after idleness, by the times at which orders started in the database."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, count_in, holds, most_in_a_second
from faults.system import System, environ, running
from support import until

from peakclip import topology
from peakclip.limiter.grid import bound, default_burst
from peakclip.load.access import create_sale

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

IDLE_SECONDS = float(os.environ.get("PEAKCLIP_FAULTS_IDLE", "10"))
EFFECT_SECONDS = 2.0
_WINDOW = 0.25


def allowed(rate: float) -> int:
    return bound(rate, default_burst(rate))


async def set_pace(system: System, rate: float) -> float:
    """By the command, as people do it. Returns the server's time at which it was written."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "peakclip", "pace", "set", topology.ORDERS_POOL, f"{rate:g}",
        env=environ(PEAKCLIP_NATS_URL=system.credentials["nats_url"]),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    stored = await system.js.last_message(
        f"KV_{topology.PACE}", f"$KV.{topology.PACE}.{topology.ORDERS_POOL}"
    )
    assert stored is not None
    return stored.at


def raised_after(starts: list[float], at: float, rate: float) -> float:
    """Seconds from `at` until a window is (nearly) full of starts at the new rate."""
    for start in starts:
        if start >= at and count_in(starts, start, start + _WINDOW) >= 0.8 * rate * _WINDOW:
            return start - at
    raise AssertionError(f"{rate:g}/s was never reached")


def lowered_after(starts: list[float], at: float, end: float, rate: float) -> float:
    """Seconds from `at` to the last start that belongs to a window with more than the new rate may have."""
    most = rate * _WINDOW + default_burst(rate)
    over = [s for s in starts if at <= s < end and count_in(starts, s - _WINDOW, s + 1e-6) > most]
    return max(over, default=at) - at


async def test_a_change_takes_effect_within_two_seconds(data: Path, chance: random.Random) -> None:
    async with running(data, rate=100, min_workers=2, max_workers=4) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=100_000)
        await buyers.wave(sale, 4_000)
        await until(lambda: _done(system, 300), 30)
        raised = await set_pace(system, 400)
        await until(lambda: _started_after(system, raised, 1_600), 30)
        lowered = await set_pace(system, 50)
        await until(lambda: _started_after(system, lowered + EFFECT_SECONDS, 150), 30)
        last = await set_pace(system, 1_000)
        result = await system.audit(buyers.accepted, 1_000)
        starts = await system.started()
        up, down = raised_after(starts, raised, 400), lowered_after(starts, lowered, last, 50)
        print(f"100 -> 400 after {up:.2f} s, 400 -> 50 after {down:.2f} s")
        assert up < EFFECT_SECONDS
        assert down < EFFECT_SECONDS
        phases = [(0.0, raised, 100), (raised, lowered, 400), (lowered, last, 400), (last, starts[-1], 1_000)]
        phases.append((lowered + EFFECT_SECONDS, last, 50))
        for begin, end, highest in phases:
            most = most_in_a_second(s for s in starts if begin <= s < end)
            print(f"at most {most} in a second, allowed {allowed(highest)}")
            assert most <= allowed(highest)
        holds(result)
        await answers_hold(system, buyers)


async def test_a_burst_after_idleness_gets_no_head_start(data: Path, chance: random.Random) -> None:
    async with running(data, rate=100, min_workers=3, max_workers=4) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=100_000)
        await buyers.wave(sale, 150)
        holds(await system.audit(buyers.accepted, 100))
        before = await system.started()
        await asyncio.sleep(IDLE_SECONDS)  # idleness itself, not a wait for something
        await buyers.wave(sale, 600)
        result = await system.audit(buyers.accepted, 100)
        starts = (await system.started())[len(before) :]
        first = count_in(starts, starts[0], starts[0] + 1)
        print(f"{first} starts in the first second, at most {most_in_a_second(starts)} in any")
        assert starts[0] - before[-1] >= IDLE_SECONDS
        assert first <= allowed(100)
        assert most_in_a_second(starts) <= allowed(100)
        assert count_in(starts, starts[0] + 1, starts[0] + 5) >= 0.75 * 400, "and the rate itself is reached"
        holds(result)
        await answers_hold(system, buyers)


async def _done(system: System, orders: int) -> bool:
    return await system.done() >= orders


async def _started_after(system: System, at: float, orders: int) -> bool:
    starts = await system.started()
    return count_in(starts, at, starts[-1] + 1) >= orders
