"""Signatures as the specification has them, and secrets that tell nothing of one another."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from peakclip_worker.channels.signature import keys_of, receiver_key, secret_text, sign
from peakclip_worker.webhook_secret import command

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_example_of_the_specification() -> None:
    signed = sign(keys_of(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text("abc-0", min_size=1), st.integers(0, 2**40), st.binary())
def test_a_receiver_computes_the_same(key: bytes, message_id: str, timestamp: int, body: bytes) -> None:
    version, _, signature = sign([key], message_id, timestamp, body).partition(",")
    mac = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    assert (version, base64.b64decode(signature)) == ("v1", mac.digest())


def test_two_keys_give_two_signatures_beside_each_other() -> None:
    new, old = b"n" * 32, b"o" * 32
    both = keys_of(f"{secret_text(new)} {secret_text(old)}")
    assert both == (new, old)
    assert sign(both, "m", 1, b"{}").split() == [sign([new], "m", 1, b"{}"), sign([old], "m", 1, b"{}")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_c2hvcnQ=",
        "whsec_!",
        f"{SECRET} whsec_x",
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as refused:
        keys_of(text)
    assert not any(word in str(refused.value) for word in text.split() if len(word) > 6)


def test_receivers_have_secrets_of_their_own() -> None:
    (key,) = keys_of(SECRET)
    keys = {receiver_key(key, *one) for one in (("t1", "ada"), ("t1", "bob"), ("t2", "ada"), ("t1a", "da"))}
    assert len(keys | {key}) == 5
    assert keys_of(secret_text(receiver_key(key, "t1", "ada"))) == (receiver_key(key, "t1", "ada"),)


def test_the_command_prints_what_a_receiver_verifies_with() -> None:
    both = f"{SECRET} {secret_text(b'o' * 24)}"
    done = CliRunner().invoke(command, ["t1", "ada"], env={"PEAKCLIP_WEBHOOK_SECRET": both})
    assert done.output.split() == [secret_text(receiver_key(key, "t1", "ada")) for key in keys_of(both)]
    off = CliRunner().invoke(command, ["t1", "ada"], env={"PEAKCLIP_WEBHOOK_SECRET": ""})
    assert off.exit_code == 1
    assert "PEAKCLIP_WEBHOOK_SECRET" in off.output
