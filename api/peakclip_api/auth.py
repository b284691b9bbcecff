"""Who is asking: API keys, looked up by their hash and remembered for a short while.

A remembered key keeps working while PostgreSQL is away; a revoked one stops within `FRESH_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from multidict import istr

from peakclip.credentials import hash_key
from peakclip.store import DATABASE_AWAY, query
from peakclip_api.problems import Problem, retry_later

FRESH_SECONDS: Final = 10.0
MOST_REMEMBERED: Final = 50_000
CUSTOMER_HEADER: Final = istr("Peakclip-Customer")
MAX_CUSTOMER_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Credential:
    tenant: str
    subject: str
    role: str


class Keys:
    """API keys by their text. The text itself is held in memory only."""

    def __init__(self, pool: Any, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._known: dict[str, tuple[float, Credential]] = {}  # header -> (stale at, credential)
        self._asking: dict[str, asyncio.Task[Credential]] = {}

    def remembered(self, header: str | None) -> Credential | None:
        """The credential of an `Authorization` header if it was looked up lately."""
        found = self._known.get(header) if header else None
        return found[1] if found is not None and found[0] > self._clock() else None

    async def look_up(self, header: str | None) -> Credential:
        """Raises Problem 401, or 503 while the database is away and the key is not remembered."""
        scheme, _, key = (header or "").partition(" ")
        if header is None or scheme.lower() != "bearer" or not key.startswith("pk_") or not key.isascii():
            raise _unauthorized("Send `Authorization: Bearer pk_…`.")
        # One question for all who ask at the same time: a burst with one key is one look-up, not hundreds.
        asking = self._asking.get(header)
        if asking is None:
            asking = asyncio.create_task(self._ask(header, key))
            self._asking[header] = asking
            asking.add_done_callback(lambda _: self._asking.pop(header, None))
        return await asyncio.shield(asking)

    async def _ask(self, header: str, key: str) -> Credential:
        try:
            row = await self._pool.fetchrow(query("find_api_key"), hash_key(key))
        except DATABASE_AWAY:
            if stale := self._known.get(header):
                return stale[1]
            raise retry_later("database-unavailable", "The key cannot be checked now; retry.") from None
        if row is None:
            self._known.pop(header, None)
            raise _unauthorized("This key is not known or was revoked.")
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        credential = Credential(**row)
        self._known[header] = (self._clock() + FRESH_SECONDS, credential)
        return credential


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


async def credential_of(request: web.Request, keys: Keys) -> Credential:
    header = request.headers.get("Authorization")
    return keys.remembered(header) or await keys.look_up(header)


def customer_of(headers: Mapping[str, str], credential: Credential) -> str:
    """The customer this request acts for: the credential's own, or the one that a service names."""
    if credential.role == "customer":
        return credential.subject
    if credential.role != "service":
        raise Problem(403, "forbidden", f"A credential with role {credential.role!r} cannot place orders.")
    customer = headers.get(CUSTOMER_HEADER, "")
    if not customer or len(customer) > MAX_CUSTOMER_LENGTH or not customer.isprintable():
        raise Problem(
            400,
            "customer-required",
            f"A service names the customer in {CUSTOMER_HEADER}: 1 to {MAX_CUSTOMER_LENGTH} printable characters.",
        )
    return customer


def require_role(credential: Credential, role: str) -> None:
    if credential.role != role:
        raise Problem(
            403, "forbidden", f"This needs the role {role!r}; the credential has {credential.role!r}."
        )
