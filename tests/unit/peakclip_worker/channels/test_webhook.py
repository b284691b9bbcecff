"""What a webhook says, and what its answers mean."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip_worker.channels.names import Names
from peakclip_worker.channels.port import Delivery, DeliveryError, DeliveryFailedError, DeliveryRefusedError
from peakclip_worker.channels.webhook import NotPublicError, envelope, judge, public_socket, seconds_of

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp()


def outcome_of(status: int, retry_after: str | None = None) -> DeliveryError | None:
    try:
        judge(status, retry_after, NOW)
    except DeliveryError as exc:
        return exc
    return None


def test_what_answers_mean() -> None:
    outcomes = {status: type(outcome_of(status)) for status in range(200, 600)}
    again = {status for status, kind in outcomes.items() if kind is DeliveryFailedError}
    assert {status for status, kind in outcomes.items() if kind is type(None)} == {*range(200, 300)}
    assert again == {408, 409, 425, 429, *range(500, 600)}
    assert all(outcomes[status] is DeliveryRefusedError for status in {*range(300, 500)} - again)


def test_the_receiver_may_ask_for_time() -> None:
    for status in (429, 503):
        outcome = outcome_of(status, "17")
        assert isinstance(outcome, DeliveryFailedError)
        assert outcome.retry_after_seconds == 17


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("0", 0.0), (" 30 ", 30.0), ("-1", None), ("1.5", None), ("", None), ("never", None),
        ("Wed, 25 Nov 2026 12:00:20 GMT", 20.0), ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2026 13:00:20 +0100", 20.0), ("٣", None),
        ("Wed, 25 Nov 99999999999 12:00:20 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text, NOW) == seconds


@given(
    st.one_of(
        st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d{1,20} [A-Z][a-z]{2} \d{1,20} \d+:\d+:\d+ ([+-]\d+|GMT)")
    )
)
def test_no_retry_after_is_too_strange(text: str) -> None:
    seconds = seconds_of(text, NOW)
    assert seconds is None or seconds >= 0


def make_delivery(**changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "delivery_id": "0b0f6e52-7c5c-4a3c-9c5a-0a2a7f3a1d11", "notification_id": 7, "tenant": "t1", "user_id": "ada",
        "channel": "webhook", "address": "https://hooks.example/in", "kind": "order.accepted", "title": "Angenommen ✓",
        "body": "Your order was accepted.", "data": msgspec.Raw(b'{"order_id": "o1"}'),
        "created_at": datetime(2026, 11, 25, 13, 0, tzinfo=timezone(timedelta(hours=1))), "attempt": 1,
    }  # fmt: skip
    return Delivery(**{**values, **changes})


def test_the_body_is_a_cloud_event() -> None:
    assert msgspec.json.decode(envelope(make_delivery())) == {
        "specversion": "1.0",
        "id": "0b0f6e52-7c5c-4a3c-9c5a-0a2a7f3a1d11",
        "source": "/peakclip/notifications",
        "type": "order.accepted",
        "subject": "ada",
        "time": "2026-11-25T12:00:00Z",
        "datacontenttype": "application/json",
        "tenant": "t1",
        "data": {
            "notification_id": 7,
            "title": "Angenommen ✓",
            "body": "Your order was accepted.",
            "data": {"order_id": "o1"},
        },
    }


def test_the_body_is_the_same_at_every_attempt() -> None:
    assert envelope(make_delivery(attempt=1)) == envelope(make_delivery(attempt=3))


def test_no_socket_is_made_for_a_private_address() -> None:
    with pytest.raises(NotPublicError):
        public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)))
    with public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 80))) as made:
        assert made.family == socket.AF_INET


# -- names -------------------------------------------------------------------------------------------------


async def test_a_name_that_hangs_holds_up_nobody_and_there_is_a_bound() -> None:
    answered = threading.Event()

    def look_up(host: str, port: int, *_: Any) -> list[Any]:
        if host == "hangs":
            answered.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    names = Names(look_up, most=3)
    hanging = [asyncio.create_task(names.resolve("hangs", 80)) for _ in range(2)]
    await asyncio.sleep(0)
    found = await names.resolve("quick", 80)
    assert [(one["hostname"], one["host"], one["port"]) for one in found] == [("quick", "192.0.2.1", 80)]
    hanging.append(asyncio.create_task(names.resolve("hangs", 80)))
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many"):
        await names.resolve("quick", 80)
    hanging[0].cancel()
    answered.set()
    ends = await asyncio.gather(*hanging, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, list, list]
    assert await names.resolve("quick", 81)


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
async def test_a_name_that_is_not_found_is_an_error_of_the_system(failure: Exception) -> None:
    def look_up(*_: Any) -> list[Any]:
        raise failure

    with pytest.raises(OSError, match=r"unknown|too long"):
        await Names(look_up).resolve("nowhere.example", 80)
