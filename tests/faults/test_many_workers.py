"""Twenty worker processes under one R, while some are killed, some stand still and others come and go.

PEAKCLIP_FAULTS_MANY_SECONDS=S   how long the measurement takes (60)
PEAKCLIP_E2E_BARS=1              the machine is quiet: a mean that misses R by more than 1 % fails
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from e2e.record import bar, measured
from faults.buyers import Buyers
from faults.judge import answers_hold, count_in, holds, most_in_a_second
from faults.system import System, environ, running
from support import until

from peakclip import roles, topology
from peakclip.errors import OutcomeUnknownError
from peakclip.limiter.grid import bound, default_burst
from peakclip.limiter.pace import FENCE_SECONDS, set_pace
from peakclip.load.access import create_sale
from peakclip.local.process import Child, ProcessSpec

SECONDS = float(os.environ.get("PEAKCLIP_FAULTS_MANY_SECONDS", "60"))
RATE = 500.0
WORKERS = 20
GUESTS = 3  # come and go beside those that the operator looks after
BACKLOG = round(RATE * SECONDS * 1.15)  # what a worker that stands still has in hand is away for 10 s

pytestmark = [pytest.mark.faults, pytest.mark.timeout(360 + 4 * SECONDS)]


async def test_twenty_workers_start_r_whatever_happens_to_them(data: Path, chance: random.Random) -> None:
    options = {"rate": RATE, "min_workers": WORKERS, "max_workers": WORKERS}
    async with running(data, **options) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=1_000_000)
        await set_pace(system.js, "orders", paused=True)
        await buyers.wave(sale, BACKLOG, again=0.0, deadline=240.0)
        await until(lambda: len(system.pids("worker")) == WORKERS, 60)
        await set_pace(system.js, "orders", paused=False)
        await asyncio.sleep(FENCE_SECONDS + 1.0)
        async with guests() as come_and_go:
            begin = await _server_time(system)
            end = begin + SECONDS
            busy = psutil.cpu_percent(), psutil.getloadavg()[0]
            done = await disturb(system, come_and_go, chance)
            busy = psutil.cpu_percent(), psutil.getloadavg()[0]
        result = await system.audit(buyers.accepted, RATE)
        starts = await system.started()
        exported = await _exported(system)
        most = most_in_a_second(starts)
        mean = count_in(starts, begin, end) / (end - begin)
        measured(
            "many_workers",
            {
                "rate": RATE, "seconds": SECONDS, "mean": round(mean, 2),
                "off_percent": round(100 * (mean / RATE - 1), 3), "most_in_a_second": most,
                "most_exported": exported, "allowed": bound(RATE, default_burst(RATE)), **done,
                "orders": len(starts), "cpu_percent": busy[0], "load": busy[1],
            },
        )  # fmt: skip
        assert starts[-1] > end, "work was waiting to the end of the measurement"
        assert most <= bound(RATE, default_burst(RATE))
        assert 0 < exported <= bound(RATE, default_burst(RATE))
        assert mean <= 1.01 * RATE
        assert min(done[kind] for kind in ("killed", "stopped", "added", "ended")) > 0
        holds(result)
        await answers_hold(system, buyers)
        bar(f"{mean:.1f} starts a second, within 1 % of {RATE:g}", mean >= 0.99 * RATE)


@contextlib.asynccontextmanager
async def guests() -> AsyncIterator[list[Child]]:
    """Workers that the test starts itself; the rest of them is ended with it."""
    running_now: list[Child] = []
    try:
        yield running_now
    finally:
        await asyncio.gather(*(child.stop() for child in running_now))


def _guest(system: System, number: int) -> Child:
    env = environ(
        PEAKCLIP_NATS_URL=system.stack._nats_urls[roles.WORKER],
        PEAKCLIP_DATABASE_URL=system.credentials["database_url"],
        PEAKCLIP_MANAGEMENT_PORT="0",
    )
    argv = [sys.executable, "-P", "-m", "peakclip", "worker", "--pool", "orders"]
    log = system.stack.directory / "logs" / f"guest-{number}.log"
    return Child(ProcessSpec(f"guest-{number}", argv, env, log))


async def disturb(system: System, come_and_go: list[Child], chance: random.Random) -> Counter[str]:
    """Something every second or two. The operator replaces whom it has lost."""
    done: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    over = loop.time() + SECONDS
    still: list[asyncio.Task[None]] = []
    kinds: list[str] = []
    while (left := over - loop.time()) > 0:
        await asyncio.sleep(min(left, chance.uniform(0.5, 2.0)))
        kinds = kinds or chance.sample(["kill", "stop", "stop", "stop", "guest"], 5)
        kind = kinds.pop()
        if kind == "guest":
            if len(come_and_go) >= GUESTS and (works := [one for one in come_and_go if _works(one)]):
                come_and_go.remove(works[0])
                still.append(asyncio.create_task(_end(works[0])))
                done["ended"] += 1
            done["added"] += 1
            come_and_go.append(_guest(system, done["added"]))
        elif pids := system.pids("worker"):
            pid = chance.choice(sorted(pids))
            if kind == "kill":
                system.send(pid, signal.SIGKILL)
                done["killed"] += 1
            else:
                seconds = chance.choice([0.03, 0.2, 0.9, 2.5, 12.0])
                still.append(asyncio.create_task(_stand_still(system, pid, seconds)))
                done["stopped"] += 1
    await asyncio.gather(*still)
    return done


def _works(child: Child) -> bool:
    """It has begun: who is asked to end before that has nothing to drain."""
    return '"event": "limiter_open"' in child.spec.log.read_text()


async def _end(child: Child) -> None:
    assert await child.stop() == 0, "it drains and ends"


async def _stand_still(system: System, pid: int, seconds: float) -> None:
    system.send(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        system.send(pid, signal.SIGCONT)


async def _server_time(system: System) -> float:
    """Asked again where the machine is too busy to answer in time."""
    for _ in range(20):
        with contextlib.suppress(OutcomeUnknownError):
            return (await system.js.stream_state(topology.TICKETS)).server_time
    raise AssertionError("NATS does not answer")


async def _exported(system: System) -> int:
    """As Prometheus reads it."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{system.credentials['management_url']}/metrics") as answer,
    ):
        text = await answer.text()
    found = re.findall(
        r'^peakclip_starts_max_sliding_second\{[^}]*pool="orders"[^}]*\} (\S+)$', text, re.MULTILINE
    )
    assert found, "no figure is exported"
    return max(int(float(value)) for value in found)
