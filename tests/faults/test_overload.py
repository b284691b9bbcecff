"""Far more is asked for than can be done: every request is told so, nobody hangs, and who asks for little is served.

What an API can take is made small by a slow link to NATS; then NATS is away altogether. So ten times as much is what
one process can send. The limits that are asserted are those of docs/limits.md.

PEAKCLIP_OVERLOAD_RATE=N    orders per second of the flood (2,500)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path
from typing import Final

import psutil
import pytest
from faults.buyers import Buyers
from faults.flood import Flooded, Options, flood
from faults.history.record import Kind
from faults.judge import findings, holds
from faults.nemesis.nemesis import surroundings
from faults.system import System, running
from faults.watched import MIB, watched
from support import until

from peakclip import topology
from peakclip.credentials import store_key
from peakclip.limiter.pace import set_pace
from peakclip.load.access import create_sale
from peakclip.local.stack import TENANT
from peakclip.messages import order_id

FLOOD: Final = float(os.environ.get("PEAKCLIP_OVERLOAD_RATE", "2500"))
RATE, SLOW_RATE = 2_000.0, 20.0  # orders per second that the database gets
HONEST_RATE: Final = 8.0
CONNECTIONS: Final = 1_000
SLOW_SECONDS, AWAY_SECONDS = 4.0, 4.0
LINK_DELAY: Final = 0.15  # seconds for each piece that passes: a group of orders takes four of them and more
PLACES: Final = 256
SETTINGS: Final = {"PEAKCLIP_LONGEST_WAIT_SECONDS": "2", "PEAKCLIP_MAX_IN_FLIGHT_ORDERS": str(PLACES)}
SPARE_BYTES: Final = 20 * MIB  # what Python has not given back
ANSWER_SECONDS: Final = 20.0  # docs/limits.md

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


async def test_ten_times_too_much_is_refused_in_time_and_harms_nobody(
    data: Path, chance: random.Random
) -> None:
    async with (
        surroundings(data.parent) as around,
        running(
            data, SETTINGS, adapt=around.adapt, rate=RATE, min_workers=2,
            api_processes=1,
        ) as system,
        contextlib.AsyncExitStack() as pressed,
    ):  # fmt: skip
        url, admin = system.credentials["url"], system.credentials["admin"]
        sale = await create_sale(url, admin, stock=1_000_000)
        await store_key(system.database, "pk_honest", TENANT, "honest", "service")
        honest = Buyers(url, "pk_honest", chance)
        await honest.wave(sale, 500, again=0.0)
        (pid,) = system.pids("api")
        memory = await pressed.enter_async_context(watched(pid))
        files = psutil.Process(pid).num_fds()

        def options(run: str, seconds: float) -> Options:
            key = system.credentials["service"]
            return Options(url, sale, key, f"{run}{chance.randrange(16**6):06x}", FLOOD, seconds, CONNECTIONS)

        link = around.links["api-nats"]
        link.delay = LINK_DELAY
        slow = options("slow", SLOW_SECONDS + AWAY_SECONDS)
        pressing = asyncio.create_task(flood(slow))
        served = asyncio.create_task(
            honest.wave(
                sale, round(HONEST_RATE * SLOW_SECONDS), rate=HONEST_RATE, again=0.0, patience=ANSWER_SECONDS
            )
        )
        await served
        refused = honest.causes["too-busy"]
        link.blackhole()
        await asyncio.sleep(AWAY_SECONDS)
        link.heal()
        found = await pressing
        note(system, honest, slow, found)
        await told_in_time(found)
        assert found.sent >= 10 * len(found.accepted), "no flood"
        assert refused <= 0.1 * HONEST_RATE * SLOW_SECONDS, honest.causes

        await system.until_ready()
        honest.causes.clear()
        await honest.wave(sale, 100, connections=32, again=0.0, patience=ANSWER_SECONDS)
        assert not honest.causes, "it is as before"

        # Now storing is quick and the line is slow: it is as long as it may be at once.
        await set_pace(system.js, topology.ORDERS_POOL, limit_per_second=SLOW_RATE)
        await until(lambda: system.statuses[-1].effective_per_second == SLOW_RATE, 20)
        fast = options("fast", 2.0)
        found = await flood(fast)
        note(system, honest, fast, found)
        await told_in_time(found)
        assert found.problems.get("429 line-too-long")
        await set_pace(system.js, topology.ORDERS_POOL, limit_per_second=RATE)

        print(f"  memory: {memory.first / MIB:.0f} MiB, and {memory.grown / MIB:.1f} MiB more at most")
        assert (
            memory.grown <= 25_000 * CONNECTIONS + 2_000 * PLACES + 500 * len(honest.accepted) + SPARE_BYTES
        )
        holds(await system.audit(honest.accepted, RATE))
        assert not await findings(system, honest.history, RATE)
        print(f"  files: {files} before, {psutil.Process(pid).num_fds()} after")
        assert psutil.Process(pid).num_fds() < files + 50


async def told_in_time(found: Flooded) -> None:
    """Every answer is a 202, 429 or 503, says when to come again and why, and comes in time."""
    print(
        f"  sent {found.sent} in {found.seconds:.1f} s ({found.held_back} held back): {len(found.accepted)} accepted,"
        f" { ({kind: len(some) for kind, some in found.problems.items()}) }, {len(found.lost)} lost,"
        f" slowest {found.slowest:.2f} s\n  accepted {found.accepted_series}\n  refused {found.refused_series}"
    )
    assert {kind.partition(" ")[0] for kind in found.problems} <= {"429", "503"}
    assert not found.bare
    assert not found.hanging
    assert not found.lost
    assert found.slowest <= ANSWER_SECONDS


def note(system: System, buyers: Buyers, options: Options, found: Flooded) -> None:
    """What the flood was told is part of the history that is judged."""
    told = {number: kind for kind, some in found.problems.items() for number in some}
    for number in [*found.accepted, *told, *found.lost, *found.hanging]:
        named = order_id(TENANT, f"k-{options.run}-{number}")
        attempt = buyers.history.invoke(Kind.PURCHASE, order_id=named, sale=options.sale)
        if number in found.accepted:
            buyers.history.answered(attempt, 202, {"order_id": found.accepted[number]})
            buyers.accepted[found.accepted[number]] = 1
        elif told.get(number) == "503 too-busy":
            buyers.history.refused(attempt, "too-busy")
        else:
            buyers.history.unknown(attempt, told.get(number, "no answer"))
