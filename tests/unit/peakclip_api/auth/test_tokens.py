"""A token is a credential only if everything about it is right; whatever else arrives is refused in one sentence."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from issuer import AUDIENCE, ISSUER, NOW, claims, jwk, jwks, private_key, token

from peakclip_api.auth import Credential
from peakclip_api.auth.jwks import ALGORITHMS, parse_jwks
from peakclip_api.auth.tokens import TokenError, TokenRules, UnknownSigningKeyError, Verified, verify

RULES = TokenRules(ISSUER, AUDIENCE, frozenset({"RS256", "ES256", "EdDSA"}), leeway_seconds=30)
KEYS = parse_jwks(jwks(jwk("RS256"), jwk("RS256", 2), jwk("ES256"), jwk("EdDSA"))).keys
CUSTOMER = Credential("t1", "ada", "customer")


def refusal(text: str, rules: TokenRules = RULES, now: float = NOW) -> str:
    with pytest.raises(TokenError) as caught:
        verify(text, KEYS, rules, now)
    said = str(caught.value)
    assert all(
        part not in said for part in text.split(".") if len(part) > 8
    )  # nothing of the token is repeated
    return said


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_right_token_says_who_is_asking(algorithm: str) -> None:
    assert verify(token(algorithm), KEYS, RULES, NOW) == Verified(CUSTOMER, NOW + 630)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_that_can_be_allowed_works(algorithm: str) -> None:
    keys = parse_jwks(jwks(jwk(algorithm))).keys
    rules = replace(RULES, algorithms=frozenset({algorithm}))
    assert verify(token(algorithm), keys, rules, NOW).credential == CUSTOMER


@pytest.mark.parametrize("role", ["customer", "provider", "admin", "service"])
def test_every_role_can_be_given(role: str) -> None:
    assert verify(token(role=role), KEYS, RULES, NOW).credential.role == role


def test_tenant_and_role_can_have_other_names() -> None:
    rules = replace(RULES, tenant_claim="https://shop.test/tenant", role_claim="groups.role")
    text = token(tenant=None, role=None, **{"https://shop.test/tenant": "t9", "groups.role": "provider"})
    assert verify(text, KEYS, rules, NOW).credential == Credential("t9", "ada", "provider")
    assert refusal(token(), rules) == "The token has no claim 'https://shop.test/tenant'."


def test_one_of_several_audiences_is_enough() -> None:
    assert verify(token(aud=["others", AUDIENCE]), KEYS, RULES, NOW).credential == CUSTOMER


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "https://other.test/"}, "The token is of another issuer."),
        ({"iss": ISSUER.rstrip("/")}, "The token is of another issuer."),
        ({"aud": "others"}, "The token is meant for another audience."),
        ({"aud": ["others", AUDIENCE + "x"]}, "The token is meant for another audience."),
        ({"aud": [AUDIENCE, 7]}, "The token is meant for another audience."),
        ({"aud": {AUDIENCE: 1}}, "The token is meant for another audience."),
        ({"role": "root"}, "The token's 'role' is none of customer, provider, admin, service."),
        ({"role": "Admin"}, "The token's 'role' is none of customer, provider, admin, service."),
        ({"role": ["admin"]}, "The token's 'role' is none of customer, provider, admin, service."),
        ({"tenant": ""}, "The token's 'tenant' is not 1 to 128 printable characters."),
        ({"tenant": 5}, "The token's 'tenant' is not 1 to 128 printable characters."),
        ({"tenant": "t1\0"}, "The token's 'tenant' is not 1 to 128 printable characters."),
        ({"sub": "s" * 129}, "The token's 'sub' is not 1 to 128 printable characters."),
        ({"sub": "\ud800"}, "The token's 'sub' is not 1 to 128 printable characters."),
        ({"sub": 5}, "The token is not valid."),
        ({"exp": "1900000000"}, "The token's 'exp' is no time in seconds."),
        ({"exp": True}, "The token's 'exp' is no time in seconds."),
        ({"exp": float("nan")}, "The token's 'exp' is no time in seconds."),
        ({"exp": float("inf")}, "The token's 'exp' is no time in seconds."),
        ({"exp": 10**400}, "The token's 'exp' is no time in seconds."),
        ({"exp": (NOW + 600) * 1000}, "The token's 'exp' is no time in seconds."),
        ({"nbf": [NOW]}, "The token's 'nbf' is no time in seconds."),
        *[({name: None}, f"The token has no claim '{name}'.")
          for name in ("exp", "iss", "aud", "sub", "tenant", "role")],
    ],
)  # fmt: skip
def test_a_claim_that_is_missing_or_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    assert refusal(token(**changes)) == said


def test_the_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    text = token(nbf=NOW)
    for name in ("nbf", "iat"):
        late = token(**{name: int(NOW) + 30})
        assert verify(late, KEYS, RULES, NOW).credential == CUSTOMER
        said = f"The token is not valid yet: its '{name}' is in the future."
        assert refusal(late, now=NOW - 0.001) == said
    assert verify(text, KEYS, RULES, NOW + 629.999).valid_until == NOW + 630
    assert refusal(text, now=NOW + 630) == "The token has expired."


# -- who signed it -----------------------------------------------------------------------------------------


def test_a_key_that_is_not_published_is_told_apart() -> None:
    """The caller then looks whether the issuer has a new key."""
    for text in (token("RS256", 3), token(header={"kid": ""})):
        with pytest.raises(UnknownSigningKeyError, match="a key that the issuer does not publish"):
            verify(text, KEYS, RULES, NOW)
    with pytest.raises(UnknownSigningKeyError):
        verify(token(), (), RULES, NOW)


def test_a_signature_by_another_key_is_wrong() -> None:
    said = "The token's signature is wrong."
    assert refusal(token("RS256", 3, header={"kid": "RS256-1"})) == said
    assert refusal(token("ES256", 2, header={"kid": "ES256-1"})) == said
    head, body, signature = token().split(".")
    other = token(sub="eve").split(".")[1]
    assert refusal(f"{head}.{other}.{signature}") == said
    assert refusal(f"{head}.{body}.") == said


def test_a_token_without_a_key_name_is_taken_only_if_one_key_can_be_meant() -> None:
    assert verify(token("ES256", header={"kid": None}), KEYS, RULES, NOW).credential == CUSTOMER
    assert "does not say which key signed it" in refusal(token(header={"kid": None}))
    with pytest.raises(UnknownSigningKeyError):
        verify(token(header={"kid": None}), KEYS[2:], RULES, NOW)


def test_a_key_in_the_token_itself_is_not_looked_at() -> None:
    own = jwk("RS256", 3)
    assert (
        refusal(token("RS256", 3, header={"jwk": own, "kid": "RS256-1"})) == "The token's signature is wrong."
    )
    for extra in ({"jwk": own}, {"jku": "http://127.0.0.1:1/jwks"}, {"x5u": "http://127.0.0.1:1/x"}):
        with pytest.raises(UnknownSigningKeyError):
            verify(token("RS256", 3, header=extra), KEYS, RULES, NOW)


# -- the algorithm -----------------------------------------------------------------------------------------


def encoded(part: dict[str, Any] | bytes) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(secret: bytes, **head: Any) -> str:
    """An HMAC over what the attacker likes, with the public key as the secret."""
    signed = (
        f"{encoded({'typ': 'JWT', 'alg': 'HS256', 'kid': 'RS256-1', **head})}.{encoded(claims(role='admin'))}"
    )
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def public_texts() -> list[bytes]:
    public = private_key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return [
        pem,
        pem.strip(),
        public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        json.dumps(jwk("RS256")).encode(),
        jwk("RS256")["n"].encode(),
    ]


@pytest.mark.parametrize("secret", public_texts())
def test_an_hmac_keyed_with_the_public_key_is_refused(secret: bytes) -> None:
    not_allowed = "The token is signed with an algorithm that is not allowed."
    assert refusal(forged(secret)) == not_allowed
    # Even if somebody allowed it by mistake, an RSA key is no secret for an HMAC.
    loose = replace(RULES, algorithms=RULES.algorithms | {"HS256"})
    assert refusal(forged(secret), loose) == "The token's algorithm does not fit the key that it names."
    for name in ("RS256", "ES256", "EdDSA"):
        assert refusal(forged(secret, alg=name), loose)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, ["RS256"], {"a": 1}, 5, "HS256", "RS255"])
def test_an_algorithm_that_is_not_allowed_is_refused(name: Any) -> None:
    said = "The token is signed with an algorithm that is not allowed."
    for signature in ("", encoded(b"x" * 256)):
        text = f"{encoded({'alg': name, 'kid': 'RS256-1'})}.{encoded(claims())}.{signature}"
        assert refusal(text) == said


def test_an_algorithm_that_the_issuer_knows_and_we_do_not_allow_is_refused() -> None:
    rules = replace(RULES, algorithms=frozenset({"ES256"}))
    assert refusal(token("RS256"), rules) == "The token is signed with an algorithm that is not allowed."


def test_a_key_serves_for_its_own_algorithm_only() -> None:
    said = "The token's algorithm does not fit the key that it names."
    assert refusal(token("ES256", header={"kid": "RS256-1"})) == said
    wide = replace(RULES, algorithms=ALGORITHMS)
    text = jwt.encode(claims(), private_key("RS256"), "PS256", headers={"kid": "RS256-1"})
    assert refusal(text, wide) == said  # the right key, but it says of itself: RS256


# -- what is no token --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "..", "a.b.c", "a.b", "", "x" * 5000, "é.b.c", f"{token()}.x.y", "=.=.=",
        f"{encoded(b'[]')}.{encoded(claims())}.x",
        f"{encoded(b'{' * 100_000)}.{encoded(claims())}.",
        token(header={"crit": ["x"], "x": 1}),
        token(header={"kid": None})[:-3],
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        verify(text, KEYS, RULES, NOW)


@pytest.mark.parametrize("payload", [b"[]", b"7", b"not json", b'{"exp":', b"\xff", b"[" * 100_000])
def test_a_signed_text_that_holds_no_claims_is_refused(payload: bytes) -> None:
    text = jwt.api_jws.encode(payload, private_key("ES256"), "ES256", headers={"kid": "ES256-1"})
    with pytest.raises(TokenError):
        verify(text, KEYS, RULES, NOW)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None)
@given(
    head=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), _json | st.just("ES256")),
    changes=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "role"]), _json
    ),
)
def test_whatever_is_in_it_the_answer_is_a_credential_or_a_refusal(
    head: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Rightly signed, so that all of it is looked at; never an exception of another kind, which would be a 500."""
    values = json.dumps({**claims(), **changes}).encode()
    signed = f"{encoded({'alg': 'ES256', 'kid': 'ES256-1', **head})}.{encoded(values)}"
    algorithm = jwt.get_algorithm_by_name("ES256")
    text = f"{signed}.{encoded(algorithm.sign(signed.encode(), private_key('ES256')))}"
    try:
        verified = verify(text, KEYS, RULES, NOW)
    except TokenError:
        return
    assert verified.credential.role in ("customer", "provider", "admin", "service")
    assert verified.valid_until > NOW


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_text_is_more_than_refused(head: str, body: str, signature: str) -> None:
    with pytest.raises(TokenError):
        verify(f"{head}.{body}.{signature}", KEYS, RULES, NOW)
