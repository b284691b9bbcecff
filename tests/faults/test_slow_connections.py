"""A thousand clients who hold connections and hurry nowhere: they are ended in time, and nobody else notices.

How little the others notice is a benchmark (`make bench ARGS=slow`). Here it is that all of them are served.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import pytest
from benchmarks.load import Target
from benchmarks.slow_connections import slow
from faults.buyers import Buyers
from faults.judge import findings, holds
from faults.system import System, running
from faults.watched import MIB, watched
from support import until

from peakclip.load.access import create_sale

RECEIVE_SECONDS, SEND_SECONDS = 2, 2
SETTINGS: Final = {
    "PEAKCLIP_RECEIVE_SECONDS": str(RECEIVE_SECONDS),
    "PEAKCLIP_SEND_SECONDS": str(SEND_SECONDS),
}
COUNTS: Final = {"head": 300, "body": 300, "read": 200, "stream": 200}
LATE_SECONDS: Final = 15.0  # however busy the machine is
# docs/limits.md: a connection, with head and body, or with answers that it does not read.
MOST_BYTES: Final = 800 * (15 + 16 + 32) * 1_000 + 200 * (15 + 64 + 100) * 1_000
HONEST, HONEST_RATE = 240, 60.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


async def test_slow_connections_are_ended_in_time_and_cost_others_nothing(
    data: Path, chance: random.Random
) -> None:
    async with running(data, SETTINGS, rate=1_000, api_processes=1) as system:
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=10_000)
        honest = Buyers(system.credentials["url"], system.credentials["service"], chance)
        await honest.wave(sale, 200, again=0.0)
        (pid,) = system.pids("api")
        target = Target(system.credentials["url"], sale, system.credentials["service"], {"api": [pid]})
        process = psutil.Process(pid)
        files = process.num_fds()
        async with watched(pid) as memory:
            async with slow(target, COUNTS) as first:
                await until(lambda: process.num_fds() >= files + 0.7 * sum(COUNTS.values()), 20)
                await honest.wave(sale, HONEST, rate=HONEST_RATE, again=0.0, patience=20.0)
                await until(lambda: all_ended(system), 30)
            assert not honest.causes, "every one was served at once"
            grown = memory.grown
            print(f"  {memory.first / MIB:.0f} MiB, {grown / MIB:.1f} more at most; {files} files")
            print(f"  {told(first)}")
            assert grown <= MOST_BYTES
            await until(lambda: process.num_fds() <= files + 5, 20)
            for kind, least in (("head", RECEIVE_SECONDS), ("body", RECEIVE_SECONDS), ("read", SEND_SECONDS)):
                assert first[kind]["ended"], "the others learn it in their next turn"
                assert min(first[kind]["ended"]) >= least - 0.1
                assert max(first[kind]["ended"]) <= least + LATE_SECONDS
            assert first["head"]["statuses"].keys() == first["body"]["statuses"].keys() == {"408"}
            assert not first["stream"]["ended"]
            assert process.memory_info().rss - memory.first <= MOST_BYTES
            before = await ended(system)
            async with slow(target, COUNTS) as second:
                await until(lambda: all_ended(system, before), 30)
            print(f"  the second time {memory.grown / MIB:.1f} MiB more at most; {told(second)}")
            assert memory.grown <= grown + 0.2 * MOST_BYTES, "what it took was given back"
            await until(lambda: process.num_fds() <= files + 5, 20)
        holds(await system.audit(honest.accepted, 1_000))
        assert not await findings(system, honest.history, 1_000)


async def ended(system: System) -> tuple[float, float]:
    """How many the API has ended by its own count: slow requests, slow readers."""
    (url,) = (one.management_url for one in system.stack.processes() if one.name == "api-1")
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        text = await response.text()
    found = dict(
        re.findall(r'^peakclip_http_connections_ended_total{reason="(\w+)"} (\S+)$', text, re.MULTILINE)
    )
    return float(found.get("slow_request", 0)), float(found.get("slow_reader", 0))


async def all_ended(system: System, before: tuple[float, float] = (0.0, 0.0)) -> bool:
    """Whether as many as there are were ended since."""
    requests, readers = await ended(system)
    slow_requests = COUNTS["head"] + COUNTS["body"]
    return requests >= before[0] + slow_requests and readers >= before[1] + COUNTS["read"]


def told(found: dict[str, Any]) -> dict[str, str]:
    return {
        kind: f"{one['opened']} opened, {len(one['ended'])} ended after"
        f" {min(one['ended'], default=0)} to {max(one['ended'], default=0)} s, {one['statuses']}"
        for kind, one in found.items()
    }
