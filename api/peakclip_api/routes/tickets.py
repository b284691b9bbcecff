"""`GET /v1/tickets` and `POST /v1/tickets/{id}/close`: customer service (admin)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from peakclip.store import query
from peakclip_api import keys
from peakclip_api.auth import credential_of, require_role
from peakclip_api.paging import answer_page, page_of
from peakclip_api.problems import Problem, invalid

STATUSES: Final = ("open", "closed")


def add_routes(app: web.Application) -> None:
    app.router.add_get("/v1/tickets", list_tickets)
    app.router.add_post("/v1/tickets/{ticket_id}/close", close_ticket)


async def list_tickets(request: web.Request) -> web.Response:
    credential = await credential_of(request, request.app[keys.KEYS])
    require_role(credential, "admin")
    page = page_of(request)
    status = request.query.get("status")
    if status is not None and status not in STATUSES:
        raise invalid("status", f"must be one of {', '.join(STATUSES)}")
    rows = await request.app[keys.POOL].fetch(query("list_tickets"), credential.tenant, *page.keys, status)
    return answer_page(rows, page, at="created_at", id_field="ticket_id", show=_shown)


async def close_ticket(request: web.Request) -> web.Response:
    """A ticket that is closed already is answered as it is."""
    credential = await credential_of(request, request.app[keys.KEYS])
    require_role(credential, "admin")
    ticket_id = request.match_info["ticket_id"]
    found = None
    if "\0" not in ticket_id:
        found = await request.app[keys.POOL].fetchrow(query("close_ticket"), ticket_id, credential.tenant)
    if found is None:
        raise Problem(404, "ticket-not-found", "There is no such ticket.")
    return web.Response(body=msgspec.json.encode(_shown(found)), content_type="application/json")


def _shown(row: Any) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name != "created_at"}
    return {**shown, "order_id": str(row["order_id"]), "opened_at": row["created_at"]}
