"""What the effects of events say on Core NATS: a notification for a user, and which orders have moved on.

Both are hints, sent at most once: the table `notifications` and the audit trail `order_history` hold everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

Audience: TypeAlias = Literal["customer", "provider"]


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One notification, on `notification.push.<user>`. The subject names no tenant, so a reader looks at it here.

    A user's numbers are 1, 2, 3, …: who knows n and gets n + 2 has missed one. Ids grow in the same order.
    """

    notification_id: int
    number: int
    tenant: str
    audience: Audience  # customers and providers are different people even under the same id
    user_id: str
    kind: str  # the subject of the event it tells of
    title: str
    body: str
    data: dict[str, Any]
    at: datetime


OrderVersion: TypeAlias = tuple[str, int]  # order id, version

_encoder: Final = msgspec.json.Encoder()
_notification: Final = msgspec.json.Decoder(Notification)
_trail: Final = msgspec.json.Decoder(list[OrderVersion])


def encode_notification(notification: Notification) -> bytes:
    return _encoder.encode(notification)


def decode_notification(body: bytes) -> Notification:
    """Raises msgspec.DecodeError or msgspec.ValidationError."""
    return _notification.decode(body)


def encode_trail(versions: Iterable[OrderVersion]) -> bytes:
    """Which transitions the audit trail holds now."""
    return _encoder.encode(list(versions))


def decode_trail(body: bytes) -> list[OrderVersion]:
    """Raises msgspec.DecodeError or msgspec.ValidationError."""
    return _trail.decode(body)
