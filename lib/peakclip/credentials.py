"""API keys: made here, shown once, stored as a hash only."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

ROLES: Final = ("customer", "provider", "admin", "service")
MAX_NAME_LENGTH: Final = 128  # of a subject or a tenant

FRESH_SECONDS: Final = 10.0
"""How long an API process believes what it found out about a key: a revoked one stops at most this much later."""

_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # without I, O and l
_LENGTH: Final = 43  # 43 × log2(59) = 252 bits: guessing is out of the question, so one SHA-256 is enough


def new_key() -> str:
    """A key of letters and digits after `pk_`, so that a double click selects all of it."""
    return "pk_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def hash_key(key: str) -> bytes:
    """SHA-256 of the key. Fast on purpose: the key is random, and every request of a client pays for it."""
    return hashlib.sha256(key.encode()).digest()


def key_id(key: str) -> str:
    """The key's public name: the first 16 hexadecimal digits of its hash."""
    return hash_key(key).hex()[:16]


def is_name(text: object) -> bool:
    """Whether this can be a subject or a tenant: both become customers, rows and log lines."""
    return isinstance(text, str) and 1 <= len(text) <= MAX_NAME_LENGTH and text.isprintable()


async def store_key(pool: Any, key: str, tenant: str, subject: str, role: str) -> None:
    """Makes the key valid; storing it again changes nothing, and never brings a revoked one back.

    `pool` is an asyncpg pool or connection.
    """
    await pool.execute(
        "insert into api_keys (key_hash, key_id, tenant, subject, role) values ($1, $2, $3, $4, $5)"
        " on conflict (key_hash) do nothing",
        hash_key(key),
        key_id(key),
        tenant,
        subject,
        role,
    )
