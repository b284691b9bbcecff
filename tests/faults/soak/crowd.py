"""The honest clients of a soak: chapter after chapter, each with sales of its own.

many      a sale that never sells out, whose orders stay unpaid or are paid or cancelled later
fleeting  a sale whose units are hardly ever paid for: they are reaped, and the next buyers get them
shop      a scarce sale whose customers pay in time, late, twice, never, or cancel (faults.shoppers)
ordinary  orders of no sale, at once or through the line, and what is done with them afterwards
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from faults.history.record import Kind
from faults.system import System
from receivers import WebhookReceiver

STEP_SECONDS: Final = 4.0
_WAVES: Final = 8  # under way at once


class Told(Protocol):
    """Who hears of what the crowd does while it goes on."""

    def accepted(self, answers: int) -> None:
        """So many more orders were accepted."""

    def wave(self, orders: int, answers: int, retries: int, causes: Counter[str]) -> None:
        """One is over: orders that are new, answers that `accepted` has told of, retries and their causes."""

    def probe(self, order_id: str, sent_at: float) -> None:
        """Somebody was told of this one just now. Epoch seconds."""

    def acted(self, kind: Kind, orders: int) -> None: ...


@dataclass(slots=True)
class Crowd:
    """What all chapters have in common."""

    system: System
    receiver: WebhookReceiver
    rate: float
    chance: random.Random
    told: Told
    held: Callable[[], bool]  # so much is waiting that no more should come
    over: asyncio.Event
    patience: float  # seconds until the last unit of a scarce sale must have been paid for
    waves: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WAVES))
    _place: tuple[str, str] | None = None  # a provider and a package

    def ended(self, end: float) -> bool:
        return self.over.is_set() or asyncio.get_running_loop().time() >= end

    async def step(self) -> None:
        """The next one, unless the run ends before."""
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await self.over.wait()
        except TimeoutError:
            return

    async def place(self, ask: Callable[..., Awaitable[dict[str, Any]]], admin: str) -> tuple[str, str]:
        if self._place is None:
            provider = await ask(
                "/v1/providers",
                admin,
                {"name": "Soap & Son", "latitude": 52.5, "longitude": 13.4},
                "provider",
            )
            package = await ask(
                "/v1/service-packages", admin, {"name": "Bath", "price_cents": 4_900, "duration_minutes": 60},
                "package",
            )  # fmt: skip
            self._place = provider["provider_id"], package["service_package_id"]
        return self._place
