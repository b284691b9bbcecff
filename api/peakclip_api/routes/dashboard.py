"""The dashboard: the page at `/`, its files, and the live status as JSON and as server-sent events.

None of these answers names a customer or an order, and a browser's EventSource cannot send a credential, so
they are open: whoever can reach the port sees rates and counts.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import Final

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from peakclip_api import keys
from peakclip_api.deadline import without_end

HEARTBEAT_SECONDS: Final = 10.0  # below the idle time-out of common proxies
SEND_TIMEOUT_SECONDS: Final = 30.0  # a client that takes nothing for so long is cut off; it may come back
RETRY_MS: Final = 1000

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Asset:
    """A file of the page, read once at start."""

    def __init__(self, body: bytes, kind: str) -> None:
        self.body = body
        self.etag = hashlib.sha256(body).hexdigest()[:16]
        self.kind = kind

    def answer(self, request: web.Request) -> web.Response:
        # no-cache: kept by the browser, but asked about each time, so that an upgrade is seen at once.
        headers = {**SECURITY_HEADERS, "Cache-Control": "no-cache", "ETag": f'"{self.etag}"'}
        asked = request.if_none_match or ()
        if any(etag.value in (self.etag, "*") for etag in asked):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers={**headers, "Content-Type": self.kind})


def load_assets(package: str) -> dict[str, Asset]:
    """By name. Only what is in here is ever served: a name from a request never touches the file system."""
    folder = resources.files(package)
    return {
        item.name: Asset(item.read_bytes(), _TYPES[kind])
        for item in folder.iterdir()
        if (kind := item.name.rpartition(".")[2]) in _TYPES
    }


ASSETS: Final = web.AppKey("dashboard_assets", dict[str, Asset])


def add_routes(app: web.Application) -> None:
    """Needs a started Board under `keys.BOARD` when requests arrive."""
    app[ASSETS] = load_assets("peakclip_api.dashboard")
    app.add_routes(
        [
            web.get("/", page),
            web.get("/dashboard/{file}", asset),
            web.get("/v1/status", status),
            # No HEAD: it would have to open a stream and never end it.
            web.get("/v1/status/stream", stream, allow_head=False),
        ]
    )
    app.on_shutdown.append(_end_streams)


async def page(request: web.Request) -> web.Response:
    return request.app[ASSETS]["index.html"].answer(request)


async def asset(request: web.Request) -> web.Response:
    found = request.app[ASSETS].get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    return found.answer(request)


async def status(request: web.Request) -> web.Response:
    return json_answer(request.app[keys.BOARD].snapshot())


async def stream(request: web.Request) -> web.StreamResponse:
    """First one `history` event, then a `status` event for each new status, until the client or the app goes.

    A client that leaves during silence is noticed by the heartbeat, which then ends the iteration.
    """
    without_end(request)
    board = request.app[keys.BOARD]
    response = EventSourceResponse(
        headers={**SECURITY_HEADERS, "Cache-Control": "no-store"},
        sep="\n",
        ping_interval=HEARTBEAT_SECONDS,
        send_timeout=SEND_TIMEOUT_SECONDS,
    )
    try:
        await response.prepare(request)
        async with response:
            with board.subscribe() as changes:
                gone = asyncio.create_task(response.wait(), name="stream_heartbeat")
                gone.add_done_callback(lambda _: changes.end())
                history = msgspec.json.encode(board.history()).decode()
                await response.send(history, id=str(board.number), event="history", retry=RETRY_MS)
                async for change in changes:
                    body = msgspec.json.encode(change).decode()
                    await response.send(body, id=str(change.number), event="status")
    except (ConnectionError, TimeoutError):
        pass  # the reader went away
    return response


def json_answer(value: object) -> web.Response:
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store", "Content-Type": "application/json"}
    return web.Response(body=msgspec.json.encode(value), headers=headers)


async def _end_streams(app: web.Application) -> None:
    if keys.BOARD in app:
        app[keys.BOARD].end_streams()
