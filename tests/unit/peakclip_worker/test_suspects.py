"""In which order suspects have their turn, and how an attempt is named."""

from __future__ import annotations

from typing import Any, cast

from fakes import ArrivedMessage
from hypothesis import given
from hypothesis import strategies as st

from peakclip import topology
from peakclip.jetstream import InMessage
from peakclip_worker.advisories import Advisory, cause_of
from peakclip_worker.batch import BatchPool
from peakclip_worker.dead_letters import attempt_id
from peakclip_worker.suspects import ALONE_FROM, in_turn


def message(seq: int, delivered: int = 1, **headers: str) -> InMessage:
    return cast("Any", ArrivedMessage("s", b"", headers, seq=seq, delivered=delivered))


def order(messages: list[InMessage]) -> list[int]:
    return [one.seq for one in messages]


@given(st.lists(st.integers(1, 10_000), unique=True), st.integers(2, 50))
def test_everybody_has_a_turn(sequences: list[int], delivered: int) -> None:
    assert sorted(order(in_turn([message(seq, delivered) for seq in sequences]))) == sorted(sequences)


def test_nobody_is_behind_the_same_one_for_ever() -> None:
    """Of twenty messages each one comes before the seventh within eight times that they are given out."""
    before: set[int] = set()
    for delivered in range(2, 10):
        turn = order(in_turn([message(seq, delivered) for seq in range(20)]))
        before |= set(turn[: turn.index(7)])
    assert before == set(range(20)) - {7}


def test_what_is_fresh_goes_before_suspects_and_in_its_order() -> None:
    pool: BatchPool[Any] = BatchPool("orders", cast("Any", None), None, cast("Any", None))
    retried = message(2, **{topology.ATTEMPT_HEADER: "2"})
    arranged = pool.arranged([message(1, ALONE_FROM), retried, message(3), message(4)])
    assert order(arranged)[:2] == [3, 4]
    assert sorted(order(arranged)[2:]) == [1, 2]
    assert [len(pool.batch_of(arranged[n:], 10)) for n in (0, 2, 3)] == [2, 1, 1]


def test_an_attempt_after_a_redrive_is_another_one() -> None:
    named = {topology.MESSAGE_ID_HEADER: "m", topology.ATTEMPT_HEADER: "2"}
    assert attempt_id(named) == "m:2"
    assert attempt_id({**named, topology.REDRIVE_HEADER: "1"}) == "m:redrive:1:2"


def test_a_cause_says_what_the_server_said() -> None:
    prefix = "$JS.EVENT.ADVISORY.CONSUMER."
    advisory = Advisory("SECKILL", "orders", 7, 50, "no use")
    assert cause_of(f"{prefix}MAX_DELIVERIES.SECKILL.orders", advisory, gone=False) == (
        "max-deliveries: given out 50 times and never finished"
    )
    assert cause_of(f"{prefix}MSG_TERMINATED.SECKILL.orders", advisory, gone=True) == (
        "terminated: no use; SECKILL no longer had the message"
    )
