"""Lists in pages: newest first, behind a cursor that names the last item of the page before."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from peakclip_api.problems import invalid

DEFAULT_LIMIT: Final = 50
MOST: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_END_OF_TIME: Final = datetime(9999, 1, 1, tzinfo=UTC)
_LAST_ID: Final = uuid.UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` items that are older than `at`, or as old with a smaller id."""

    limit: int
    at: datetime
    id: str

    @property
    def keys(self) -> tuple[datetime, str, int]:
        """Arguments of a list query. One more is asked for than is shown: then there is a next page."""
        return self.at, self.id, self.limit + 1


def page_of(request: web.Request, *, by_uuid: bool = False) -> Page:
    """Raises Problem 422. `by_uuid`: the ids of the list are UUIDs, and so must be the cursor's."""
    limit = request.query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= MOST):
        raise invalid("limit", f"must be a whole number from 1 to {MOST}")
    cursor = request.query.get("cursor")
    if cursor is None:
        return Page(int(limit), _END_OF_TIME, str(_LAST_ID))
    try:
        at, last_id = read_cursor(cursor)
        return Page(int(limit), at, str(uuid.UUID(last_id)) if by_uuid else last_id)
    except (ValueError, OverflowError):
        raise invalid("cursor", "was not given out by this list") from None


def write_cursor(at: datetime, last_id: str) -> str:
    """
    >>> read_cursor(write_cursor(datetime(2026, 11, 11, 20, 0, 0, 1, tzinfo=UTC), "a"))
    (datetime.datetime(2026, 11, 11, 20, 0, 0, 1, tzinfo=datetime.timezone.utc), 'a')
    """
    text = f"{(at - _EPOCH) // _MICROSECOND}|{last_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises ValueError or OverflowError for anything that `write_cursor` has not made."""
    text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    micros, _, last_id = text.partition("|")
    at = _EPOCH + int(micros) * _MICROSECOND
    if not last_id.isprintable() or write_cursor(at, last_id) != cursor:
        raise ValueError("no cursor of ours")
    return at, last_id


def answer_page(
    rows: Sequence[Any], page: Page, *, at: str, id_field: str, show: Callable[[Any], dict[str, Any]]
) -> web.Response:
    """`at` and `id_field` name the columns that the list is sorted by."""
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    last = shown[-1] if more else None
    cursor = write_cursor(last[at], str(last[id_field])) if last is not None else None
    body = msgspec.json.encode({"items": [show(row) for row in shown], "next_cursor": cursor})
    return web.Response(body=body, content_type="application/json")
