"""A chapter is found again by the names of its customers, and goes to files whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
from faults.history.facts import Delivery
from faults.history.record import History, Kind
from faults.soak.chapter import Chapter, Closing, accepted_ids, chapter_of, endings
from faults.soak.inquest import accepted_of, bounds
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 9_999), st.text(max_size=20))
def test_customers_are_within_the_bounds_of_their_chapter_and_of_no_other(number: int, rest: str) -> None:
    chapter = Chapter(number)
    customer = chapter.customers + rest
    assert chapter_of(customer) == chapter.name
    low, high = (one.encode() for one in bounds(chapter.name))
    assert low <= customer.encode("utf-8", "surrogatepass") < high
    other = (Chapter(number + 1).customers + rest).encode("utf-8", "surrogatepass")
    assert not low <= other < high


def test_names_that_only_begin_alike_are_not_within_the_bounds() -> None:
    low, high = bounds("s0001")
    assert low <= "c-s0001-" < high
    assert not any(
        low <= name < high for name in ("c-s0001", "c-s00011-1", "c-s0001a", "c-s0001,", "c-s0001.")
    )


def test_others_are_in_no_chapter() -> None:
    assert [chapter_of(name) for name in ("", "ann", "c-s12-1", "s0001-1", "c-s0001")] == [None] * 5


def day() -> History:
    history = History("default")
    for key, end in (("a", "ok"), ("b", "refused"), ("c", "unknown")):
        attempt = history.invoke(Kind.PURCHASE, key=key, customer=f"c-s0003-{key}", sale="s")
        if end == "ok":
            history.ok(attempt, f"order-{key}", "queued")
        elif end == "refused":
            history.refused(attempt, "sold-out")
        else:
            history.unknown(attempt, "timeout")
    paid = history.invoke(Kind.PAY, order_id="order-a", key="p")
    history.ok(paid, "order-a", "paid")
    return history


def test_endings_and_orders_that_somebody_was_told_of() -> None:
    assert endings(day()) == {"ok": 2, "refused": 1, "unknown": 1}
    assert accepted_ids(day()) == {"order-a"}


def test_a_closed_chapter_is_in_its_files_and_not_in_the_memory(tmp_path: Path) -> None:
    chapter = Chapter(3, day(), sales=["s"], kept_trying=["s"], listeners=["c-s0003-a"], stocks={"s": 3})
    entries = chapter.history.entries
    assert chapter.close(tmp_path) == {"ok": 2, "refused": 1, "unknown": 1, "accepted": 1}
    assert not chapter.history.entries
    assert History.read(tmp_path / "s0003" / "history.jsonl").entries == entries
    assert accepted_of(tmp_path) == {"order-a": 1}
    webhook = Delivery("d", "order.paid", "c-s0003-a", "order-a", 1.0)
    chapter.settle(tmp_path, (webhook,))
    written = msgspec.json.decode((tmp_path / "s0003" / "closing.json").read_bytes(), type=Closing)
    assert written == Closing(("s",), ("s",), (webhook,), ("c-s0003-a",), {"s": 3})
