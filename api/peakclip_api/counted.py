"""Counts what clients are told: by route and status, how long it took, and for which kind of problem.

Counted in memory and written once a second: an accepted order costs an append and two entries in a dictionary.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import web

from peakclip import telemetry
from peakclip_api.problems import KIND, Handler

WRITE_SECONDS: Final = 1.0
_NO_ROUTE: Final = "none"  # a path of the client's invention must not become a label

_answers = telemetry.Tally(telemetry.HTTP_ANSWERS)
_refused = telemetry.Tally(telemetry.REFUSED)
_seconds: dict[str, telemetry.Gathered] = {}  # by route


def count(route: str, status: int, began: float | None, kind: str | None = None) -> None:
    """`began` by `perf_counter`; None for what is no single answer."""
    _answers.add(route, str(status))
    if kind is not None:
        _refused.add(kind)
    if began is not None:
        gathered = _seconds.get(route)
        if gathered is None:
            gathered = _seconds[route] = telemetry.Gathered(
                telemetry.HTTP_SECONDS.labels(route), telemetry.HTTP_BUCKETS
            )
        gathered.add(time.perf_counter() - began)


def write() -> None:
    for tally in (_answers, _refused):
        tally.write()
    for gathered in _seconds.values():
        gathered.write()


async def keep_writing() -> None:
    """For the life of the process."""
    while True:
        await asyncio.sleep(WRITE_SECONDS)
        write()


@web.middleware
async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost: what it sees is what the client gets."""
    began = time.perf_counter()
    response = await handler(request)
    resource = request.match_info.route.resource
    route = f"{request.method} {resource.canonical}" if resource is not None else _NO_ROUTE
    # A stream of events lasts for as long as somebody listens.
    single = isinstance(response, web.Response)
    count(route, response.status, began if single else None, response.get(KIND))
    return response
