"""`GET /v1/notifications` and `GET /v1/notifications/stream`: what a customer or a provider is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from peakclip.store import DATABASE_AWAY, DATABASE_UNFIT, query
from peakclip_api import keys
from peakclip_api.auth import Credential, credential_of, customer_of
from peakclip_api.inboxes import Inbox, InboxReader
from peakclip_api.live import serve
from peakclip_api.paging import answer_page, page_of
from peakclip_api.problems import Problem, invalid

log = structlog.get_logger()

PAGE: Final = 100
RETRY_SECONDS: Final = 1.0  # before another look while the database is away
_LAST_ID: Final = (1 << 63) - 1


class Position(NamedTuple):
    """The last notification that a reader has, by id and by number; zeros: none."""

    notification_id: int
    number: int


def add_routes(app: web.Application) -> None:
    app.router.add_get("/v1/notifications", list_notifications)
    app.router.add_get("/v1/notifications/stream", stream, allow_head=False)


async def list_notifications(request: web.Request) -> web.Response:
    inbox = _inbox_of(request, await credential_of(request, request.app[keys.KEYS]))
    page = page_of(request)
    before = _LAST_ID
    if "cursor" in request.query:
        before = int(page.id) if page.id.isascii() and page.id.isdecimal() else _LAST_ID + 1
        if before > _LAST_ID:
            raise invalid("cursor", "was not given out by this list")
    rows = await request.app[keys.POOL].fetch(query("list_notifications"), *inbox, before, page.limit + 1)
    return answer_page(rows, page, at="created_at", id_field="notification_id", show=_shown_row)


async def stream(request: web.Request) -> web.StreamResponse:
    """Pushes are collected from before the first look at the table, so that nothing falls between the two."""
    app = request.app
    inbox = _inbox_of(request, await credential_of(request, app[keys.KEYS]))
    async with app[keys.INBOXES].opened(inbox) as reader:
        position = await _position(app[keys.POOL], inbox, request.headers.get("Last-Event-ID", ""))
        with app[keys.READERS].entered(inbox, reader):
            return await serve(request, reader, lambda out: _follow(app[keys.POOL], reader, position, out))


def _inbox_of(request: web.Request, credential: Credential) -> Inbox:
    """Whose notifications are meant. Raises Problem 403 for who gets none, 400 for a service that names nobody."""
    if credential.role == "provider":
        return Inbox(credential.tenant, "provider", credential.subject)
    if credential.role not in ("customer", "service"):
        raise Problem(403, "forbidden", f"A credential with role {credential.role!r} gets no notifications.")
    return Inbox(credential.tenant, "customer", customer_of(request.headers, credential))


async def _position(pool: Any, inbox: Inbox, last_event_id: str) -> Position:
    """Where a reader goes on: behind the last one it has seen, or behind the newest."""
    known = last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) <= 18
    upto = int(last_event_id) if known else _LAST_ID
    row = await pool.fetchrow(query("find_inbox_position"), *inbox, upto)
    return Position(0, 0) if row is None else Position(*row)


async def _follow(pool: Any, reader: InboxReader, position: Position, out: EventSourceResponse) -> None:
    """What is pushed next is sent as it is; otherwise the table is read, from the position on."""
    while not reader.ended:
        if reader.behind:
            reader.behind = False
            try:
                rows = await pool.fetch(
                    query("find_notifications_after"), *reader.inbox, position.notification_id, PAGE
                )
            except (*DATABASE_AWAY, *DATABASE_UNFIT) as exc:
                log.warning("notifications_not_read", error=repr(exc))
                reader.behind = True
                await reader.wait(RETRY_SECONDS)
                continue
            for row in rows:
                position = await _send(out, Position(row["notification_id"], row["number"]), _shown_row(row))
            if len(rows) == PAGE:
                reader.behind = True
                continue
        for pushed in reader.take_after(position.number):
            shown = _shown(
                pushed.notification_id, pushed.kind, pushed.title, pushed.body, pushed.data, pushed.at
            )
            position = await _send(out, Position(pushed.notification_id, pushed.number), shown)
        if not reader.behind:
            await reader.wait()


async def _send(out: EventSourceResponse, position: Position, shown: dict[str, Any]) -> Position:
    body = msgspec.json.encode(shown).decode()
    await out.send(body, id=str(position.notification_id), event="notification")
    return position


def _shown_row(row: Any) -> dict[str, Any]:
    data = msgspec.json.decode(row["data"])
    return _shown(row["notification_id"], row["kind"], row["title"], row["body"], data, row["created_at"])


def _shown(
    notification_id: int, kind: str, title: str, text: str, data: Mapping[str, Any], created_at: datetime
) -> dict[str, Any]:
    return {
        "notification_id": str(notification_id),
        "kind": kind,
        "title": title,
        "text": text,
        "order_id": data.get("order_id"),
        "review_id": data.get("review_id"),
        "created_at": created_at,
    }
