"""PURE. What client and server tell each other: messages, subjects, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from peakclip.nats_wire import parse_time

SCHEDULE: Final = "Nats-Schedule"
NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Message:
    """On its way. `to`: the subscription it is for, where that is not the one of its subject."""

    subject: str
    payload: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    reply: str = ""
    to: str = ""

    @property
    def target(self) -> str:
        return self.to or self.subject


@dataclass(frozen=True, slots=True)
class Stored:
    seq: int
    subject: str
    payload: bytes
    headers: Mapping[str, str]
    at: float  # epoch seconds


def matches(pattern: str, subject: str) -> bool:
    """
    >>> matches("a.*", "a.b"), matches("a.*", "a.b.c"), matches("a.>", "a.b.c"), matches("a.>", "a"), matches(">", "a")
    (True, False, True, False, True)
    """
    if pattern == subject or pattern == ">":
        return True
    if "*" not in pattern and not pattern.endswith(">"):
        return False
    wanted, given = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given) > place
        if place >= len(given) or token not in ("*", given[place]):
            return False
    return len(wanted) == len(given)


def matches_any(patterns: Sequence[str], subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in patterns)


def header_block(headers: Mapping[str, str]) -> bytes:
    """
    >>> header_block({"A": "b"}), header_block({})
    (b'NATS/1.0\\r\\nA: b\\r\\n\\r\\n', b'')
    """
    if not headers:
        return b""
    return (
        "NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
    ).encode()


def written(at: float) -> str:
    """Epoch seconds as the server writes a time.

    >>> written(1_700_000_000.25)
    '2023-11-14T22:13:20.250000Z'
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def due_at(headers: Mapping[str, str]) -> float | None:
    """Epoch seconds; None where there is no schedule, or none that can be read."""
    pattern = headers.get(SCHEDULE, "")
    if not pattern.startswith("@at "):
        return None
    try:
        return parse_time(pattern[4:])
    except ValueError:
        return None
