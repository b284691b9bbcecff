"""What the figures were measured on, as far as it can be read without asking: it is kept with every result."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.environment import ROOT
from peakclip.local.nats import binary

_PACKAGES: Final = ("peakclip", "aiohttp", "uvloop", "asyncpg", "nats-py", "msgspec")
_SYNC_TRIES: Final = 200
_SYNC_BYTES: Final = 4096


async def describe(database: Any, folder: Path) -> dict[str, Any]:
    """Programs, machine, code, and the disk under the servers that write into this folder."""
    return {
        "versions": {
            "python": platform.python_version(),
            "nats-server": await asyncio.to_thread(_nats_version),
            "postgresql": await database.fetchval("show server_version"),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "processor": _processor(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "load_average_before": [round(value, 2) for value in os.getloadavg()],
            "file_system": _file_system(folder),
            "fdatasync_ms": _sync_milliseconds(folder),
        },
        "code": _code(),
    }


def _nats_version() -> str:
    found = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True)
    return found.stdout.split()[-1].removeprefix("v")


def command() -> str:
    """How to measure this again."""
    return " ".join(["make bench", f'ARGS="{" ".join(sys.argv[1:])}"'] if sys.argv[1:] else ["make bench"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _file_system(path: Path) -> str:
    """Of the disk that the servers write to: on `tmpfs` every fsync is free, and nothing is durable."""
    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _sync_milliseconds(folder: Path) -> dict[str, float]:
    """What one durable write of 4 KiB costs on this disk, without any server."""
    path = folder / "sync-probe"
    taken = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(_SYNC_TRIES):
            began = time.perf_counter()
            os.write(descriptor, bytes(_SYNC_BYTES))
            os.fdatasync(descriptor)
            taken.append((time.perf_counter() - began) * 1e3)
    finally:
        os.close(descriptor)
        path.unlink()
    taken.sort()
    return {"p50": round(statistics.median(taken), 3), "p99": round(taken[int(0.99 * len(taken))], 3)}


def _code() -> str | None:
    """The commit, with a mark if files differ from it; None outside of a repository."""
    try:
        found = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def cpu_seconds(pids: list[int]) -> float:
    """CPU time that these processes and their living children have used so far."""
    total = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for one in family:
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total
