"""What a thousand connections that hurry nowhere cost the others: the same steady load, with and without them in turn.

The load client and the slow ones are processes of their own and share the machine with what is measured, so the load
is the same in both, far below what could be accepted, and the latencies of one round are compared with each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from benchmarks import machine
from benchmarks.designs import BY_NAME
from benchmarks.environment import ROOT, environment, make_sale
from benchmarks.errors import BenchmarkError
from benchmarks.load import Target, run
from benchmarks.options import Options
from benchmarks.served import SALE, served
from benchmarks.slow import KINDS
from benchmarks.stats import ratio

_STATES: Final = ("without", "with")
_SETTLE_SECONDS: Final = 2.0
_GONE_SECONDS: Final = 20.0
_OTHER_FILES: Final = 40  # connections to the servers come and go, too


async def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """The result as it is kept."""
    async with environment(lazy=False) as env:
        about = await machine.describe(env.database, env.folder.path)
        await make_sale(env, SALE)
        async with served(env, [BY_NAME["peakclip"]], options.processes, 1) as targets:
            rounds = await _rounds(targets["peakclip"], options, say)
    return {**about, "rounds": rounds, **summary(rounds)}


async def _rounds(target: Target, options: Options, say: Callable[[str], None]) -> list[dict[str, Any]]:
    await run(target, options.first_orders, connections=options.slow_clients)
    files = _files(target)
    found = []
    for number in range(1, options.slow_rounds + 1):
        for state in _STATES if number % 2 else tuple(reversed(_STATES)):
            many = options.slow_connections if state == "with" else 0
            async with slow(target, {kind: many // len(KINDS) for kind in KINDS}) as became:
                await asyncio.sleep(_SETTLE_SECONDS)
                held = _files(target) - files
                one = await run(
                    target, int(options.slow_rate * options.slow_seconds), connections=options.slow_clients,
                    rate=options.slow_rate,
                )  # fmt: skip
            await _until_gone(target, files)
            ended = sum(len(kind["ended"]) for kind in became.values())
            found.append({"round": number, "state": state, "held": held, "ended": ended, **one.to_json()})
            say(
                f"round {number}  {state:8} p50 {one.p50_ms:6.1f} ms  p99 {one.p99_ms:6.1f} ms  {held:5,} held,"
                f" {ended:,} ended"
            )
    return found


@contextlib.asynccontextmanager
async def slow(target: Target, counts: Mapping[str, int]) -> AsyncIterator[dict[str, Any]]:
    """So many slow connections of each kind are there inside. What became of them is told afterwards."""
    address = urlsplit(target.url)
    options: Mapping[str, Any] = {
        "place": [address.hostname, address.port], "counts": dict(counts),
        "sale": target.sale, "key": target.key,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "benchmarks.slow", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found: dict[str, Any] = {}
    if process.stdin is None or process.stdout is None:
        raise BenchmarkError("The slow clients cannot be spoken to.")
    try:
        process.stdin.write(json.dumps(options).encode() + b"\n")
        if await process.stdout.readline() != b"ready\n":
            raise BenchmarkError("The slow clients did not start.")
        yield found
        process.stdin.close()
        answer = await process.stdout.read()
        await process.wait()
        found.update(json.loads(answer))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _files(target: Target) -> int:
    """Open files of the API processes."""
    return sum(psutil.Process(pid).num_fds() for pid in target.pids["api"])


async def _until_gone(target: Target, files: int) -> None:
    try:
        async with asyncio.timeout(_GONE_SECONDS):
            while _files(target) > files + _OTHER_FILES:  # noqa: ASYNC110 - the processes are looked at from outside
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise BenchmarkError("Connections of the last round are still open.") from None


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ratios within each round: of latencies, and of the CPU time of the API for an order. Pure."""
    return {
        "p50_ratio": _ratio(rounds, lambda one: one["p50_ms"]),
        "p99_ratio": _ratio(rounds, lambda one: one["p99_ms"]),
        "cpu_ratio": _ratio(rounds, lambda one: one["cpu_us_per_order"]["api"]),
    }


def _ratio(rounds: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], float]) -> dict[str, Any]:
    table: dict[int, dict[str, float]] = {}
    for one in rounds:
        table.setdefault(one["round"], {})[one["state"]] = of(one)
    return ratio(list(table.values()), "with", "without").to_json()
