"""Settings of the API process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import pydantic
from pydantic_settings import NoDecode
from yarl import URL

from peakclip.settings import Settings
from peakclip_api.auth.jwks import ALGORITHMS, JwksError, parse_jwks
from peakclip_api.auth.signing import is_url, read_file
from peakclip_api.auth.tokens import TokenRules

_TOGETHER: Final = ("jwt_issuer", "jwt_audience", "jwt_jwks")


MOST_IN_FLIGHT: Final = 16_384


class ApiSettings(Settings):
    """Read from PEAKCLIP_* variables."""

    host: str = "127.0.0.1"
    """Address for clients."""

    port: int = pydantic.Field(default=8080, ge=0, le=65535)
    """Port for clients. Several processes on one machine share it (SO_REUSEPORT)."""

    leave_seconds: float = pydantic.Field(default=0.0, ge=0, le=60)
    """From SIGTERM on, requests are still answered for this long, and each answer ends its connection: clients that
    keep connections open change over to other processes. None on one machine, where nobody could take over."""

    max_body_bytes: int = pydantic.Field(default=16_384, ge=256)
    """Larger requests are refused with 413. An order is some 20 bytes; 16 KiB leaves room for every route."""

    max_connections: int = pydantic.Field(default=10_000, ge=16)
    """Open connections of a process; one more ends an idle one (first those that never asked for anything, then the
    one that has been idle for longest), or is told 503 if none is. 10,000 customers who each keep one open cost some
    150 MB. Fewer if the process may not open so many files."""

    max_head_bytes: int = pydantic.Field(default=16_384, ge=1_024)
    """Request line and headers; more is refused with 400. A token is up to some 8 KiB."""

    max_unfinished_bytes: int = pydantic.Field(default=32 << 20, ge=1 << 20)
    """Of all requests that have begun to arrive or wait behind another one, and again of all answers that were not read
    yet. Who brings more is ended. A request that arrives in one piece and is worked on at once does not count. Python
    takes some four times as much."""

    receive_seconds: float = pydantic.Field(default=10.0, gt=0, le=300)
    """So long may a request arrive, from its first byte to its last. What is slower is told 408. 16 KiB in 10 s are a
    thirtieth of a bad mobile connection."""

    send_seconds: float = pydantic.Field(default=30.0, gt=0, le=600)
    """An answer that its reader has not taken by then ends the connection. The largest are some 200 KB."""

    keep_alive_seconds: float = pydantic.Field(default=620.0, ge=1)
    """A connection may be idle for so long, or silent from the beginning. Longer than load balancers keep theirs (60 to
    600 s): who closes first must not be us, or a request on its way is lost."""

    express_lane: bool = True
    """Accept ordinary orders without aiohttp's request handling (peakclip_api/lane.py)."""

    max_in_flight_orders: int = pydantic.Field(default=MOST_IN_FLIGHT, ge=16)
    """Orders that are being stored at the same time. Of those beyond it, and beyond what can be stored within 3 s, each
    is refused with 503 and `Retry-After`. About 2 KB each; a key has half of them at most, so that others find room."""

    answer_within_seconds: float = pydantic.Field(default=20.0, ge=1, le=300)
    """A request that has no answer by then gets 503 and `Retry-After`. Above all that a group of orders may take (14 s
    at worst: 5 to begin, 9 to give up), and below the 30 to 60 s after which proxies answer in our place."""

    longest_wait_seconds: float | None = pydantic.Field(default=None, gt=0)
    """An order that would wait in line for longer, at the rate now in force, is refused with 429, and `Retry-After`
    says when it would not. Absent: every order is accepted, however long the line."""

    remembered_orders: int = pydantic.Field(default=200_000, ge=1_000)
    """Orders kept in memory for repeats and places in line, beyond those still queued. About 0.5 KB each."""

    jwt_issuer: str | None = None
    """Whose tokens (JWT) are taken beside API keys: their `iss`. Absent: no tokens."""

    jwt_audience: str | None = None
    """What a token's `aud` must name, so that the issuer's tokens for others open nothing here."""

    jwt_jwks: str | None = pydantic.Field(default=None, validate_default=True)
    """Where the issuer publishes its keys: an address (https, or http where nobody can come between) or a file. A
    file that cannot be used ends the start; an address that does not answer does not: API keys work without it."""

    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = ("RS256", "ES256", "EdDSA")
    """What tokens may be signed with, separated by commas. Never `none`, and no HMAC."""

    jwt_tenant_claim: str = pydantic.Field(default="tenant", min_length=1)
    """The claim that holds the tenant."""

    jwt_role_claim: str = pydantic.Field(default="role", min_length=1)
    """The claim that holds the role: customer, provider, admin or service."""

    jwt_leeway_seconds: float = pydantic.Field(default=30.0, ge=0, le=300)
    """How far the issuer's clock may be from ours. Half a minute is what machines without time service drift."""

    @pydantic.field_validator(*_TOGETHER, mode="before")
    @classmethod
    def _blank_is_absent(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @pydantic.field_validator("jwt_jwks")
    @classmethod
    def _complete_and_usable(cls, source: str | None, info: pydantic.ValidationInfo) -> str | None:
        given = {**info.data, "jwt_jwks": source}
        missing = [f"PEAKCLIP_{name.upper()}" for name in _TOGETHER if given.get(name) is None]
        if 0 < len(missing) < len(_TOGETHER):
            raise ValueError(f"tokens need issuer, audience and JWKS; missing: {', '.join(missing)}")
        if source is not None:
            _check_jwks(source)
        return source

    @pydantic.field_validator("jwt_algorithms", mode="before")
    @classmethod
    def _list_of_algorithms(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())

    @pydantic.field_validator("jwt_algorithms")
    @classmethod
    def _asymmetric(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name.lower() == "none":
                raise ValueError("none is refused: such a token is signed by nobody")
            if name.upper().startswith("HS"):
                raise ValueError(f"{name} is refused: with a shared secret, who can verify can also sign")
        if not names or not ALGORITHMS.issuperset(names):
            raise ValueError(f"choose from {', '.join(sorted(ALGORITHMS))}")
        return names

    def token_rules(self) -> TokenRules | None:
        """What tokens must say; None if none are taken."""
        if self.jwt_issuer is None or self.jwt_audience is None:
            return None
        return TokenRules(
            issuer=self.jwt_issuer,
            audience=self.jwt_audience,
            algorithms=frozenset(self.jwt_algorithms),
            tenant_claim=self.jwt_tenant_claim,
            role_claim=self.jwt_role_claim,
            leeway_seconds=self.jwt_leeway_seconds,
        )


def _check_jwks(source: str) -> None:
    """Raises ValueError. An address is only looked at; a file is read."""
    if is_url(source):
        url = URL(source)
        if url.host is None or url.user is not None or url.password is not None:
            raise ValueError("an address has a host, and neither user nor password: public keys need none")
        return
    if "://" in source:
        raise ValueError("an address begins with https:// or http://")
    try:
        found = parse_jwks(read_file(Path(source)))
    except OSError as exc:
        raise ValueError(f"the file cannot be read: {exc.strerror}") from None
    except JwksError as exc:
        raise ValueError(f"the file cannot be used: {exc}") from None
    if not found.keys:
        raise ValueError(
            f"the file holds no key that can serve ({'; '.join(found.ignored) or 'it is empty'})"
        )
