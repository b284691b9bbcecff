"""What owners ask for, and what their history says of the answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faults.history.record import Entry, History, Kind, Ok, Refused, Unknown
from faults.soak.owners import Owners, Wish, booking

from peakclip.load.outcome import Answer
from peakclip.messages import order_id

PAY = Wish(Kind.PAY, "c-s0001-1", "o-pay-0", "o")
TAKEN = b'{"type":"urn:peakclip:problem:x/illegal-transition","refunded":true}'
LATE = b'{"type":"urn:peakclip:problem:x/illegal-transition"}'


@pytest.fixture
def owners() -> Owners:
    return Owners("http://host:1", "pk_x", History("default"), lambda _: None, 10.0)


def answer(status: int, body: bytes) -> Answer:
    return Answer(status, body, 1.0, 0.1)


def ended(
    owners: Owners, wish: Wish, given: Answer | None, *, asked_again: bool = False
) -> tuple[bool, Entry]:
    attempt = owners.history.invoke(wish.kind, order_id=wish.named, key=wish.key)
    granted = owners._record(wish, attempt, given, asked_again=asked_again, asked=7.0, began=8.0)
    return granted, owners.history.entries[-1]


def test_a_yes_is_a_yes_however_often_it_was_asked_for(owners: Owners) -> None:
    for asked_again in (False, True):
        granted, end = ended(
            owners, PAY, answer(200, b'{"order_id":"o","status":"paid"}'), asked_again=asked_again
        )
        assert granted
        assert isinstance(end, Ok)
        assert end.status == "paid"
    assert not owners.wrong


def test_a_no_is_definite_only_if_it_was_asked_for_once(owners: Owners) -> None:
    cancel = Wish(Kind.CANCEL, "c-s0001-1", "o-cancel-0", "o")
    granted, end = ended(owners, cancel, answer(409, LATE))
    assert not granted
    assert isinstance(end, Refused)
    granted, end = ended(owners, cancel, answer(409, LATE), asked_again=True)
    assert not granted
    assert isinstance(end, Unknown)
    assert (end.problem, end.asked, end.at) == ("illegal-transition", 7.0, 9.0), "what was said is kept"
    assert not owners.wrong, "somebody else was first"


def test_a_payment_that_has_lost_stays_lost(owners: Owners) -> None:
    for asked_again in (False, True):
        granted, end = ended(owners, PAY, answer(409, TAKEN), asked_again=asked_again)
        assert not granted
        assert isinstance(end, Refused)
        assert end.refunded
    _, end = ended(owners, PAY, answer(409, LATE), asked_again=True)
    assert isinstance(end, Unknown), "it stood in line: the request before may still be on its way"


def test_what_breaks_the_contract_is_noted(owners: Owners) -> None:
    _, end = ended(owners, PAY, None)
    assert isinstance(end, Unknown)
    ended(owners, PAY, answer(404, b'{"type":"x/order-not-found"}'))
    assert owners.wrong == ["pay of o: no final answer", "pay of o: 404 {'type': 'x/order-not-found'}"]


@pytest.mark.parametrize(
    ("wish", "begins", "holds"),
    [
        (PAY, b"POST /v1/orders/o/pay HTTP/1.1\r\n", lambda raw: b"Prefer" not in raw),
        (
            Wish(Kind.ORDER, "c-s0001-1", "k", body=booking("p", "s"), later=True),
            b"POST /v1/orders HTTP/1.1\r\n",
            lambda raw: b"\r\nPrefer: respond-async\r\n" in raw and raw.endswith(booking("p", "s")),
        ),
    ],
)
def test_requests(owners: Owners, wish: Wish, begins: bytes, holds: Callable[[bytes], bool]) -> None:
    raw = owners._request(wish, "host:1")
    assert raw.startswith(begins)
    assert f"\r\nPeakclip-Customer: {wish.customer}\r\nIdempotency-Key: {wish.key}\r\n\r\n".encode() in raw
    assert f"\r\nContent-Length: {len(wish.body)}\r\n".encode() in raw
    assert holds(raw)


def test_a_new_order_is_named_by_its_key() -> None:
    assert Wish(Kind.ORDER, "c", "k").named == order_id("default", "k")
    assert PAY.named == "o"
