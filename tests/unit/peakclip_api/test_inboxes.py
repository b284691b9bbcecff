"""What a stream takes from what is pushed, and when it reads the table instead."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from peakclip.notifications import Notification, decode_notification, encode_notification
from peakclip_api.inboxes import MOST_WAITING, Inbox, InboxReader
from peakclip_api.live import MOST_OF_ONE, Reader, Readers


def pushed(number: int) -> Notification:
    return Notification(
        notification_id=1_000 + number, number=number, tenant="t1", audience="customer", user_id="ann",
        kind="order.paid", title="Paid", body="It is paid.", data={}, at=datetime.now(UTC),
    )  # fmt: skip


def reader() -> InboxReader:
    one = InboxReader(Inbox("t1", "customer", "ann"))
    one.behind = False
    return one


def taken(one: InboxReader, after: int) -> list[int]:
    return [notification.number for notification in one.take_after(after)]


def test_what_follows_is_taken_and_what_is_known_passed_over() -> None:
    one = reader()
    for number in (3, 4, 5, 5, 6, 4):
        one.push(pushed(number))
    assert taken(one, 4) == [5, 6]
    assert not one.behind
    assert taken(one, 6) == []


def test_after_a_gap_the_table_is_read() -> None:
    one = reader()
    for number in (1, 3, 4):
        one.push(pushed(number))
    assert taken(one, 0) == [1]
    assert one.behind
    assert taken(one, 1) == [], "what came behind the gap is in the table too"


def test_more_than_may_wait_is_left_to_the_table() -> None:
    one = reader()
    for number in range(1, MOST_WAITING + 2):
        one.push(pushed(number))
    assert one.behind
    assert taken(one, 0) == []


@given(st.lists(st.lists(st.integers(1, 30), max_size=40), max_size=10))
def test_nothing_is_missed_or_doubled_whatever_is_pushed(rounds: list[list[int]]) -> None:
    """The table holds all that was pushed so far and everything before it."""
    one, sent, newest = reader(), [], 0
    for numbers in rounds:
        for number in numbers:
            one.push(pushed(number))
            newest = max(newest, number)
        sent += taken(one, sent[-1] if sent else 0)
        if one.behind:
            one.behind = False
            sent += range(len(sent) + 1, newest + 1)
        assert sent == list(range(1, newest + 1))


def test_a_notification_survives_its_way() -> None:
    one = pushed(1)
    assert decode_notification(encode_notification(one)) == one


# -- who reads ---------------------------------------------------------------------------------------------


def test_one_stream_too_many_ends_the_first_and_leaving_makes_room() -> None:
    readers, mine = Readers(), [Reader() for _ in range(MOST_OF_ONE + 3)]
    with contextlib.ExitStack() as stack:
        for one in mine[:MOST_OF_ONE]:
            stack.enter_context(readers.entered("ann", one))
        stack.enter_context(readers.entered("ben", Reader()))
        assert not any(one.ended for one in mine)
        for number, one in enumerate(mine[MOST_OF_ONE:], start=1):
            stack.enter_context(readers.entered("ann", one))
            assert [one.ended for one in mine] == [n < number for n in range(len(mine))]
    assert readers.count == 0


def test_who_comes_when_all_have_ended_ends_too() -> None:
    readers, early, late = Readers(), Reader(), Reader()
    with readers.entered("ann", early):
        readers.end_all()
        with readers.entered("ann", late):
            assert early.ended
            assert late.ended
