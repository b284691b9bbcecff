"""What is sent, and what an attempt may end in."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from peakclip.errors import PeakclipError


class Delivery(msgspec.Struct, frozen=True):
    """One notification for one user by one channel. As JSON it is the payload of a dead letter."""

    delivery_id: str  # UUID text, the same at every attempt: the idempotency key for the far side
    notification_id: int
    tenant: str
    user_id: str
    channel: str
    address: str  # a URL, or an e-mail address
    kind: str  # what happened: order.accepted, review.replied
    title: str
    body: str
    data: msgspec.Raw  # a JSON object, taken on as it is: what is in it cannot fail here
    created_at: datetime  # with a zone
    attempt: int  # of this time; the first is 1


class DeliveryError(PeakclipError):
    """The delivery has not arrived."""


class DeliveryRefusedError(DeliveryError):
    """The far side said no for good: the same again would get the same answer."""


class DeliveryFailedError(DeliveryError):
    """This attempt did not work, or nobody knows whether it did; another one may.

    `retry_after_seconds`: what the far side asked for.
    """

    def __init__(self, message: str | None = None, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Channel(Protocol):
    """One way out."""

    async def send(self, delivery: Delivery) -> None:
        """Makes one attempt, within seconds. Returns when the far side has taken the delivery over.

        Raises DeliveryRefusedError or DeliveryFailedError. Messages hold no secret and may be logged.
        """
