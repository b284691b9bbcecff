"""`GET /metrics/nats`: four numbers over all pools, and the same four of each pool. null means unknown."""

from __future__ import annotations

import msgspec
from aiohttp import web

from peakclip_api import keys
from peakclip_api.history import NatsMetrics
from peakclip_api.routes.dashboard import json_answer


class Answer(NatsMetrics, frozen=True, kw_only=True):
    pools: dict[str, NatsMetrics]


def add_routes(app: web.Application) -> None:
    """Needs a started Board under `keys.BOARD` when requests arrive."""
    app.add_routes([web.get("/metrics/nats", nats_metrics)])


async def nats_metrics(request: web.Request) -> web.Response:
    total, pools = request.app[keys.BOARD].metrics()
    return json_answer(Answer(*msgspec.structs.astuple(total), pools=pools))
