"""No request waits for ever: what has no answer after some seconds gets one that says so."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from peakclip_api.problems import Handler, retry_later

_DEADLINE: Final = web.RequestKey("deadline", asyncio.Timeout)


def within(seconds: float) -> Middleware:
    """A middleware inside that for problems. Servers that stand still, and hundreds who wait for one of four
    connections to PostgreSQL, would otherwise hold requests for as long as they like."""

    @web.middleware
    async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(seconds) as deadline:
                request[_DEADLINE] = deadline
                return await handler(request)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise retry_later(
                "too-busy", f"This was not done within {seconds:g} s; retry with the same key."
            ) from None

    return answered


def without_end(request: web.Request) -> None:
    """The answer is a stream, which has its own rules."""
    if _DEADLINE in request:
        request[_DEADLINE].reschedule(None)
