"""Customers who are told by webhook: a real receiver in the test's own loop, and what it was told for the checker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from faults.history.facts import Delivery
from faults.history.fetch import delivery
from faults.system import System
from receivers import MASTER_KEY, WebhookReceiver

from peakclip.load.access import post
from peakclip_worker.channels.signature import secret_text

# For the processes of the stack: webhooks go out, and this machine is where they go.
SETTINGS: Final = {
    "PEAKCLIP_WEBHOOK_SECRET": secret_text(MASTER_KEY),
    "PEAKCLIP_WEBHOOK_ALLOW_PRIVATE": "true",
}
_AT_ONCE: Final = 16


async def register(system: System, receiver: WebhookReceiver, names: Iterable[str]) -> None:
    """They want to be told. Before their first order, or what happened until then is told to nobody."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> None:
        body = {"name": name, "customer_id": name, "webhook_url": f"{receiver.url}/{name}"}
        async with at_once:
            await post(
                system.credentials["url"], "/v1/customers", system.credentials["service"], body,
                idempotency_key=f"listener-{name}",
            )  # fmt: skip

    await asyncio.gather(*(one(name) for name in names))


def heard(receiver: WebhookReceiver) -> list[Delivery]:
    """All that came, signed as it should be."""
    forged = [call.key for call in receiver.calls if not call.verified]
    assert not forged, ("webhooks that do not verify", forged[:5])
    return [delivery(call) for call in receiver.calls]
