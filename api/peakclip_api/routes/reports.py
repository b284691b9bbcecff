"""`GET /v1/reports/daily`: figures by day (admin)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from peakclip.store import query
from peakclip_api import keys
from peakclip_api.auth import credential_of, require_role
from peakclip_api.problems import invalid

MOST_DAYS: Final = 366
USUAL_DAYS: Final = 30
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def add_routes(app: web.Application) -> None:
    app.router.add_get("/v1/reports/daily", daily)


async def daily(request: web.Request) -> web.Response:
    credential = await credential_of(request, request.app[keys.KEYS])
    require_role(credential, "admin")
    first, last = days_of(request.query, datetime.now(UTC).date())
    # As text: the driver takes the calendar's first and last day for minus and plus infinity.
    ends = first.isoformat(), last.isoformat()
    rows = await request.app[keys.POOL].fetch(query("daily_report"), credential.tenant, *ends)
    body = msgspec.json.encode({"items": [_shown(row) for row in rows]})
    return web.Response(body=body, content_type="application/json")


def days_of(asked: Mapping[str, str], today: date) -> tuple[date, date]:
    """The first and the last day that is asked for. Raises Problem 422."""
    last = _day(asked, "to") or today
    first = _day(asked, "from")
    if first is None:
        first = date.fromordinal(max(1, last.toordinal() - USUAL_DAYS + 1))
    if first > last:
        raise invalid("from", "must not be later than `to`")
    if last - first >= timedelta(days=MOST_DAYS):
        raise invalid("from", f"must not be more than {MOST_DAYS} days before the end of `to`")
    return first, last


def _day(asked: Mapping[str, str], name: str) -> date | None:
    text = asked.get(name)
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise invalid(name, "must be a date: YYYY-MM-DD")


def _shown(row: Any) -> dict[str, Any]:
    rating_sum, shown = row["rating_sum"], dict(row)
    del shown["rating_sum"]
    return {**shown, "rating_average": rating_sum / row["ratings"] if row["ratings"] else None}
