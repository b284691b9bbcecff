"""Stand-ins for the worker's command, for the processes that the tests start. `pool` is a folder here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType


def obedient(pool: str) -> None:
    """Ends on SIGTERM after a moment, and leaves a note that it did."""

    def end(_number: int, _frame: FrameType | None) -> None:
        Path(pool, f"drained-{os.getpid()}").touch()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    Path(pool, f"ready-{os.getpid()}").write_text(os.environ.get("PEAKCLIP_MANAGEMENT_PORT", "free"))
    while True:
        time.sleep(0.05)


def of_pool(folder: str, seconds_to_drain: float, pool: str) -> None:
    """Like `obedient`, in the pool's own folder below `folder`; takes a while to end."""

    def end(_number: int, _frame: FrameType | None) -> None:
        time.sleep(seconds_to_drain)
        Path(folder, pool, f"drained-{os.getpid()}").touch()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    Path(folder, pool, f"ready-{os.getpid()}").touch()
    while True:
        time.sleep(0.05)


def stubborn(pool: str) -> None:
    """Does not hear SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(pool, f"ready-{os.getpid()}").touch()
    while True:
        time.sleep(0.05)


def failing(pool: str) -> None:
    """Dies at once, like a worker with a wrong setting."""
    Path(pool, f"ready-{os.getpid()}").touch()
    raise SystemExit(2)


def measuring(pool: str) -> None:
    """Counts something in the shared metrics, which were imported before the fork."""
    from peakclip import telemetry

    telemetry.PROCESSED.labels("standin", "created").inc(5)
    telemetry.OUTBOX.set(os.getpid())
    obedient(pool)


def operator(pool: str) -> None:
    """An operator with two workers, to be killed."""
    import asyncio

    from peakclip_operator.processes import ForkServer, ProcessScaler

    async def main() -> None:
        forks = ForkServer(["integration.standin_worker"])
        scaler = ProcessScaler(pool, forks, target=obedient, drain_seconds=1)
        await scaler.scale_to(2, [])
        await asyncio.sleep(60)

    asyncio.run(main())
