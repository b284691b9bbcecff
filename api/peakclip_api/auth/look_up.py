"""From the `Authorization` header to a credential, remembered for a short while.

A remembered key keeps working while PostgreSQL is away; a revoked one stops within `FRESH_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from peakclip.credentials import FRESH_SECONDS, hash_key
from peakclip.store import DATABASE_AWAY, query
from peakclip_api.auth.credential import Credential
from peakclip_api.auth.signing import Tokens
from peakclip_api.auth.tokens import TokenError
from peakclip_api.problems import Problem, retry_later

MOST_REMEMBERED: Final = 50_000
MOST_TOKEN_BYTES: Final = 64_000_000  # of remembered tokens: one may have 8 kB


class Keys:
    """Credentials by what was sent: API keys, and tokens if an issuer is configured. Held in memory only."""

    def __init__(self, pool: Any, clock: Callable[[], float], tokens: Tokens | None = None) -> None:
        self._pool = pool
        self._clock = clock
        self._tokens = tokens
        # By header: (stale at, credential). Apart, so that a flood of tokens never drives out a key, whose stale
        # entry is still of use while PostgreSQL is away.
        self._known: dict[str, tuple[float, Credential]] = {}
        self._verified: dict[str, tuple[float, Credential]] = {}
        self._verified_bytes = 0
        self._asking: dict[str, asyncio.Task[Credential]] = {}

    def remembered(self, header: str | None) -> Credential | None:
        """The credential of an `Authorization` header if it was looked up lately."""
        if not header:
            return None
        found = self._known.get(header) or self._verified.get(header)
        return found[1] if found is not None and found[0] > self._clock() else None

    async def look_up(self, header: str | None) -> Credential:
        """Raises Problem 401, or 503 while the key or token is not remembered and nobody can be asked about it."""
        scheme, _, secret = (header or "").partition(" ")
        if header is not None and scheme.lower() == "bearer" and secret.isascii():
            if secret.startswith("pk_"):
                return await self._of_key(header, secret)
            if self._tokens is not None and secret.count(".") == 2:
                return await self._of_token(self._tokens, header, secret)
        either = "" if self._tokens is None else ", or a token (JWT) in its place"
        raise _unauthorized(f"Send `Authorization: Bearer pk_…`{either}.")

    async def _of_key(self, header: str, key: str) -> Credential:
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

    async def _of_token(self, tokens: Tokens, header: str, token: str) -> Credential:
        try:
            credential, seconds = await tokens.verify(token)
        except TokenError as exc:
            raise _unauthorized(str(exc), 'Bearer error="invalid_token"') from None
        self._remember(header, credential, min(FRESH_SECONDS, seconds))
        return credential

    def _remember(self, header: str, credential: Credential, seconds: float) -> None:
        """A token is verified again when it is stale: then its key may have been withdrawn."""
        if header not in self._verified:
            if len(self._verified) >= MOST_REMEMBERED or self._verified_bytes >= MOST_TOKEN_BYTES:
                self._verified.clear()
                self._verified_bytes = 0
            self._verified_bytes += len(header)
        self._verified[header] = (self._clock() + seconds, credential)


def _unauthorized(detail: str, challenge: str = "Bearer") -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


async def credential_of(request: web.Request, keys: Keys) -> Credential:
    header = request.headers.get("Authorization")
    return keys.remembered(header) or await keys.look_up(header)
