"""The settings of tokens: complete and safe, or one sentence and exit 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from issuer import AUDIENCE, ISSUER, jwk, jwks

from peakclip_api.auth.tokens import TokenRules
from peakclip_api.settings import ApiSettings

URL = "https://issuer.test/jwks.json"
COMPLETE = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "JWKS": URL}


def given(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    monkeypatch.setenv("PEAKCLIP_DATABASE_URL", "postgresql://app:s3cret@127.0.0.1/x")
    for name, value in values.items():
        monkeypatch.setenv(f"PEAKCLIP_JWT_{name}", value)


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        ApiSettings.load()
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "s3cret" not in message
    return message


def test_without_an_issuer_there_are_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch)
    assert ApiSettings.load().token_rules() is None
    given(monkeypatch, ISSUER="", AUDIENCE=" ", JWKS="")  # as a file of variables says it
    assert ApiSettings.load().token_rules() is None


def test_what_tokens_must_say(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, **COMPLETE)
    usual = TokenRules(ISSUER, AUDIENCE, frozenset({"RS256", "ES256", "EdDSA"}), "tenant", "role", 30.0)
    assert ApiSettings.load().token_rules() == usual
    given(
        monkeypatch, ALGORITHMS=" ES384 , PS256,", TENANT_CLAIM="org", ROLE_CLAIM="https://x/role", LEEWAY_SECONDS="0"
    )  # fmt: skip
    other = TokenRules(ISSUER, AUDIENCE, frozenset({"ES384", "PS256"}), "org", "https://x/role", 0.0)
    assert ApiSettings.load().token_rules() == other


@pytest.mark.parametrize("missing", sorted(COMPLETE))
@pytest.mark.parametrize("blank", [True, False])
def test_a_part_of_the_settings_is_not_enough(
    missing: str, blank: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, **{name: value for name, value in COMPLETE.items() if name != missing})
    if blank:
        given(monkeypatch, **{missing: ""})
    said = refused(capsys)
    assert f"tokens need issuer, audience and JWKS; missing: PEAKCLIP_JWT_{missing} (got" in said


def test_all_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, AUDIENCE=AUDIENCE)
    assert "missing: PEAKCLIP_JWT_ISSUER, PEAKCLIP_JWT_JWKS" in refused(capsys)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALGORITHMS", "none", "none is refused"),
        ("ALGORITHMS", "RS256,NONE", "none is refused"),
        ("ALGORITHMS", "RS256, HS256", "HS256 is refused"),
        ("ALGORITHMS", "hs512", "hs512 is refused"),
        ("ALGORITHMS", "", "choose from ES256, ES384, ES512, EdDSA, PS256"),
        ("ALGORITHMS", "rs256", "choose from"),
        ("ALGORITHMS", "RS256;ES256", "choose from"),
        ("ALGORITHMS", '["RS256"]', "choose from"),
        ("LEEWAY_SECONDS", "-1", "greater than or equal to 0"),
        ("LEEWAY_SECONDS", "3600", "less than or equal to 300"),
        ("ROLE_CLAIM", "", "at least 1 character"),
        ("TENANT_CLAIM", "", "at least 1 character"),
        ("JWKS", "ftp://issuer.test/jwks", "an address begins with https:// or http://"),
        ("JWKS", "https:///jwks", "an address has a host"),
        ("JWKS", "https://app:s3cret@issuer.test/jwks", "neither user nor password"),
        ("JWKS", "https://s3cret@issuer.test/jwks", "neither user nor password"),
        ("JWKS", "https://app:s3/cret@s3cret@issuer.test/jwks", "PEAKCLIP_JWT_JWKS"),
        ("JWKS", "https://issuer.test:port/jwks", "PEAKCLIP_JWT_JWKS"),
        ("JWKS", "/nonexistent/jwks.json", "the file cannot be read: No such file or directory"),
        ("JWKS", "/", "the file cannot be read: Is a directory"),
    ],
)
def test_a_wrong_value_is_named(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, **{**COMPLETE, name: value})
    message = refused(capsys)
    assert message.startswith(f"PEAKCLIP_JWT_{name}: ")
    assert said in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no", "the file cannot be used: it is not JSON"),
        (b"{}", "the file cannot be used: it is no JWKS: it has no list `keys`"),
        (b'{"keys": []}', "the file holds no key that can serve (it is empty)"),
        (json.dumps({"keys": [{"kty": "oct", "kid": "a"}]}).encode(),
         "the file holds no key that can serve (key 1 (a): keys of its type do not sign here)"),
    ],
)  # fmt: skip
def test_a_file_without_a_usable_key_ends_the_start(
    body: bytes,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(body)
    given(monkeypatch, **{**COMPLETE, "JWKS": str(path)})
    assert said in refused(capsys)
    path.write_bytes(jwks(jwk("ES256")))
    assert ApiSettings.load().jwt_jwks == str(path)
