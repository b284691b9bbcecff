"""What a dead letter is sent back as, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import make_order

from peakclip import topology
from peakclip.cli.dlq_words import PAYLOAD_LINES, age, as_object, one_line, shown, table
from peakclip.dead_letters import CannotRedriveError, Letter, redriven, what_is_lost
from peakclip.messages import encode, encode_frame

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LETTER = Letter(
    message_id="f1.0",
    pool="orders",
    subject="order.seckill.created.s1",
    headers={
        "Nats-Msg-Id": "f1.0:3",
        "Nats-Schedule-Target": "x",
        topology.FRAME_HEADER: "f1",
        topology.ATTEMPT_HEADER: "3",
        "traceparent": "00-aa-bb-01",
    },
    payload=encode(make_order()),
    cause="ValueError()",
    attempts=3,
    at=NOW - timedelta(minutes=5),
)


def letter(**changes: Any) -> Letter:
    return replace(LETTER, **changes)


def test_it_begins_anew_under_an_id_of_this_redrive() -> None:
    message = redriven(LETTER)
    assert (message.subject, message.payload) == ("retry.orders", LETTER.payload)
    assert message.headers == {
        topology.FRAME_HEADER: "f1",
        topology.MESSAGE_ID_HEADER: "f1.0",
        topology.SUBJECT_HEADER: "order.seckill.created.s1",
        topology.REDRIVE_HEADER: "1",
        "traceparent": "00-aa-bb-01",
        "Nats-Msg-Id": "f1.0:redrive:1",
    }
    again = redriven(letter(headers=message.headers))
    assert again.headers["Nats-Msg-Id"] == "f1.0:redrive:2"
    assert again.headers[topology.MESSAGE_ID_HEADER] == "f1.0"


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5"])
def test_a_number_that_is_none_counts_as_never_redriven(text: str) -> None:
    assert redriven(letter(headers={topology.REDRIVE_HEADER: text})).headers[topology.REDRIVE_HEADER] == "1"


def test_a_frame_is_sent_back_as_a_frame_of_its_own() -> None:
    frame = letter(
        pool="relay", subject="intake.f7", message_id="intake.f7:3", payload=encode_frame([make_order()])
    )
    message = redriven(frame)
    assert message.subject == "intake.f7.redrive.1"
    assert message.headers["Nats-Expected-Last-Subject-Sequence"] == "0"


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "relay", "payload": b"\xff"},
        {"pool": "relay", "payload": b""},
        {"pool": "unheard-of"},
        {"subject": "gone.SECKILL.orders"},
    ],
)
def test_what_would_be_for_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CannotRedriveError):
        redriven(letter(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "accepted orders (202) that never become rows: "),
        ({"payload": b"\xff"}, "perhaps an accepted order"),
        ({"pool": "relay", "payload": encode_frame([make_order(), make_order()])}, "accepted orders (202)"),
        (
            {"pool": "relay", "payload": b"\xff", "headers": {topology.FRAME_ORDERS_HEADER: "17"}},
            "a frame of 17",
        ),
        ({"pool": "effects", "subject": "order.paid"}, "what order.paid f1.0 brings about"),
        ({"pool": "reaper"}, "nothing: an order that is due is found again"),
        ({"pool": "effects", "subject": "delivery.email"}, "this notification never leaves by email"),
        ({"subject": "gone.SECKILL.orders"}, "nothing more"),
        ({"pool": "unheard-of"}, "whatever the pool unheard-of"),
    ],
)
def test_what_is_lost_with_it(changes: dict[str, Any], said: str) -> None:
    assert what_is_lost(letter(**changes)).startswith(said)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_300, "2 h"), (90_000, "1 d"), (40 * 86_400, "40 d")],
)
def test_an_age_in_its_largest_unit(seconds: float, said: str) -> None:
    assert age(seconds) == said


@given(st.text(), st.text(), st.text(), st.integers(20, 300))
def test_whatever_comes_from_outside_stays_on_its_line(
    message_id: str, subject: str, cause: str, width: int
) -> None:
    lines = table([letter(message_id=message_id, subject=subject, cause=cause)], NOW, width)
    assert len(lines) == 2
    assert all(line.isprintable() or not any(ord(c) < 32 or ord(c) == 127 for c in line) for line in lines)
    assert lines[1].startswith(one_line(message_id).rstrip()) or not one_line(message_id).strip()


@given(st.binary(max_size=3_000), st.dictionaries(st.text(), st.text(), max_size=3))
def test_every_letter_can_be_shown(payload: bytes, headers: dict[str, str]) -> None:
    one = letter(payload=payload, headers=headers)
    lines = shown(one, NOW)
    assert len(lines) < PAYLOAD_LINES + 20
    assert not any(ord(character) < 32 for line in lines for character in line)
    encode(as_object(one))
