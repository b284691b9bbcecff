"""Waiting for what a cluster does in its own time: a deadline, and what was seen last if it passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def wait_for(
    what: str, ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], seconds: float, pause: float = 0.5
) -> T:
    """Asks until `holds(answer)`, and returns that answer. A question that fails counts as an answer that does not
    hold: an API server and a pod may be away for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
                answer = await ask()
            if holds(answer):
                return answer
            seen = answer
        except (AssertionError, OSError, TimeoutError, LookupError) as exc:
            seen = f"{type(exc).__name__}: {exc}"
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}. Last seen: {str(seen)[:2_000]}")
        await asyncio.sleep(pause)
