"""What is read from messages and webhooks, as the reference pages describe them."""

from __future__ import annotations

import msgspec
from faults.history.facts import Delivery, Event
from faults.history.fetch import delivery, event_of
from receivers import Call

from peakclip.jetstream import StoredMessage


def test_an_event_is_read_with_what_it_calls_for() -> None:
    body = {
        "order_id": "o", "tenant": "t", "customer_id": "ada", "sale_id": "s", "quantity": 1, "status": "paid",
        "version": 2, "at": "2026-11-25T12:00:00.5+00:00",
    }  # fmt: skip
    message = StoredMessage(
        subject="order.paid", payload=msgspec.json.encode(body), headers={"Nats-Msg-Id": "o:2"}, seq=7, at=9.0
    )
    calls_for = frozenset({"audit", "daily-figures", "notify-customer"})
    assert event_of(message) == Event(
        7, "o:2", "order.paid", "o", 2, "paid", 1_795_608_000.5, 9.0, calls_for, "o:2"
    )


def test_a_webhook_is_about_an_order_or_a_review() -> None:
    def called(kind: str) -> Call:
        told = {"data": {"order_id": "o", "review_id": "r"}}
        return Call("/", {}, {"type": kind, "subject": "ada", "data": told}, "k", verified=True, at=5.0)

    assert delivery(called("order.paid")) == Delivery("k", "order.paid", "ada", "o", 5.0)
    assert delivery(called("review.replied")) == Delivery("k", "review.replied", "ada", "r", 5.0)
