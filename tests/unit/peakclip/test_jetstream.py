from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from peakclip.errors import RefusedError
from peakclip.jetstream import InMessage
from peakclip.nats_wire import OutMessage, PubAck, hpub, parse_time, puback
from peakclip.pull import ack_or_let_go


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(0, 999_999_999), st.integers(0, 9)
)
def test_a_time_keeps_all_its_digits(moment: datetime, nanoseconds: int, digits: int) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    fraction = f"{nanoseconds:09d}"[:digits]
    text = whole.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"
    expected = whole.timestamp() + (int(fraction) / 10**digits if fraction else 0)
    assert parse_time(text) == pytest.approx(expected, abs=1e-6)


@given(st.integers(-14 * 60, 14 * 60), st.sampled_from(["", ".5", ".123456789"]))
def test_a_time_in_another_zone_is_the_same_moment(minutes: int, fraction: str) -> None:
    zone = timezone(timedelta(minutes=minutes))
    whole = datetime(2026, 7, 1, 12, 0, 0, tzinfo=zone)
    sign, rest = ("-" if minutes < 0 else "+"), abs(minutes)
    text = f"2026-07-01T12:00:00{fraction}{sign}{rest // 60:02d}:{rest % 60:02d}"
    assert parse_time(text) == pytest.approx(whole.timestamp() + float(fraction or 0), abs=1e-6)


def test_a_time_without_a_fraction() -> None:
    assert parse_time("1970-01-01T00:01:00Z") == 60.0


class Connection:
    """Notes what is asked and what is only said."""

    def __init__(self) -> None:
        self.generation = 0
        self.asked: list[str] = []
        self.said: list[str] = []

    async def request(self, subject: str, payload: bytes) -> None:
        self.asked.append(f"{subject} {payload.decode()}")

    async def publish_core(self, subject: str, payload: bytes) -> None:
        self.said.append(f"{subject} {payload.decode()}")


async def test_of_what_came_before_the_connection_was_lost_no_answer_is_awaited() -> None:
    connection = Connection()

    def came(number: int) -> InMessage:
        reply = f"$JS.ACK.S.c.1.{number}.1.1.0"
        return InMessage(cast("Any", connection), Msg(cast("Any", None), "s", reply, b""))

    older = [came(1), came(2)]
    connection.generation += 1
    younger = [came(3), came(4)]
    await ack_or_let_go([*older, *younger])
    assert connection.asked == ["$JS.ACK.S.c.1.4.1.1.0 +ACK"]
    assert connection.said == [f"$JS.ACK.S.c.1.{number}.1.1.0 +ACK" for number in (3, 1, 2)]
    await ack_or_let_go(older)
    assert len(connection.asked) == 1


@pytest.mark.parametrize("prefix", ["$JS.ACK.", "$JS.ACK.domain.hash."])
def test_a_message_knows_its_place_from_its_reply_subject(prefix: str) -> None:
    class Message:
        subject, data, headers = "order.seckill.created.s1", b"body", None
        reply = prefix + "SECKILL.orders.3.1234.99.1800000000500000000.17"

    message = InMessage(cast("Any", Connection()), cast("Any", Message))
    assert (message.delivered, message.seq, message.stored_at, message.num_pending) == (
        3,
        1234,
        1_800_000_000.5,
        17,
    )
    assert message.headers == {}


def test_a_message_of_a_batch_is_written_as_the_protocol_wants_it() -> None:
    out = OutMessage("a.b", b"payload", {"One": "1"})
    head = b"NATS/1.0\r\nOne: 1\r\nTwo: 2\r\n\r\n"
    assert (
        hpub(out, {"Two": "2"}) == b"HPUB a.b %d %d\r\n" % (len(head), len(head) + 7) + head + b"payload\r\n"
    )


def test_an_acknowledgement_tells_sequence_duplicate_and_counter() -> None:
    assert puback(b'{"stream":"S","seq":7}') == PubAck(7)
    assert puback(b'{"stream":"S","seq":7,"duplicate":true}') == PubAck(7, duplicate=True)
    assert puback(b'{"stream":"S","seq":7,"val":"-12"}') == PubAck(7, value=-12)
    with pytest.raises(RefusedError) as refused:
        puback(b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}')
    assert refused.value.code == 10077
