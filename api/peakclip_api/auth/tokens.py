"""What a token (JWT, RFC 7519) must say to be a credential. Nothing here asks anybody or knows what time it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from peakclip.credentials import MAX_NAME_LENGTH, ROLES, is_name
from peakclip.errors import PeakclipError
from peakclip_api.auth.credential import Credential
from peakclip_api.auth.jwks import SigningKey, fitting

# The clock is ours, so that `now` is an argument; signature, issuer and audience are PyJWT's.
_OPTIONS: Final[Any] = {
    "require": ["exp", "iss", "aud", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}
_YEAR_10000: Final = 253_402_300_800  # a later time is a mistake, for example one in milliseconds


class TokenError(PeakclipError):
    """The token is not valid."""


class UnknownSigningKeyError(TokenError):
    """The token is signed with a key that the issuer does not publish."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """`algorithms` is part of `jwks.ALGORITHMS`. Clocks may differ by `leeway_seconds`."""

    issuer: str
    audience: str
    algorithms: frozenset[str]
    tenant_claim: str = "tenant"
    role_claim: str = "role"
    leeway_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Verified:
    """`valid_until` is the epoch second from which `verify` would refuse the same token."""

    credential: Credential
    valid_until: float


def verify(token: str, keys: Sequence[SigningKey], rules: TokenRules, now: float) -> Verified:
    """Raises TokenError with a sentence for the client; it holds nothing of the token.

    `now` is in epoch seconds.
    """
    claims = _signed_claims(token, keys, rules)
    expires = _time(claims, "exp")
    if expires is None:
        raise _missing("exp")
    if now >= expires + rules.leeway_seconds:
        raise TokenError("The token has expired.")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins > now + rules.leeway_seconds:
            raise TokenError(f"The token is not valid yet: its {name!r} is in the future.")
    credential = Credential(
        tenant=_name(claims, rules.tenant_claim),
        subject=_name(claims, "sub"),
        role=_role(claims, rules.role_claim),
    )
    return Verified(credential, expires + rules.leeway_seconds)


def _signed_claims(token: str, keys: Sequence[SigningKey], rules: TokenRules) -> Mapping[str, Any]:
    """What the issuer has signed for us."""
    try:
        # Of the header alone, in the shape of a token: reading all parts twice would take a third of the time.
        header = jwt.get_unverified_header(f"{token.partition('.')[0]}..")
    except jwt.PyJWTError:
        raise TokenError("The token cannot be read as a signed JWT.") from None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms:
        raise TokenError("The token is signed with an algorithm that is not allowed.")
    key = _signer(keys, header.get("kid"), algorithm)
    try:
        return jwt.decode(
            token,
            key.public,
            algorithms=[algorithm],  # allowed, and one that this type of key can have
            issuer=rules.issuer,
            audience=rules.audience,
            options=_OPTIONS,
        )
    except jwt.InvalidSignatureError:
        raise TokenError("The token's signature is wrong.") from None
    except jwt.InvalidIssuerError:
        raise TokenError("The token is of another issuer.") from None
    except jwt.InvalidAudienceError:
        raise TokenError("The token is meant for another audience.") from None
    except jwt.MissingRequiredClaimError as exc:
        raise _missing(exc.claim) from None
    except jwt.PyJWTError:
        raise TokenError from None


def _signer(keys: Sequence[SigningKey], kid: str | None, algorithm: str) -> SigningKey:
    """The key that must have signed. A token without `kid` is taken if only one key can be meant."""
    found = fitting(keys, kid, algorithm)
    if kid is None and len(found) > 1:
        raise TokenError("The token does not say which key signed it (`kid`), and the issuer has several.")
    if found:
        return found[0]
    if kid is not None and any(key.kid == kid for key in keys):
        raise TokenError("The token's algorithm does not fit the key that it names.")
    raise UnknownSigningKeyError


def _missing(claim: str) -> TokenError:
    return TokenError(f"The token has no claim {claim!r}.")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Epoch seconds."""
    value = claims.get(name)
    if value is None:
        return None
    # Compared as they are: float() of a number with hundreds of digits fails. NaN is not inside either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        raise TokenError(f"The token's {name!r} is no time in seconds.")
    return float(value)


def _name(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if value is None:
        raise _missing(claim)
    if not is_name(value):
        raise TokenError(f"The token's {claim!r} is not 1 to {MAX_NAME_LENGTH} printable characters.")
    return str(value)


def _role(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if value is None:
        raise _missing(claim)
    if not isinstance(value, str) or value not in ROLES:
        raise TokenError(f"The token's {claim!r} is none of {', '.join(ROLES)}.")
    return value
