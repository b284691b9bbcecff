"""One run of the load client against a design, with what it cost every process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.machine import cpu_seconds


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send orders, and whose CPU time to read."""

    url: str
    sale: str
    key: str
    pids: Mapping[str, list[int]]  # role -> processes


@dataclass(frozen=True, slots=True)
class Run:
    """What the customers saw, and CPU time per order."""

    orders: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    retries: int
    cpu_us_per_order: dict[str, float]  # by role; `client` is the load client itself

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


async def run(
    target: Target,
    orders: int,
    *,
    connections: int,
    rate: float | None = None,
    cores: list[int] | None = None,
) -> Run:
    """Closed loop; with `rate` (orders per second) open loop. Raises BenchmarkError unless all were accepted."""
    options = {
        "url": target.url, "sale": target.sale, "key": target.key, "orders": orders,
        "connections": connections, "rate": rate, "deadline": 120.0, "answer_timeout": 30.0, "cores": cores,
    }  # fmt: skip
    before = {role: cpu_seconds(pids) for role, pids in target.pids.items()}
    found = await _client(options)
    cpu = {role: cpu_seconds(pids) - before[role] for role, pids in target.pids.items()}
    if found["accepted"] != orders or found["errors"]:
        raise BenchmarkError(
            f"{found['accepted']:,} of {orders:,} orders were accepted: {found['refused']} {found['error_causes']}"
        )
    return Run(
        orders=orders,
        seconds=found["accept_seconds"],
        per_second=round(orders / found["accept_seconds"], 1),
        p50_ms=found["accept_p50_ms"],
        p99_ms=found["accept_p99_ms"],
        max_ms=found["accept_max_ms"],
        retries=found["retries"],
        cpu_us_per_order={
            **{role: round(seconds / orders * 1e6, 1) for role, seconds in cpu.items()},
            "client": found["client_cpu_us_per_order"],
        },
    )


async def _client(options: dict[str, Any]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "benchmarks.client",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    answer, _ = await process.communicate(json.dumps(options).encode())
    if process.returncode != 0:
        raise BenchmarkError(f"The load client ended with exit code {process.returncode}.")
    return json.loads(answer)  # type: ignore[no-any-return]
