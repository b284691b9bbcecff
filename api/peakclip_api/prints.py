"""What a creation's Idempotency-Key becomes: the id of what it creates, and a fingerprint that tells a retry from a
reused key."""

from __future__ import annotations

import hashlib


def derived_id(prefix: str, tenant: str, resource: str, key: str) -> str:
    """The same tenant, resource and key always name the same row, so a retry needs no look-up."""
    return prefix + _hash(f"{tenant}\0{resource}\0{key}".encode(), 10)


def fingerprint(key: str, body: bytes) -> str:
    """16 characters of the key, then 16 of the body."""
    return _hash(key.encode(), 8) + _hash(body, 8)


def same_key(one: str, other: str) -> bool:
    """Whether two fingerprints are of one key."""
    return one[:16] == other[:16]


def _hash(text: bytes, size: int) -> str:
    return hashlib.blake2b(text, digest_size=size).hexdigest()
