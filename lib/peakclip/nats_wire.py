"""PURE. What JetStream is told and answers, as values: messages, acknowledgements, states; and their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import unquote, urlsplit

import msgspec

from peakclip.errors import RefusedError

_INBOX: Final = "_INBOX"  # the client's own default


@dataclass(frozen=True, slots=True)
class PubAck:
    seq: int
    duplicate: bool = False
    value: int | None = None  # a counter's value after the increment; absent on a duplicate


@dataclass(frozen=True, slots=True)
class OutMessage:
    subject: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    seq: int
    subject: str
    payload: bytes
    headers: Mapping[str, str]
    at: float  # epoch seconds, the server's clock


@dataclass(frozen=True, slots=True)
class StreamState:
    messages: int
    size_bytes: int
    first_seq: int
    last_seq: int
    server_time: float  # epoch seconds on the leader at the moment of the answer
    config: Mapping[str, Any]
    created: float = 0.0  # epoch seconds; another value: another stream, its counters start again at nothing


@dataclass(frozen=True, slots=True)
class ConsumerState:
    pending: int  # not yet delivered
    ack_pending: int  # delivered, not yet acknowledged
    redelivered: int
    waiting: int
    ack_floor_seq: int  # every message of the stream up to here is finished
    delivered_seq: int


class Login(TypedDict, total=False):
    user: str
    password: str
    token: str


def login_of(url: str) -> Login:
    """What the client is to show to every server of a cluster, also to those that it hears of later: left in the
    address, it would be shown to the first one only. A name without a password is a token."""
    parts = urlsplit(url.partition(",")[0])
    name, password = (unquote(part or "") for part in (parts.username, parts.password))
    if name and password:
        return {"user": name, "password": password}
    return {"token": name} if name else {}


def user_of(url: str) -> str:
    """The user in an address; empty if it has none, or one that cannot be a part of a subject."""
    user = login_of(url).get("user", "")
    return user if user.isascii() and user.replace("-", "").replace("_", "").isalnum() else ""


def inbox_of(user: str) -> str:
    """First part of the subjects on which a user hears answers: apart from all others, if it has a name."""
    return f"{_INBOX}_{user}" if user else _INBOX


def parse_time(text: str) -> float:
    """RFC 3339 with up to nine decimals, as NATS writes it, to epoch seconds.

    The fraction is taken apart by hand because `datetime` keeps six digits only.
    """
    head, _, tail = text.partition(".")
    digits = tail.rstrip("Z").split("+")[0].split("-")[0]
    zone = tail[len(digits) :] if tail else ""
    stamp = datetime.fromisoformat((head + zone).replace("Z", "+00:00")).timestamp()
    return stamp + (float("0." + digits) if digits else 0.0)


def puback(body: bytes) -> PubAck:
    """The answer to a publication. Raises RefusedError when the server did not store it."""
    answer = msgspec.json.decode(body)
    if error := answer.get("error"):
        raise RefusedError(error.get("err_code", 0), error.get("description", "JetStream refused"))
    value = answer.get("val")
    return PubAck(answer["seq"], answer.get("duplicate", False), int(value) if value is not None else None)


def stored(message: Mapping[str, Any]) -> StoredMessage:
    """A message as `STREAM.MSG.GET` answers it."""
    return StoredMessage(
        seq=message["seq"],
        subject=message["subject"],
        payload=_base64(message.get("data")),
        headers=_headers(_base64(message.get("hdrs"))),
        at=parse_time(message["time"]),
    )


def hpub(message: OutMessage, extra: Mapping[str, str]) -> bytes:
    """The command that publishes a message with headers, its own and `extra`."""
    lines = "".join(f"{key}: {value}\r\n" for key, value in (*message.headers.items(), *extra.items()))
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(head)
    command = f"HPUB {message.subject} {size} {size + len(message.payload)}\r\n".encode()
    return b"".join((command, head, message.payload, b"\r\n"))


def _base64(text: str | None) -> bytes:
    return msgspec.convert(text or "", bytes) if text else b""


def _headers(block: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.decode().split("\r\n")[1:] if line)
    return {key.strip(): value.strip() for key, _, value in pairs}
