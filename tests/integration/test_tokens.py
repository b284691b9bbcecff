"""Tokens over HTTP: a real API, a real database, and an issuer that publishes its keys on a real web server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from conftest import _create, wipe
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from issuer import AUDIENCE, ISSUER, JwksServer, claims, jwk, jwks, jwks_server, private_key
from issuer import token as token_at
from support import SERVICE_KEY, Answer, Api, api_process, new_name, sale_request, store_keys, until

from peakclip import streams
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip_api import keys
from peakclip_api.auth.jwks import JwksError
from peakclip_api.auth.signing import MOST_BYTES, read_url

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

PUBLISHED = jwks(jwk("RS256"), jwk("ES256"), jwk("EdDSA"))
ROTATED = jwks(jwk("RS256", 2))
RULES = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


def token(algorithm: str = "RS256", number: int = 1, **changes: Any) -> str:
    return token_at(algorithm, number, now=time.time(), **changes)


class Shop:
    """An API with an open sale of the tenant t1, and its issuer."""

    def __init__(self, api: Api, issuer: JwksServer, sale_id: str, servers: tuple[str, str]) -> None:
        self.api = api
        self.issuer = issuer
        self.sale_id = sale_id
        self.servers = servers

    async def order(self, text: str, api: Api | None = None, **headers: str) -> Answer:
        return await (api or self.api).call(
            "POST", f"/v1/sales/{self.sale_id}/orders", key=text, json={},
            headers={"Idempotency-Key": new_name("token-"), **headers},
        )  # fmt: skip

    async def refused(self, text: str, detail: str) -> None:
        """401 with that detail, on the way of an order and on any other; nothing is logged, so nothing of it."""
        with structlog.testing.capture_logs() as logged:
            for answer in (
                await self.order(text),
                await self.api.call("GET", f"/v1/sales/{self.sale_id}", key=text),
            ):
                assert (answer.status, answer.kind, answer.body["detail"]) == (401, "unauthorized", detail)
                assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert logged == []

    @contextlib.asynccontextmanager
    async def another(self, source: str) -> AsyncIterator[Api]:
        """Another API process, which reads the keys there."""
        async with api_process(*self.servers, **RULES, jwt_jwks=source) as api:
            yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(nats_server: NatsServer, postgres_server: PostgresServer) -> AsyncIterator[Shop]:
    await nats_server.start()
    await postgres_server.start()
    name = f"tokens_{secrets.token_hex(4)}"
    await _create(postgres_server, name)
    servers = (nats_server.url, postgres_server.url_of(name))
    async with (
        await JetStream.connect(nats_server.url, name="test") as js,
        asyncpg.create_pool(servers[1], min_size=1, max_size=2) as pool,
        jwks_server(PUBLISHED) as issuer,
    ):
        await wipe(js)
        await streams.ensure(js)
        await store_keys(pool)
        async with api_process(*servers, **RULES, jwt_jwks=issuer.url) as api:
            yield Shop(api, issuer, await api.sale(stock=1000, limit=1000), servers)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_customer_orders_with_a_token_and_sees_the_order(shop: Shop, algorithm: str) -> None:
    text = token(algorithm, sub=f"ada-{algorithm}")
    first = await shop.order(text)
    assert first.status == 202, first.text
    # Now it is remembered, as the express lane wants it.
    assert shop.api.app[keys.KEYS].remembered(f"Bearer {text}").subject == f"ada-{algorithm}"
    assert (await shop.order(text)).status == 202
    order = await shop.api.call("GET", first.headers["Location"], key=text)
    assert (order.status, order.body["customer_id"]) == (200, f"ada-{algorithm}")
    others = await shop.api.call("GET", first.headers["Location"], key=token(algorithm, sub="eve"))
    assert (others.status, others.kind) == (404, "order-not-found")


async def test_the_customer_is_the_tokens_and_only_a_service_names_one(shop: Shop) -> None:
    own = await shop.order(token(sub="ada"), **{"Peakclip-Customer": "eve"})
    seen = await shop.api.call("GET", own.headers["Location"], key=token(sub="ada"))
    assert seen.body["customer_id"] == "ada"
    service = token(sub="storefront", role="service")
    assert (await shop.order(service)).kind == "customer-required"
    named = await shop.order(service, **{"Peakclip-Customer": "bob"})
    assert (await shop.api.call("GET", named.headers["Location"], key=token(sub="bob"))).status == 200


@pytest.mark.parametrize("role", ["customer", "provider", "admin", "service"])
async def test_a_role_may_what_it_may_with_a_key(shop: Shop, role: str) -> None:
    made = await shop.api.call(
        "POST", "/v1/sales", key=token(role=role), json=sale_request(), headers={"Idempotency-Key": new_name("s-")}
    )  # fmt: skip
    assert (made.status, made.kind) == ((201, None) if role == "admin" else (403, "forbidden"))
    if role in ("provider", "admin"):
        assert (await shop.order(token(role=role))).kind == "forbidden"


async def test_another_tenant_sees_nothing(shop: Shop) -> None:
    order = await shop.order(token(sub="ada"))
    for role in ("customer", "service", "admin", "provider"):
        text = token(sub="ada", role=role, tenant="t2")
        seen = await shop.api.call("GET", order.headers["Location"], key=text)
        assert (seen.status, seen.kind) == (404, "order-not-found")
        sale = await shop.api.call("GET", f"/v1/sales/{shop.sale_id}", key=text)
        assert (sale.status, sale.kind) == (404, "sale-not-found")
    placed = await shop.order(token(sub="ada", tenant="t2"))
    assert (placed.status, placed.kind) == (404, "sale-not-found")


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"exp": 1_600_000_000}, "The token has expired."),
        ({"nbf": 4_000_000_000}, "The token is not valid yet: its 'nbf' is in the future."),
        ({"iat": 4_000_000_000}, "The token is not valid yet: its 'iat' is in the future."),
        ({"iss": "https://other.test/"}, "The token is of another issuer."),
        ({"aud": "others"}, "The token is meant for another audience."),
        *[({name: None}, f"The token has no claim '{name}'.")
          for name in ("exp", "iss", "aud", "sub", "tenant", "role")],
        ({"role": "root"}, "The token's 'role' is none of customer, provider, admin, service."),
        ({"sub": "a\0b"}, "The token's 'sub' is not 1 to 128 printable characters."),
        ({"exp": 10**400}, "The token's 'exp' is no time in seconds."),
        ({"header": {"kid": "unknown"}}, "The token is signed with a key that the issuer does not publish."),
        ({"number": 3, "header": {"kid": "RS256-1"}}, "The token's signature is wrong."),
        ({"number": 3, "header": {"jwk": jwk("RS256", 3)}},
         "The token is signed with a key that the issuer does not publish."),
        ({"header": {"kid": "ES256-1"}}, "The token's algorithm does not fit the key that it names."),
        ({"algorithm": "ES384"}, "The token is signed with an algorithm that is not allowed."),
        ({"header": {"crit": ["x"], "x": 1}}, "The token cannot be read as a signed JWT."),
    ],
)  # fmt: skip
async def test_a_bad_token_is_refused_with_its_reason(
    shop: Shop, changes: dict[str, Any], detail: str
) -> None:
    await shop.refused(token(**changes), detail)


def encoded(part: Mapping[str, Any] | bytes) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_public_key_is_no_secret_to_sign_with(shop: Shop) -> None:
    """The attack on verifiers that let the token choose the algorithm."""
    public = private_key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encoded({'alg': 'HS256', 'kid': 'RS256-1'})}.{encoded(claims(time.time(), role='admin'))}"
    text = f"{signed}.{encoded(hmac.digest(pem, signed.encode(), hashlib.sha256))}"
    await shop.refused(text, "The token is signed with an algorithm that is not allowed.")


@pytest.mark.parametrize("name", ["none", "None", "NonE", ""])
async def test_a_token_that_nobody_signed_is_refused(shop: Shop, name: str) -> None:
    body = encoded(claims(time.time(), role="admin"))
    for signature in ("", encoded(b"x")):
        text = f"{encoded({'alg': name, 'kid': 'RS256-1'})}.{body}.{signature}"
        await shop.refused(text, "The token is signed with an algorithm that is not allowed.")


@pytest.mark.parametrize(
    "text", ["..", "a.b.c", ".".join("x" * 2500 for _ in range(3)), f"{encoded(b'[' * 2000)}.e30.e30"]
)
async def test_what_is_no_token_is_refused(shop: Shop, text: str) -> None:
    await shop.refused(text, "The token cannot be read as a signed JWT.")


async def test_keys_and_tokens_work_side_by_side(shop: Shop) -> None:
    assert (await shop.order(SERVICE_KEY, **{"Peakclip-Customer": "bob"})).status == 202
    unknown = await shop.order("pk_unknown")
    assert (unknown.status, unknown.body["detail"]) == (401, "This key is not known or was revoked.")


async def test_without_settings_no_token_is_taken(shop: Shop) -> None:
    async with api_process(*shop.servers) as api:
        answer = await shop.order(token(), api)
        assert (answer.status, answer.kind) == (401, "unauthorized")
        assert answer.body["detail"] == "Send `Authorization: Bearer pk_…`."


async def test_made_up_key_names_are_not_passed_on_to_the_issuer(shop: Shop) -> None:
    asked, began = shop.issuer.asked, time.monotonic()
    for number in range(100):
        answer = await shop.order(token("ES256", header={"kid": f"made-up-{number}"}))
        assert answer.status == 401
    assert shop.issuer.asked - asked <= 1 + (time.monotonic() - began) / 5


# -- the issuer's keys change, or the issuer is away -------------------------------------------------------


async def answered(shop: Shop, api: Api, text: str, status: int) -> Answer:
    """The first answer of that status; a look at the issuer is at most 5 s away."""

    async def told() -> Answer | None:
        answer = await shop.order(text, api)
        assert answer.status in (202, 401, 503), answer.text
        return answer if answer.status == status else None

    found: Answer = await until(told, pause=0.1)
    return found


@pytest.mark.parametrize("source", ["url", "file"])
async def test_the_issuer_changes_its_key(shop: Shop, source: str, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(PUBLISHED)
    async with (
        jwks_server(PUBLISHED) as issuer,
        shop.another(issuer.url if source == "url" else str(path)) as api,
    ):
        assert (await shop.order(token(), api)).status == 202
        issuer.body = ROTATED
        path.write_bytes(ROTATED)
        await answered(shop, api, token("RS256", 2), 202)
        old = await shop.order(token(sub="late"), api)  # right in everything, but its key was withdrawn
        assert old.status == 401
        assert old.body["detail"] == "The token is signed with a key that the issuer does not publish."


@pytest.mark.parametrize("failure", [500, "garbage"])
async def test_the_last_good_keys_serve_while_the_issuer_is_away(shop: Shop, failure: int | str) -> None:
    async with jwks_server(PUBLISHED) as issuer, shop.another(issuer.url) as api:
        assert (await shop.order(token(), api)).status == 202
        if isinstance(failure, int):
            issuer.status = failure
        else:
            issuer.body = b"<html>maintenance</html>"
        refused = await answered(shop, api, token("RS256", 2), 503)
        assert refused.kind == "issuer-unavailable"
        assert refused.headers["Retry-After"] == "1"
        assert (await shop.order(token(sub="new"), api)).status == 202
        assert api.service.missing() == []  # still ready


async def test_an_issuer_that_is_away_at_the_start_keeps_no_key_from_working(shop: Shop) -> None:
    async with jwks_server(ROTATED) as issuer:
        issuer.status = 503
        async with shop.another(issuer.url) as api:
            assert (await shop.order(token("RS256", 2), api)).kind == "issuer-unavailable"
            by_key = await shop.order(SERVICE_KEY, api, **{"Peakclip-Customer": "bob"})
            assert by_key.status == 202
            assert api.service.missing() == []
            issuer.status = 200
            await answered(shop, api, token("RS256", 2), 202)
    async with shop.another(issuer.url) as api:  # its port is closed now
        assert (await shop.order(token("RS256", 2), api)).kind == "issuer-unavailable"


async def test_only_a_plain_answer_of_sensible_size_is_read(shop: Shop) -> None:
    async with jwks_server(PUBLISHED) as issuer:
        assert await read_url(issuer.url) == PUBLISHED
        issuer.body = b" " * (MOST_BYTES + 1)
        with pytest.raises(JwksError, match="larger than"):
            await read_url(issuer.url)
        issuer.status, issuer.headers = 307, {"Location": shop.issuer.url}
        with pytest.raises(JwksError, match="it answered 307"):
            await read_url(issuer.url)
