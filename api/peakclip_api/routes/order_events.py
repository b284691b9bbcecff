"""`GET /v1/orders/{id}/events`: every transition of an order, from the audit trail, in order and without a gap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query
from peakclip_api import keys
from peakclip_api.auth import credential_of
from peakclip_api.live import Reader, serve
from peakclip_api.ownership import named_customer, sees
from peakclip_api.routes.orders import visible_order

log = structlog.get_logger()

PAGE: Final = 100
RETRY_SECONDS: Final = 1.0  # before another look while the database is away
# The fields of every order's event: those of a flash sale have not all of them.
_NOTHING: Final = {
    **dict.fromkeys(
        (
            "sale_id", "reason", "provider_id", "pet_id", "service_package_id", "latitude", "longitude",
            "service_date", "expires_at",
        )
    ),
    "refunded_cents": 0,
}  # fmt: skip


def add_routes(app: web.Application) -> None:
    app.router.add_get("/v1/orders/{order_id}/events", stream, allow_head=False)


async def stream(request: web.Request) -> web.StreamResponse:
    """An order that still waits in line has no events yet; its stream begins all the same."""
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    order = await visible_order(request, credential)
    order_id, known = str(order["order_id"]), order.get("version", 0)
    after = await _last_seen(app[keys.POOL], order_id, request.headers.get("Last-Event-ID", ""))
    # With the customer: a storefront's streams are those of many people, and one does not end another's.
    customer_id = named_customer(request.headers, credential)
    owner, reader = (credential.tenant, credential.role, credential.subject, customer_id), Reader()

    def visible(version: int, data: dict[str, Any]) -> bool:
        """Who sees the order sees how it came to be, unpaid and without a provider. But since then another provider
        may have taken it."""
        return version <= known or sees(data, request.headers, credential)

    with app[keys.READERS].entered(owner, reader), app[keys.TRAIL].followed(order_id, reader):
        return await serve(
            request, reader, lambda out: _follow(app[keys.POOL], reader, order_id, after, visible, out)
        )


async def _last_seen(pool: Any, order_id: str, last_event_id: str) -> int:
    """The version that a reader has; one that the audit trail does not hold means nothing."""
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) <= 9):
        return 0
    version = int(last_event_id)
    row = await pool.fetchrow(query("find_order_history"), order_id, version - 1, 1)
    return version if row is not None and row["version"] == version else 0


async def _follow(
    pool: Any,
    reader: Reader,
    order_id: str,
    after: int,
    visible: Callable[[int, dict[str, Any]], bool],
    out: EventSourceResponse,
) -> None:
    """Versions are sent one after another: one that the effects have not reached yet is waited for."""
    while not reader.ended:
        if not reader.behind:
            await reader.wait()
            continue
        reader.behind = False
        try:
            rows = await pool.fetch(query("find_order_history"), order_id, after, PAGE)
        except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
            log.warning("history_not_read", error=repr(exc))
            reader.behind = True
            await reader.wait(RETRY_SECONDS)
            continue
        for row in rows:
            data = {**_NOTHING, **msgspec.json.decode(row["data"])}
            if row["version"] != after + 1:
                break
            if not visible(row["version"], data):
                return
            await out.send(msgspec.json.encode(data).decode(), id=str(row["version"]), event=row["event"])
            after = row["version"]
        else:
            reader.behind |= len(rows) == PAGE
