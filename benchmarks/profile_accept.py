"""Where each microsecond of an accept goes: one API process alone on one core, everything else on the others.

Two kinds of runs in turn: one without stop watches says what an accept costs (CPU time of the process, by the
kernel's count); one with them says which stage it is spent in. What no stage accounts for is the event loop and the
sockets. On a core of its own, and first in line for it where the rights allow that, the process is hardly ever
preempted, so time on the loop is CPU time; `preempted_per_1000` orders says whether that held.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.environment import TENANT, Environment, environment, make_sale
from benchmarks.errors import BenchmarkError
from benchmarks.load import Run, Target, run
from benchmarks.options import Options
from benchmarks.stats import orders_for, significant
from peakclip import messages
from peakclip.local import ports
from peakclip.messages import Order, decode_frame, encode_frame
from peakclip_api.line import Line

LOOP: Final = "Event loop, sockets, kernel (no stop watch reaches there)"
_SALE: Final = "profile"
_MOST_ORDERS: Final = 60_000
_ANSWER_SECONDS: Final = 10.0
_FRAME: Final = 256
_FOREIGN_FRAMES: Final = 40


async def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """The result as it is kept."""
    async with environment(lazy=False) as env:
        about = await machine.describe(env.database, env.folder.path)
        await make_sale(env, _SALE)
        cores = sorted(os.sched_getaffinity(0))
        own, others = (cores[:1], cores[1:]) if len(cores) > 1 else (cores, cores)
        for name in ("nats", "postgres"):
            _pin([env.pid(name)], others)
        profile = _Profile(env, options, own, others)
        orders = await profile.size()
        rounds = []
        for number in range(1, options.profile_rounds + 1):
            bare = await profile.observe(orders, watched=False)
            watched = await profile.observe(orders, watched=True)
            rounds.append({"round": number, "bare": bare, "watched": watched})
            say(f"round {number}  {bare['cpu_us']:6.1f} us an order, {watched['cpu_us']:6.1f} us under watch")
    result = {**about, "orders": orders, "cores": {"api": own, "others": others}, "rounds": rounds}
    return {**result, "profile": profile_of(rounds), "foreign_order_us": foreign_order_us()}


class _Profile:
    def __init__(self, env: Environment, options: Options, own: list[int], others: list[int]) -> None:
        self._env = env
        self._options = options
        self._own = own
        self._others = others

    async def size(self) -> int:
        if self._options.fixed_orders is not None:
            return self._options.fixed_orders
        found = await self.observe(self._options.first_orders, watched=False)
        return orders_for(found["per_second"], self._options.seconds, least=20, most=_MOST_ORDERS)

    async def observe(self, orders: int, *, watched: bool) -> dict[str, Any]:
        """A fresh API process: warmed up, counters to zero, `orders` orders, counters read."""
        await asyncio.to_thread(os.sync)
        port = ports.free_port()
        path = self._env.folder.path / f"observed-{secrets.token_hex(4)}.json"
        spec = self._env.process(
            f"profiled-{path.stem}",
            "benchmarks.profiled_api",
            [str(path), *(["--watched"] if watched else [])],
            env={"PEAKCLIP_HOST": ports.LOOPBACK, "PEAKCLIP_PORT": str(port)},
        )
        async with self._env.running(spec) as pids:
            pid = pids[spec.name]
            _pin([pid], self._own)
            _prefer(pid)
            url = f"http://{ports.LOOPBACK}:{port}"
            roles = {"nats": [self._env.pid("nats")]}
            target = Target(url, _SALE, self._env.service_key, roles)
            await self._run(target, max(20, orders // 4))
            os.kill(pid, signal.SIGUSR1)
            done = await self._run(target, orders)
            os.kill(pid, signal.SIGUSR2)
            found = await asyncio.to_thread(_written, path)
        return per_order(found, done)

    async def _run(self, target: Target, orders: int) -> Run:
        return await run(target, orders, connections=self._options.connections, cores=self._others)


def _pin(pids: Iterable[int], cores: Sequence[int]) -> None:
    """Every thread of these processes to these cores; threads that come later inherit it."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def _prefer(pid: int) -> None:
    """No other process gets the core while this one wants it. Needs rights; without them the machine must be quiet."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def _written(path: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise BenchmarkError("The observed API process did not answer.")
        time.sleep(0.02)
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def per_order(found: Mapping[str, Any], done: Run) -> dict[str, Any]:
    """Seconds of the process to microseconds of an order. Pure."""

    def each(seconds: float) -> float:
        return round(seconds / done.orders * 1e6, 2)

    result: dict[str, Any] = {
        "orders": done.orders,
        "per_second": done.per_second,
        "p50_ms": done.p50_ms,
        "cpu_us": each(found["user_seconds"] + found["system_seconds"]),
        "system_us": each(found["system_seconds"]),
        "garbage_collection_us": each(found["garbage_collection_seconds"]),
        "preempted_per_1000": round(found["preempted"] / done.orders * 1e3, 1),
        "others_us": done.cpu_us_per_order,
    }
    if "stages" in found:
        result["stages_us"] = {name: each(seconds) for name, seconds in found["stages"].items()}
        result["watch_us"] = each(found["watch_seconds"])
        result["waits_ms"] = {name: round(value, 2) for name, value in found["waits_ms"].items()}
        result["orders_per_frame"] = round(done.orders / max(1, found["frames"]), 1)
    return result


def scaled_stages(bare: Mapping[str, Any], watched: Mapping[str, Any]) -> dict[str, float]:
    """Microseconds by stage that add up to the CPU time without stop watches.

    The watched process used `cpu_us`, its stop watches `watch_us` of it; what no stage accounts for is the loop.
    That makes shares, which are applied to the CPU time of the process that nobody watched. With 130 under watch,
    10 of them for the watches, 90 in stages and 100 without watches: the loop had 30 of 120, so it gets 25.
    """
    own = watched["cpu_us"] - watched["watch_us"]
    stages = {**watched["stages_us"], LOOP: own - sum(watched["stages_us"].values())}
    return {name: value * bare["cpu_us"] / own for name, value in stages.items()}


def profile_of(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds. Pure."""
    bare = [one["bare"] for one in rounds]
    watched = [one["watched"] for one in rounds]
    scaled = [scaled_stages(one["bare"], one["watched"]) for one in rounds]
    return {
        "api_cpu_us": statistics.median(one["cpu_us"] for one in bare),
        "stages_us": {name: round(statistics.median(one[name] for one in scaled), 2) for name in scaled[0]},
        "system_us": statistics.median(one["system_us"] for one in bare),
        "garbage_collection_us": statistics.median(one["garbage_collection_us"] for one in bare),
        "others_us": {
            name: statistics.median(one["others_us"][name] for one in bare) for name in bare[0]["others_us"]
        },
        "waits_ms": {
            name: statistics.median(one["waits_ms"][name] for one in watched)
            for name in watched[0]["waits_ms"]
        },
        "orders_per_frame": statistics.median(one["orders_per_frame"] for one in watched),
        "watch_us": statistics.median(one["watch_us"] for one in watched),
        "p50_ms": statistics.median(one["p50_ms"] for one in bare),
        "per_second": statistics.median(one["per_second"] for one in bare),
        "preempted_per_1000": statistics.median(one["preempted_per_1000"] for one in bare),
    }


def foreign_order_us() -> float:
    """CPU time for an order that another API process accepted: read from the log and put in line. A tight loop."""
    frames = [
        encode_frame(_order(frame * _FRAME + n) for n in range(_FRAME)) for frame in range(_FOREIGN_FRAMES)
    ]
    line = Line(keep=200_000)
    began = time.thread_time()
    for seq, body in enumerate(frames, start=1):
        line.add_frame(seq, decode_frame(body))
    return significant((time.thread_time() - began) / (_FRAME * len(frames)) * 1e6, 3)


def _order(number: int) -> Order:
    order_id = messages.order_id(TENANT, f"foreign-{number}")
    return Order(order_id, TENANT, f"c-{number}", _SALE, 1, "0" * 16, 1.8e9 + number)
