"""What an e-mail looks like: nothing in a notification can add to its headers."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.headerregistry import Address

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peakclip_worker.channels.email import _POLICY, message_of, own_name
from peakclip_worker.channels.port import Delivery

SENDER = Address("Der Läden", addr_spec="orders@shop.example")
ID = "0b0f6e52-7c5c-4a3c-9c5a-0a2a7f3a1d11"


def wire(title: str, body: str, recipient: str = "ada@mail.example", attempt: int = 1) -> bytes:
    created = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    delivery = Delivery(
        ID,
        7,
        "t1",
        "ada",
        "email",
        "ada@mail.example",
        "order.paid",
        title,
        body,
        msgspec.Raw(b"{}"),
        created,
        attempt,
    )
    return message_of(delivery, SENDER, recipient).as_bytes(policy=_POLICY)


def test_headers() -> None:
    text = wire("Bezahlt ✓ 已付款", "Danke schön.")
    read = email.message_from_bytes(text, policy=email.policy.default)
    assert text.isascii()
    assert (read["From"], read["To"]) == ("Der Läden <orders@shop.example>", "ada@mail.example")
    assert read["Subject"] == "Bezahlt ✓ 已付款"
    assert read["Message-ID"] == f"<{ID}@shop.example>"
    assert read["Date"].datetime == datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    assert read["Auto-Submitted"] == "auto-generated"
    assert read.get_content() == "Danke schön.\r\n"


def test_the_mail_is_the_same_at_every_attempt() -> None:
    assert wire("t", "b", attempt=1) == wire("t", "b", attempt=3)


NAMES = [name.lower() for name in email.message_from_bytes(wire("t", "b"))]


@given(st.text(), st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_is_in_a_notification_the_headers_are_the_same(title: str, body: str) -> None:
    text = wire(title, body)
    read = email.message_from_bytes(text, policy=email.policy.default)
    assert text.isascii()
    assert max(len(line) for line in text.split(b"\r\n")) <= 998
    assert [name.lower() for name in read] == NAMES
    assert not read.is_multipart()


def test_line_breaks_in_a_title_add_no_header() -> None:
    text = wire("Paid\r\nBcc: eve@example.org\r\n\r\nsurprise", "body")
    read = email.message_from_bytes(text, policy=email.policy.default)
    assert read["Bcc"] is None
    assert read["Subject"] == "Paid Bcc: eve@example.org surprise"
    assert read.get_content() == "body\r\n"


def test_the_own_name_can_be_said_in_smtp() -> None:
    assert own_name().isascii()
    assert not any(c.isspace() for c in own_name())
