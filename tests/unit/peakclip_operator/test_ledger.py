from __future__ import annotations

from peakclip.limiter.pace import FENCE_SECONDS, Change, Share, changed
from peakclip_operator.ledger import Entry, Found, Ledger, committed, members, promised, promises, writes

NOW = 1_700_000_000.0


def found(pool: str, share: float, revision: int, *, before: float | None = None) -> Found:
    """`before`: its share until this moment."""
    first = Share("g", share if before is None else before)
    pace = changed(None, Change(limit_per_second=100, share=first), NOW - 60)
    if before is not None:
        pace = changed(pace, Change(share=Share("g", share)), NOW)
    return Found(pool, pace, revision)


NONE = Entry(Ledger(0.0, {}), 0)


def test_what_was_lowered_counts_until_no_other_change_could_be_sooner() -> None:
    lowered = found("a", 10, 2, before=50)
    assert committed(lowered, NONE, NOW) == 50
    assert committed(lowered, NONE, NOW + 0.2) == 50
    assert committed(lowered, NONE, NOW + FENCE_SECONDS - 1.0) == 10


def test_what_was_raised_counts_at_once_and_so_does_a_share_that_is_not_used() -> None:
    assert committed(found("a", 50, 2, before=10), NONE, NOW) == 50
    one = found("a", 50, 2)
    health = changed(one.pace, Change(effective_per_second=5), NOW - 30)
    assert committed(Found("a", health, 3), NONE, NOW) == 50


def test_a_promise_counts_until_the_pace_was_written_after_it() -> None:
    entry = Entry(Ledger(100, {"a": 80, "b": 20}), 5)
    assert committed(found("a", 30, 4), entry, NOW) == 80
    assert committed(found("a", 30, 6), entry, NOW) == 30
    assert promised(found("c", 30, 4), entry) == 0


def test_who_is_in_the_ledger_is_looked_at_whether_it_is_there_or_not() -> None:
    assert members(Entry(Ledger(100, {"a": 80, "b": 20}), 5), ["c", "b"]) == ["a", "b", "c"]


def test_lowering_needs_no_ledger_and_raising_writes_all_that_could_be_in_force() -> None:
    lanes = [found("a", 30, 4), found("b", 20, 3), found("c", 10, 2)]
    down = writes(lanes, {"a": 10, "b": 20, "c": 10}, NONE)
    assert ([(one.pool, rate) for one, rate in down.lower], down.upper) == ([("a", 10)], ())
    entry, told = Entry(Ledger(100, {"b": 45}), 9), {"a": 10, "b": 20, "c": 25}
    both = writes(lanes, told, entry)
    # What b was promised is not to be: its pace is written again, so that the late write comes to nothing.
    assert [(one.pool, rate) for one, rate in both.lower] == [("a", 10), ("b", 20)]
    assert [(one.pool, rate) for one, rate in both.upper] == [("c", 25)]
    assert promises(100, lanes, told, entry, ()) == Ledger(100, {"a": 30, "b": 45, "c": 25})
    assert promises(100, lanes, told, entry, {"a", "b"}) == Ledger(100, {"a": 10, "b": 20, "c": 25})
