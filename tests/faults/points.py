"""Points in a process at which a test can catch it: between two steps that must not be one without the other.

A point that is armed holds the next process that comes by for a while, and tells the test who that is. Whoever is not
held passes at the price of one system call. Planted by `faults.launcher`, FAULTS_POINTS=FOLDER.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import msgspec

FOLDER: Final = "FAULTS_POINTS"
HELD_SECONDS: Final = 10.0  # longer than the reconciler's patience in these tests
POISON: Final = "poison"  # customers of this name have orders that nobody can read

RESERVED: Final = "reserved"  # an API process has taken units, and has not stored the orders
OVERDRAWN: Final = (
    "overdrawn"  # an API process has taken more units than there are, and not returned the rest
)
TAKEN_APART: Final = (
    "taken-apart"  # the relay has stored a frame's orders, and has not acknowledged the frame
)
PUBLISHED: Final = "published"  # the relay has published rows of the outbox, and has not removed them
COMMITTED: Final = "committed"  # a worker has committed orders, and has not acknowledged them
BURIED: Final = "buried"  # a worker has stored a dead letter, and has not ended its message


class Points:
    """The test's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def arm(self, name: str, seconds: float = HELD_SECONDS) -> None:
        unseen = self.folder / f"{name}-unseen"
        unseen.write_text(str(seconds))
        unseen.rename(self.folder / name)

    async def reached(self, name: str, seconds: float = 120.0) -> int:
        """The process that is held there."""
        from support import until  # which no process of Peakclip needs to import

        held = await until(lambda: list(self.folder.glob(f"{name}.*.held")), seconds)
        held[0].unlink()
        return int(held[0].suffixes[0][1:])


async def pass_by(name: str) -> None:
    await asyncio.sleep(_held_for(name))


def _held_for(name: str) -> float:
    mine = f"{os.environ.get(FOLDER)}/{name}.{os.getpid()}"
    try:
        os.rename(f"{os.environ.get(FOLDER)}/{name}", mine)
    except FileNotFoundError:
        return 0.0
    seconds = float(Path(mine).read_text())
    os.rename(mine, f"{mine}.held")
    return seconds


def before(owner: type, method: str, name: str, *, static: bool = False) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, method)

    @wraps(original)
    async def held(*args: Any, **kwargs: Any) -> Any:
        await pass_by(name)
        return await original(*args, **kwargs)

    setattr(owner, method, staticmethod(held) if static else held)


def after(owner: type, method: str, name: str) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, method)

    @wraps(original)
    async def held(*args: Any, **kwargs: Any) -> Any:
        done = await original(*args, **kwargs)
        await pass_by(name)
        return done

    setattr(owner, method, held)


def plant(command: str) -> None:
    if command == "api":
        from peakclip.ingest import Intake
        from peakclip.jetstream import JetStream

        before(Intake, "_store", RESERVED)
        _overdrawn(JetStream)
    elif command == "relay":
        from peakclip_worker.outbox import Outbox
        from peakclip_worker.relay import Relay

        before(Relay, "_finished", TAKEN_APART, static=True)
        after(Outbox, "_publish", PUBLISHED)
    elif command == "worker":
        from peakclip_worker.batch import BatchPool
        from peakclip_worker.pools.orders import DrainOrders

        after(DrainOrders, "commit", COMMITTED)
        after(BatchPool, "_bury", BURIED)
        _poison(DrainOrders)


def _overdrawn(js: Any) -> None:
    original = js.increment

    async def increment(self: Any, subject: str, delta: int, *, message_id: str, **more: Any) -> Any:
        if message_id.startswith("o-"):
            await pass_by(OVERDRAWN)
        return await original(self, subject, delta, message_id=message_id, **more)

    js.increment = increment


def _poison(work: Any) -> None:
    original = work.read

    def read(self: Any, message: Any) -> Any:
        order = original(self, message)
        if order.customer_id.startswith(POISON):
            raise msgspec.ValidationError("planted: nobody can read this")
        return order

    work.read = read
