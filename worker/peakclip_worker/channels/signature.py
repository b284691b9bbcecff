"""Signatures of webhooks, after the Standard Webhooks specification (symmetric, `v1`).

Each receiver has a secret of its own, derived from the installation's: whoever can verify can also sign, so with one
secret for all a receiver could write to the others in Peakclip's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64  # of a key, by the specification


def keys_of(text: str) -> tuple[bytes, ...]:
    """The keys in `whsec_<base64>`, or in several of them with spaces in between.

    Raises ValueError, without repeating the text.
    """
    keys = tuple(_key_of(word) for word in text.split())
    if not keys:
        raise ValueError("no secret in it")
    return keys


def _key_of(word: str) -> bytes:
    wrong = f"a secret is {PREFIX} and the base64 of {LEAST_BYTES} to {MOST_BYTES} random bytes"
    if not word.startswith(PREFIX):
        raise ValueError(wrong)
    try:
        key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(wrong) from None
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(wrong)
    return key


def secret_text(key: bytes) -> str:
    """As a receiver puts it into the library that verifies."""
    return PREFIX + base64.b64encode(key).decode()


def receiver_key(key: bytes, tenant: str, user_id: str) -> bytes:
    """The key of one receiver: it tells nothing about the installation's nor about another receiver's."""
    return hmac.digest(key, f"peakclip-webhook\0{tenant}\0{user_id}".encode(), hashlib.sha256)


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature per key, so that keys can be replaced while both are in use."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys
    )
