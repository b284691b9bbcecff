"""What a dead letter is, and what it is sent back to work as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import OutMessage
from peakclip.messages import Order, decode_frame

DELIVERY: Final = "delivery."  # subjects of deliveries, which live in a table and not in a stream
MAX_QUANTITY: Final = 1_000  # units of a sale in one order: the API accepts no more
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError)


class CannotRedriveError(PeakclipError):
    """This dead letter cannot be sent back to work."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of `dead_letters`. `subject` and `message_id` are those of the first attempt."""

    message_id: str
    pool: str
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    cause: str
    attempts: int
    at: datetime

    @property
    def is_delivery(self) -> bool:
        return self.subject.startswith(DELIVERY)

    @property
    def is_gone(self) -> bool:
        return self.subject.startswith(topology.GONE)

    @property
    def redriven_before(self) -> int:
        text = self.headers.get(topology.REDRIVE_HEADER, "0")
        return int(text) if text.isdecimal() else 0

    @property
    def units(self) -> list[dict[str, Any]]:
        """Of an order only: those of a frame that could not be read have been given back by the reconciler."""
        return units_of(self.orders) if self.pool == topology.ORDERS_POOL else []

    @property
    def orders(self) -> list[Order]:
        """The accepted orders inside: one, those of a frame, or none."""
        if self.pool not in (topology.ORDERS_POOL, topology.RELAY):
            return []
        try:
            return decode_frame(self.payload)
        except _UNREADABLE:
            return []


def units_of(orders: Iterable[Order]) -> list[dict[str, Any]]:
    """What such orders of sales took from their admission counters: {order_id, sale_id, quantity}. An order that was
    accepted has a UUID and a quantity within bounds; what has not is a poison message and took nothing."""
    return [
        {"order_id": order.order_id, "sale_id": order.sale_id, "quantity": order.quantity}
        for order in orders
        if order.sale_id and 1 <= order.quantity <= MAX_QUANTITY and _UUID.fullmatch(order.order_id)
    ]


def redriven(letter: Letter) -> OutMessage:
    """The message that begins anew, with all its attempts. Raises CannotRedriveError if it would be for nothing.

    It comes back on its pool's retry subject, so that nobody else who reads the stream takes it for something new; a
    frame becomes a frame of its own, with orders of their own places. Its id is one of this redrive: the same again
    counts once, and is no repeat of what died. The first id stays with it, so that a second death is the same row.
    """
    number = letter.redriven_before + 1
    headers = {
        **{key: value for key, value in letter.headers.items() if not key.startswith("Nats-")},
        topology.MESSAGE_ID_HEADER: letter.message_id,
        topology.SUBJECT_HEADER: letter.subject,
        topology.REDRIVE_HEADER: str(number),
        "Nats-Msg-Id": f"{letter.message_id}:redrive:{number}",
    }
    headers.pop(topology.ATTEMPT_HEADER, None)
    if letter.is_gone:
        raise CannotRedriveError(
            "its message had left the stream before it could be kept: there is nothing to send"
        )
    if letter.pool == topology.RELAY:
        if not letter.orders:
            raise CannotRedriveError("this version cannot read the frame either: it would only come back")
        headers["Nats-Expected-Last-Subject-Sequence"] = "0"  # a frame is created once
        return OutMessage(f"{letter.subject}.redrive.{number}", letter.payload, headers)
    if letter.pool not in topology.POOLS:
        raise CannotRedriveError(f"there is no pool {letter.pool}")
    return OutMessage(topology.retry_subject(letter.pool), letter.payload, headers)


def what_is_lost(letter: Letter) -> str:
    """What nobody has any more once this letter is dropped, in words."""
    if letter.is_gone:
        return "nothing more: its message is gone already."
    if letter.is_delivery:
        channel = letter.subject.removeprefix(DELIVERY)
        return f"this notification never leaves by {channel}. In the list of notifications it stays."
    if letter.pool == topology.RELAY and not letter.orders:
        number = letter.headers.get(topology.FRAME_ORDERS_HEADER, "an unknown number of")
        return f"a frame of {number} orders that were accepted (202), and that this version cannot read."
    if letter.orders:
        return "accepted orders (202) that never become rows: " + "; ".join(map(_order, letter.orders)) + "."
    if letter.pool == topology.ORDERS_POOL:
        return "perhaps an accepted order (202): the message cannot be read."
    if letter.pool == topology.EFFECTS_POOL:
        return f"what {letter.subject} {letter.message_id} brings about: audit trail, figures, notifications."
    if letter.pool == topology.REAPER_POOL:
        return "nothing: an order that is due is found again."
    return f"whatever the pool {letter.pool} would have done with it."


def _order(order: Order) -> str:
    what = f"{order.quantity} of sale {order.sale_id}" if order.sale_id else "a booking"
    at = datetime.fromtimestamp(order.accepted_at, UTC).isoformat(timespec="seconds")
    return f"{order.order_id} of {order.customer_id}, {what}, accepted {at}"
