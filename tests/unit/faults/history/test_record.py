"""What is recorded can be checked again later, and what cannot be a history says where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faults.history.record import End, History, HistoryError, Kind, Ok, Refused, Unknown, operations

from peakclip.messages import order_id


def recorded() -> History:
    history = History("t", iter(range(100, 200)).__next__)
    first = history.invoke(Kind.PURCHASE, key="k", customer="ada", sale="s", quantity=2)
    pay = history.invoke(Kind.PAY, order_id="o")
    history.unknown(first, "timeout")
    again = history.invoke(Kind.PURCHASE, key="k", customer="ada", sale="s", quantity=2)
    history.refused(pay, "illegal-transition", refunded=True)
    history.ok(again, order_id("t", "k"), "queued")
    history.invoke(Kind.READ, order_id="o")
    history.invoke(Kind.READ, order_id="o", at=7.5)
    return history


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    recorded().write(tmp_path / "history.jsonl")
    again = History.read(tmp_path / "history.jsonl", "t")
    assert again.entries == recorded().entries
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == len(again.entries) == 8
    assert again.invoke(Kind.READ, order_id="o") == 6, "it can go on"


def test_attempts_of_one_key_are_one_operation() -> None:
    purchase, pay, *reads = operations(recorded().entries)
    assert [type(end).__name__ for end in purchase.ends] == ["Unknown", "Ok"]
    assert purchase.first.order_id == order_id("t", "k"), "known before any answer"
    assert purchase.may_have_happened
    assert not pay.may_have_happened
    assert [read.ends for read in reads] == [[None], [None]], "each read is one of its own"
    assert "refused illegal-transition, refunded at 104.000" in pay.words


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "malformed"),
        ('{"type": "ok"}', "missing required field"),
        ('{"type": "ok", "attempt": 9, "at": 1, "order_id": "o"}', "attempt 9 ends and is not under way"),
        ('{"type": "invoked", "attempt": 1, "at": 1, "kind": "read", "order_id": "o"}', "begins twice"),
        ('{"type": "invoked", "attempt": 2, "at": 1, "kind": "steal", "order_id": "o"}', "steal"),
        ('{"type": "unknown", "attempt": 1, "at": 1, "cause": "c", "more": 1}', "more"),
        ("\xff", "line 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    good = '{"type": "invoked", "attempt": 1, "at": 1, "kind": "read", "order_id": "o"}'
    path = tmp_path / "history.jsonl"
    path.write_bytes(f"{good}\n{line}\n".encode("latin-1"))
    with pytest.raises(HistoryError, match=r"line 2") as raised:
        History.read(path)
    assert says in str(raised.value)


def test_a_new_order_is_named_by_its_key_and_nothing_else() -> None:
    history = History("t")
    with pytest.raises(HistoryError, match="pay names neither"):
        history.invoke(Kind.PAY, key="k")
    with pytest.raises(HistoryError, match="purchase names neither"):
        history.invoke(Kind.PURCHASE)
    with pytest.raises(HistoryError, match="attempt 1 ends"):
        history.ok(1, "o")


@pytest.mark.parametrize(
    ("status", "body", "end"),
    [
        (202, {"order_id": "o", "status": "queued"}, Ok(attempt=1, at=2, order_id="o", status="queued")),
        (201, {"order_id": "o", "review_id": "r"}, Ok(attempt=1, at=2, order_id="o", review_id="r")),
        (409, {"type": "https://x/sold-out"}, Refused(attempt=1, at=2, problem="sold-out")),
        (409, {"type": "lost", "refunded": True}, Refused(attempt=1, at=2, problem="lost", refunded=True)),
        (404, {}, Refused(attempt=1, at=2, problem="404")),
        (429, {"type": "line-too-long"}, Unknown(attempt=1, at=2, cause="429")),
        (503, {}, Unknown(attempt=1, at=2, cause="503")),
    ],
)
def test_an_answer_is_yes_no_or_nobody_knows(status: int, body: dict[str, Any], end: End) -> None:
    history = History("t", iter((1, 2)).__next__)
    history.answered(history.invoke(Kind.READ, order_id="o"), status, body)
    assert history.entries[1] == end
