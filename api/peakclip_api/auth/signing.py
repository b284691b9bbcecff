"""The issuer's keys as they are now: fetched, kept, and asked for again, but never in a hurry.

every 300 s (file: 5 s) ──┐
a token names a new key ──┴─▶ look, one at a time, at least 5 s apart ─▶ the keys, or the last good ones
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from peakclip_api.auth.credential import Credential
from peakclip_api.auth.jwks import JwksError, SigningKey, parse_jwks
from peakclip_api.auth.tokens import TokenRules, UnknownSigningKeyError, verify
from peakclip_api.problems import retry_later

log = structlog.get_logger()

URL_EVERY_SECONDS: Final = 300.0  # so long at most does a key serve that the issuer has withdrawn
FILE_EVERY_SECONDS: Final = 5.0
LEAST_SECONDS: Final = 5.0  # between two looks: made-up key names do not become requests to the issuer
TIMEOUT_SECONDS: Final = 5.0
MOST_BYTES: Final = 262_144  # a key is 0.5 kB; whatever is larger is something else

Read = Callable[[], Awaitable[bytes]]
Sleep = Callable[[float], Awaitable[None]]


def is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


class SigningKeys:
    """`keys` is None until they could be read once. After that the last good ones stay while the source is away."""

    def __init__(
        self, read: Read, every_seconds: float, clock: Callable[[], float], sleep: Sleep = asyncio.sleep
    ) -> None:
        self._read = read
        self._every_seconds = every_seconds
        self._clock = clock
        self._sleep = sleep
        self._body: bytes | None = None
        self._next_look = clock()
        self._looking: asyncio.Task[None] | None = None
        self._away = False
        self.keys: tuple[SigningKey, ...] | None = None

    @classmethod
    def of(cls, source: str, clock: Callable[[], float]) -> SigningKeys:
        """`source` is an address (http, https) or the path of a file."""
        if is_url(source):
            return cls(functools.partial(read_url, source), URL_EVERY_SECONDS, clock)
        return cls(functools.partial(asyncio.to_thread, read_file, Path(source)), FILE_EVERY_SECONDS, clock)

    @property
    def current(self) -> bool:
        """Whether the last look has succeeded."""
        return self.keys is not None and not self._away

    async def run(self) -> None:
        """Looks at the source for as long as the process lives, sooner while it cannot be read."""
        while True:
            await self.look()
            await self._sleep(self._every_seconds if self.current else LEAST_SECONDS)

    async def look(self) -> None:
        """Returns when the source was looked at: by this call, by one under way, or less than 5 s ago."""
        if self._looking is None:
            if self._clock() < self._next_look:
                return
            self._next_look = self._clock() + LEAST_SECONDS
            self._looking = asyncio.create_task(self._look(), name="look-at-signing-keys")
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)

    def _looked(self, _: asyncio.Task[None]) -> None:
        self._looking = None

    async def _look(self) -> None:
        try:
            body = await self._read()
            if body != self._body:
                self._take(body)
        except (JwksError, OSError, TimeoutError, aiohttp.ClientError) as exc:
            if not self._away:  # said once, not every few seconds
                log.warning("signing_keys_away", error=str(exc) or repr(exc), kept=len(self.keys or ()))
            self._away = True
            return
        if self._away:
            log.info("signing_keys_back")
        self._away = False

    def _take(self, body: bytes) -> None:
        found = parse_jwks(body)
        self._body, self.keys = body, found.keys
        log.info("signing_keys_read", keys=[key.kid for key in found.keys], ignored=found.ignored)


class Tokens:
    """Verifies tokens by the keys as they are now. `wall` gives epoch seconds."""

    def __init__(self, rules: TokenRules, signing: SigningKeys, wall: Callable[[], float]) -> None:
        self._rules = rules
        self._signing = signing
        self._wall = wall

    async def verify(self, token: str) -> tuple[Credential, float]:
        """Whose token it is, and for how many seconds; waits for the issuer only if the key is not known yet.

        Raises TokenError, or Problem 503 when nobody can say whether the key exists.
        """
        try:
            return self._verify(token)
        except UnknownSigningKeyError:
            await self._signing.look()
        try:
            return self._verify(token)
        except UnknownSigningKeyError:
            if self._signing.current:
                raise
            raise retry_later("issuer-unavailable", "The token cannot be checked now; retry.") from None

    def _verify(self, token: str) -> tuple[Credential, float]:
        now = self._wall()
        verified = verify(token, self._signing.keys or (), self._rules, now)
        return verified.credential, verified.valid_until - now


async def read_url(url: str) -> bytes:
    """Raises what `SigningKeys` takes for away. A redirect is not followed: it could lead from https to http."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    body = bytearray()
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
    ):
        if response.status != 200:
            raise JwksError(f"it answered {response.status}")
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise JwksError(f"it is larger than {MOST_BYTES} bytes")
    return bytes(body)


def read_file(path: Path) -> bytes:
    """Raises OSError, or JwksError for a file that is too large."""
    with path.open("rb") as file:
        body = file.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise JwksError(f"it is larger than {MOST_BYTES} bytes")
    return body
