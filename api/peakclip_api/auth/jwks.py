"""The keys that an issuer publishes (JWKS, RFC 7517), read strictly: a key serves for what it can serve, or not at all.

What may sign follows from the type of a key, never from what a token says of itself: an RSA key verifies no HMAC,
and a curve has one algorithm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from peakclip.errors import PeakclipError

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_TYPE: Final[Mapping[tuple[str, str], frozenset[str]]] = {  # kty, crv -> what such a key can sign with
    ("RSA", ""): _RSA,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
ALGORITHMS: Final = frozenset().union(*_BY_TYPE.values())
"""All that can be allowed. No `none`, and no HMAC: whoever could verify could sign."""

_LEAST_RSA_BITS: Final = 2048


class JwksError(PeakclipError):
    """The issuer's keys cannot be read."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`public` is cryptography's object; `kid` is None if the issuer gave the key no name."""

    kid: str | None
    algorithms: frozenset[str]
    public: Any


@dataclass(frozen=True, slots=True)
class KeySet:
    """`ignored` says of each key that cannot serve which one it is, and why."""

    keys: tuple[SigningKey, ...]
    ignored: tuple[str, ...]


def parse_jwks(body: bytes) -> KeySet:
    """Raises JwksError if this is no JWKS at all. A key that cannot serve is ignored: others may be for others."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise JwksError("it is not JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise JwksError("it is no JWKS: it has no list `keys`")
    keys, ignored = [], []
    for number, jwk in enumerate(listed, start=1):
        try:
            keys.append(_signing_key(jwk))
        except JwksError as exc:
            name = jwk.get("kid") if isinstance(jwk, dict) else None
            ignored.append(
                f"key {number} ({name}): {exc}" if isinstance(name, str) else f"key {number}: {exc}"
            )
    return KeySet(tuple(keys), tuple(ignored))


def _signing_key(jwk: object) -> SigningKey:
    if not isinstance(jwk, dict):
        raise JwksError("it is no object")
    kid = jwk.get("kid")
    if not isinstance(kid, str | None):
        raise JwksError("its `kid` is no text")
    if "d" in jwk:
        raise JwksError("it is a private key, which nobody should publish")
    if jwk.get("use", "sig") != "sig" or not _may_verify(jwk.get("key_ops")):
        raise JwksError("it is not for signatures")
    algorithms = _algorithms(jwk)
    try:
        public = jwt.PyJWK(jwk, algorithm=min(algorithms)).key
    except jwt.PyJWTError:
        raise JwksError("its parameters are missing or wrong") from None
    if jwk["kty"] == "RSA" and public.key_size < _LEAST_RSA_BITS:
        raise JwksError(f"it is shorter than {_LEAST_RSA_BITS} bits")
    return SigningKey(kid, algorithms, public)


def _may_verify(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _algorithms(jwk: Mapping[str, object]) -> frozenset[str]:
    """What the type allows, or the one of these that the key itself names."""
    kty, crv, alg = jwk.get("kty"), jwk.get("crv", ""), jwk.get("alg")
    if kty == "RSA":
        crv = ""
    possible = _BY_TYPE.get((kty, crv)) if isinstance(kty, str) and isinstance(crv, str) else None
    if possible is None:
        raise JwksError("keys of its type do not sign here")
    if alg is None:
        return possible
    if not isinstance(alg, str) or alg not in possible:
        raise JwksError("its `alg` does not fit its type")
    return frozenset({alg})


def fitting(keys: Sequence[SigningKey], kid: str | None, algorithm: str) -> tuple[SigningKey, ...]:
    """The keys of that name (of any, for None) that can verify the algorithm."""
    return tuple(key for key in keys if kid in (None, key.kid) and algorithm in key.algorithms)
