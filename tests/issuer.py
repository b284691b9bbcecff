"""An issuer of tokens: real keys, a JWKS, tokens that are right unless the test says otherwise, and a web server."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER = "https://issuer.test/"
AUDIENCE = "peakclip"
NOW = 1_800_000_000.0

_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def private_key(algorithm: str, number: int = 1, bits: int = 2048) -> Any:
    """The same for the whole run, since making one takes a while; another `number` is another key."""
    return _made(algorithm, number, bits)


@functools.cache
def _made(algorithm: str, number: int, bits: int) -> Any:
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk(algorithm: str = "RS256", number: int = 1, *, bits: int = 2048, **changes: Any) -> dict[str, Any]:
    """The public half, as the issuer publishes it. A change to None leaves the member out."""
    public = private_key(algorithm, number, bits).public_key()
    made = json.loads(get_default_algorithms()[algorithm].to_jwk(public))
    made.pop("key_ops", None)
    made |= {"kid": f"{algorithm}-{number}", "alg": algorithm, "use": "sig", **changes}
    return {name: value for name, value in made.items() if value is not None}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Of a customer. A change to None leaves the claim out."""
    made = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant": "t1", "role": "customer",
        "iat": int(now), "exp": int(now) + 600, **changes,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def token(
    algorithm: str = "RS256",
    number: int = 1,
    *,
    now: float = NOW,
    header: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Signed by that key and naming it. `changes` are claims, `header` changes the header (None leaves out)."""
    head = {"kid": f"{algorithm}-{number}", **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(claims(now, **changes), private_key(algorithm, number), algorithm, headers=head)


class JwksServer:
    """Publishes what `body` holds, as long as `status` is 200, and counts who asks."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.url = ""

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.body, status=self.status, headers=self.headers)


@contextlib.asynccontextmanager
async def jwks_server(body: bytes) -> AsyncIterator[JwksServer]:
    publishing = JwksServer(body)
    app = web.Application()
    app.router.add_get("/jwks.json", publishing._answer)
    async with TestServer(app) as server:
        publishing.url = str(server.make_url("/jwks.json"))
        yield publishing
