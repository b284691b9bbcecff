"""Which effects an event calls for: the auditor's own knowledge of it, not the worker's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import msgspec


class Body(msgspec.Struct, frozen=True):
    """What an event tells, as far as effects depend on it."""

    order_id: str
    version: int | None = None
    review_id: str | None = None
    rating: int | None = None
    sale_id: str | None = None
    provider_id: str | None = None
    latitude: float | None = None
    longitude: float | None = None


_FIGURES: Final = {"order.created", "order.completed", "order.cancelled", "order.paid", "review.created"}
_decode: Final = msgspec.json.Decoder(Body).decode

_RULES: Final[Mapping[str, Callable[[str, Body], bool]]] = {
    "audit": lambda subject, _: _is_order(subject),
    "daily-figures": lambda subject, _: subject in _FIGURES,
    "provider-statistics": lambda subject, body: (
        subject in ("order.completed", "review.created") and body.provider_id is not None
    ),
    "ticket": lambda subject, body: (
        subject == "review.created" and body.rating is not None and body.rating <= 2
    ),
    "notify-customer": lambda subject, _: _is_order(subject) or subject == "review.replied",
    "notify-provider": lambda subject, body: (
        subject in ("order.cancelled", "review.created") and body.provider_id is not None
    ),
    "notify-providers": lambda subject, body: (
        subject == "order.created"
        and body.sale_id is None
        and body.latitude is not None
        and body.longitude is not None
    ),
}


def _is_order(subject: str) -> bool:
    return subject.startswith("order.")


def read_event(subject: str, payload: bytes) -> tuple[str, frozenset[str]]:
    """The event's id and the effects that it calls for. Raises msgspec.MsgspecError or UnicodeDecodeError."""
    body = _decode(payload)
    payload.decode()
    if _is_order(subject):
        if body.version is None:
            raise msgspec.ValidationError("an order's event has no version")
        event_id = f"{body.order_id}:{body.version}"
    else:
        if body.review_id is None:
            raise msgspec.ValidationError("a review's event has no review_id")
        event_id = f"{body.review_id}:{subject.partition('.')[2]}"
    return event_id, _one(frozenset(name for name, rule in _RULES.items() if rule(subject, body)))


@cache
def _one(effects: frozenset[str]) -> frozenset[str]:
    """There are a dozen of them, for any number of events."""
    return effects


def transition_of(event_id: str) -> tuple[str, int] | None:
    """Order and version of an order's event; None for a review's.

    >>> transition_of("c0ffee:3"), transition_of("r1:created")
    (('c0ffee', 3), None)
    """
    order_id, _, version = event_id.rpartition(":")
    return (order_id, int(version)) if version.isascii() and version.isdigit() else None
