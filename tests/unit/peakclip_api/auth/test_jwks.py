"""A published key serves for what it can serve, or not at all, and then it is said why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from issuer import jwk, jwks

from peakclip_api.auth.jwks import ALGORITHMS, JwksError, KeySet, fitting, parse_jwks

RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


def test_what_a_key_may_sign_with_follows_from_its_type() -> None:
    published = [jwk(name, alg=None) for name in ("RS256", "ES256", "ES384", "ES512", "EdDSA")]
    found = parse_jwks(jwks(*published))
    assert [key.algorithms for key in found.keys] == [RSA, {"ES256"}, {"ES384"}, {"ES512"}, {"EdDSA"}]
    assert found.ignored == ()
    assert frozenset().union(*(key.algorithms for key in found.keys)) == ALGORITHMS


def test_a_key_that_names_its_algorithm_serves_for_no_other() -> None:
    (key,) = parse_jwks(jwks(jwk("RS256", alg="PS384"))).keys
    assert key.algorithms == {"PS384"}


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}, "keys of its type do not sign here"),
        ({"kid": "x"}, "keys of its type do not sign here"),
        (jwk("ES256", kid="x", crv="secp256k1", alg=None), "keys of its type do not sign here"),
        (jwk("ES256", kid="x", crv=["P-256"]), "keys of its type do not sign here"),
        (jwk("RS256", kid="x", alg="HS256"), "its `alg` does not fit its type"),
        (jwk("RS256", kid="x", alg="ES256"), "its `alg` does not fit its type"),
        (jwk("RS256", kid="x", alg=["RS256"]), "its `alg` does not fit its type"),
        (jwk("ES384", kid="x", alg="ES256"), "its `alg` does not fit its type"),
        (jwk("RS256", kid="x", alg="none"), "its `alg` does not fit its type"),
        (jwk("RS256", kid="x", use="enc"), "it is not for signatures"),
        (jwk("RS256", kid="x", key_ops=["encrypt"]), "it is not for signatures"),
        (jwk("RS256", kid="x", key_ops="verify"), "it is not for signatures"),
        (jwk("RS256", kid="x", d="AQAB"), "it is a private key, which nobody should publish"),
        (jwk("RS256", kid="x", bits=1024), "it is shorter than 2048 bits"),
        (jwk("RS256", kid="x", n=None), "its parameters are missing or wrong"),
        (jwk("RS256", kid="x", e=65537), "its parameters are missing or wrong"),
        (jwk("ES256", kid="x", x="AAAA"), "its parameters are missing or wrong"),
        (jwk("ES256", kid="x", y=jwk("ES256", 2)["y"]), "its parameters are missing or wrong"),
        (jwk("EdDSA", kid="x", x="!"), "its parameters are missing or wrong"),
    ],
)
def test_a_key_that_cannot_serve_is_ignored_and_said_why(key: dict[str, Any], why: str) -> None:
    found = parse_jwks(jwks(jwk("ES256"), key))
    assert [key.kid for key in found.keys] == ["ES256-1"]
    assert found.ignored == (f"key 2 (x): {why}",)


def test_what_is_no_key_at_all_is_ignored_by_its_number() -> None:
    found = parse_jwks(b'{"keys": [7, {"kid": 7, "kty": "RSA"}]}')
    assert found == KeySet((), ("key 1: it is no object", "key 2: its `kid` is no text"))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff", b"[]", b"{}", b'{"keys": {}}', b'{"keys": null}', b"7", b"[" * 100_000]
)
def test_what_is_no_jwks_is_an_error(body: bytes) -> None:
    with pytest.raises(JwksError):
        parse_jwks(body)


def test_an_issuer_may_publish_no_key() -> None:
    assert parse_jwks(b'{"keys": []}') == KeySet((), ())


_junk = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2)


@settings(deadline=None)
@given(
    st.sampled_from(["RS256", "ES256", "EdDSA"]),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "alg", "kid", "use", "n", "e", "x", "y", "key_ops"]), _junk
    ),
)
def test_a_damaged_key_is_ignored_or_serves(algorithm: str, changes: dict[str, Any]) -> None:
    found = parse_jwks(jwks({**jwk(algorithm), **changes}))
    assert len(found.keys) + len(found.ignored) == 1


def test_a_name_may_stand_for_keys_of_several_types() -> None:
    keys = parse_jwks(jwks(jwk("RS256", kid="k"), jwk("ES256", kid="k"), jwk("EdDSA", kid=None))).keys
    assert fitting(keys, "k", "ES256") == (keys[1],)
    assert fitting(keys, "k", "EdDSA") == ()
    assert fitting(keys, None, "EdDSA") == (keys[2],)
    assert fitting(keys, "other", "ES256") == ()
