"""As many workers as the measured rate of one of them calls for, and no more; real processes."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, count_in, holds
from faults.system import System, running
from support import until

from peakclip.limiter.pace import set_pace
from peakclip.load.access import create_sale
from peakclip.messages import PoolStatus

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

RATE = 100.0
WORK_MS = 40
SANITY = range(4, 13)  # a worker alone does at most 25/s; a machine so busy that it does 10/s proves nothing
UTILIZATION = 0.7


def band(statuses: Sequence[PoolStatus], rate: float) -> tuple[int, int]:
    """From R / mu, which R needs, to R / (mu * utilization), which R can keep busy; mu as it was measured."""
    measured = [one.per_worker_per_second for one in statuses if one.per_worker_per_second]
    return math.ceil(rate / max(measured)), math.ceil(rate / (min(measured) * UTILIZATION))


async def test_workers_follow_the_need(data: Path, chance: random.Random) -> None:
    settings = {"PEAKCLIP_STABILIZATION_SECONDS": "6"}
    async with running(data, settings, rate=RATE, max_workers=20, work_ms=WORK_MS) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=100_000)
        await until(lambda: len(system.pids("worker")) == 1, 20)
        system.statuses.clear()
        await buyers.wave(sale, 1_500)
        await drains_at_full_rate(system)
        await gives_back_for_half_the_rate(system)
        result = await system.audit(buyers.accepted, RATE)
        await until(lambda: system.statuses[-1].workers_current == 1, 20)
        await until(lambda: len(system.pids("worker")) == 1, 10)
        holds(result)
        await answers_hold(system, buyers)


async def drains_at_full_rate(system: System) -> None:
    """Within seconds of the burst the number is there, and it stays while the backlog lasts."""
    await until(lambda: system.statuses[-1:] and (system.statuses[-1].lag_ready or 0) > 500, 10)
    burst_at = system.statuses[-1].at
    await until(lambda: _held(system, RATE), 15)
    held_at = system.statuses[-1].at
    await until(lambda: system.statuses[-1].at > held_at + 4, 10)
    held = [one for one in system.statuses if one.at >= held_at]
    numbers = {one.workers_current for one in held}
    low, high = band(held, RATE)
    print(f"{sorted(numbers)} workers {held_at - burst_at:.1f} s after the burst, expected {low} to {high}")
    assert held_at - burst_at < 8
    assert all(low <= number <= high for number in numbers)
    assert all(number in SANITY for number in numbers)
    assert len(system.pids("worker")) in range(low, high + 1), "processes, not only words"
    starts = await system.started()
    rate = count_in(starts, starts[-1] - 3, starts[-1]) / 3
    print(f"{rate:.1f} orders per second")
    assert rate >= 0.75 * RATE, (
        "far more than fewer workers could do; how near it comes depends on the machine"
    )


async def gives_back_for_half_the_rate(system: System) -> None:
    """With R halved in mid-drain the number falls and at no moment rises."""
    before = system.statuses[-1].workers_desired
    await set_pace(system.js, "orders", limit_per_second=RATE / 2)
    await until(lambda: system.statuses[-1].limit_per_second == RATE / 2, 5)
    begin = len(system.statuses) - 1
    await until(lambda: _held(system, RATE / 2) and system.statuses[-1].workers_desired < before, 20)
    assert (system.statuses[-1].lag_ready or 0) > 100, "while there is still a backlog"
    desired = [before, *(one.workers_desired for one in system.statuses[begin:])]
    low, high = band(system.statuses[begin:], RATE / 2)
    print(f"half the rate: {desired} workers, expected {low} to {high}")
    assert all(later <= earlier for earlier, later in itertools.pairwise(desired))
    assert low <= desired[-1] <= high


def _held(system: System, rate: float) -> bool:
    """The last word names a number of running workers that is wanted and in the band of its own measurement."""
    last = system.statuses[-1]
    if last.per_worker_per_second is None or last.workers_current != last.workers_desired:
        return False
    low, high = band([last], rate)
    return low <= last.workers_current <= high
