"""What the worker's processes decide without asking anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from fakes import ArrivedMessage
from hypothesis import given
from hypothesis import strategies as st
from support import make_order

from peakclip import topology
from peakclip.jetstream import InMessage, StreamState
from peakclip.messages import encode_frame
from peakclip_worker.batch import BatchPool
from peakclip_worker.dead_letters import storable
from peakclip_worker.outbox import event_headers
from peakclip_worker.reconciler import Movements, correction, is_late
from peakclip_worker.relay import (
    BUSY_BYTES_PER_SECOND,
    ENOUGH_QUEUED,
    LONGEST_HOLD_SECONDS,
    Growth,
    may_wait,
    take_apart,
)

# -- relay -------------------------------------------------------------------------------------------------


@given(st.floats(-5, 1e6), st.integers(0, 10**7), st.floats(0, 1e9))
def test_frames_wait_only_in_a_burst_while_enough_is_queued_and_never_long(
    age: float, queued: int, growth: float
) -> None:
    if may_wait(age, queued, growth):
        assert queued >= ENOUGH_QUEUED
        assert age < LONGEST_HOLD_SECONDS
        assert growth >= BUSY_BYTES_PER_SECOND
    assert not may_wait(age, 0, growth)
    assert not may_wait(age, queued, 0)
    assert not may_wait(LONGEST_HOLD_SECONDS, queued, growth)


@given(st.floats(-5, 10), st.floats(0, 10), st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1e7))
def test_older_frames_or_a_shorter_queue_never_begin_to_wait(
    age: float, older: float, queued: int, fewer: int, growth: float
) -> None:
    if not may_wait(age, queued, growth):
        assert not may_wait(age + older, max(0, queued - fewer), growth)


def test_growth_is_what_was_added_since_the_last_look() -> None:
    growth = Growth()
    looks = [(100.0, 5_000), (100.5, 6_000), (100.5, 9_000), (101.0, 9_000), (102.0, 4_000)]
    assert [growth.note(StreamState(0, size, 1, 1, at, {})) for at, size in looks] == [0, 2_000, 0, 0, -5_000]


def test_a_frame_is_taken_apart_by_its_own_numbers() -> None:
    orders = [make_order(sale_id="s1"), make_order(sale_id="s2")]
    frame = ArrivedMessage("intake.f7", encode_frame(orders), {topology.FRAME_ORDERS_HEADER: "2"})
    one, two = take_apart(cast("Any", frame))
    assert (one.subject, two.subject) == ("order.seckill.created.s1", "order.seckill.created.s2")
    assert one.headers == {"Nats-Msg-Id": "f7.0", topology.FRAME_HEADER: "f7"}
    assert two.headers == {"Nats-Msg-Id": "f7.1", topology.FRAME_HEADER: "f7"}
    assert one.payload + b"\n" + two.payload + b"\n" == frame.payload


def test_a_fence_has_no_parts() -> None:
    fence = ArrivedMessage("intake.f7", b"", {topology.FRAME_ORDERS_HEADER: "0"})
    assert take_apart(cast("Any", fence)) == []


# -- reconciler --------------------------------------------------------------------------------------------


@given(st.integers(-1_000, 1_000), st.integers(0, 1_000))
def test_after_its_correction_a_group_has_taken_what_its_frame_sells(movements: int, in_frame: int) -> None:
    assert movements + correction(movements, in_frame) == -in_frame


@pytest.mark.parametrize(
    ("stored_at", "reserved_at", "late"),
    [(114.9, "100.0", False), (115.0, "100.0", True), (400.0, "100.0", True), (400.0, None, False)],
)
def test_a_return_is_late_once_its_group_may_have_been_settled(
    stored_at: float, reserved_at: str | None, late: bool
) -> None:
    headers = {} if reserved_at is None else {topology.RESERVED_AT_HEADER: reserved_at}
    message = ArrivedMessage("stock.s1", b"", headers, stored_at=stored_at)
    assert is_late(message.headers, message.stored_at, 15.0) is late


def test_movements_add_up_and_know_their_reservation() -> None:
    group = Movements("f1", "s1", seen_at=102.0)
    for seq, (units, message_id) in enumerate([("-8", "g-f1-s1"), ("+3", "o-f1-s1")], start=5):
        headers = {"Nats-Incr": units, "Nats-Msg-Id": message_id}
        group.by_seq[seq] = cast(
            "Any", ArrivedMessage("stock.s1", b"", headers, seq=seq, stored_at=100.0 + seq)
        )
    assert (group.units(15.0), group.since, group.due(15.0), group.late(15.0)) == (-5, 105.0, 120.0, [])
    group.seen_at = 500.0
    assert group.due(15.0) == 515.0, "what is old already is waited for all the same"
    headers = {"Nats-Incr": "+2", topology.RESERVED_AT_HEADER: "105.0"}
    group.by_seq[9] = cast("Any", ArrivedMessage("stock.s1", b"", headers, seq=9, stored_at=120.0))
    assert (group.units(15.0), group.late(15.0)) == (-5, [group.by_seq[9]]), (
        "late units are cancelled, not counted"
    )
    assert group.reservation is group.by_seq[5]
    del group.by_seq[5]
    assert group.reservation is None


# -- orders ------------------------------------------------------------------------------------------------


def batch(*sequences: int) -> Sequence[InMessage]:
    return [cast("Any", ArrivedMessage("order.seckill.created.s1", b"", {}, seq=seq)) for seq in sequences]


def together(pool: BatchPool[Any], *sequences: int, most: int = 10) -> list[int]:
    return [message.seq for message in pool.batch_of(batch(*sequences), most)]


async def test_suspects_go_alone_and_others_stay_together() -> None:
    pool: BatchPool[Any] = BatchPool("orders", cast("Any", None), None, cast("Any", None))
    assert together(pool, 1, 2, 3, 4, most=3) == [1, 2, 3]
    result = await pool._isolate(batch(3, 4), ValueError())
    assert [message.seq for message in result.again] == [3, 4]
    assert (list(result.finished), result.failed) == ([], 2)
    assert together(pool, 3, 4, 5) == [3]
    assert together(pool, 1, 2, 3, 4) == [1, 2]
    assert together(pool, 5, 6) == [5, 6]


# -- what is written ---------------------------------------------------------------------------------------


@given(st.text())
def test_every_text_can_be_stored(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    stored.encode()
    if text.isprintable() and text.isascii():
        assert stored == text


def test_an_event_is_a_cloud_event() -> None:
    headers = event_headers({"message_id": "o-1:created", "subject": "order.created", "headers": "{}"})
    assert headers["Nats-Msg-Id"] == headers["ce-id"] == "o-1:created"
    assert headers["ce-type"] == "order.created"
