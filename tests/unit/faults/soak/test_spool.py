"""What streams held, kept by chapters."""

from __future__ import annotations

from pathlib import Path

import msgspec
from faults.history.facts import Event, Queued
from faults.soak import spool


def event(seq: int) -> Event:
    return Event(
        seq, f"o:{seq}", "order.created", "o", seq, "created", 1.0, 2.0, frozenset({"audit"}), f"m{seq}"
    )


def test_what_was_written_twice_is_read_once_and_in_order(tmp_path: Path) -> None:
    encode = msgspec.json.Encoder().encode_lines
    first, again = [event(1), event(2)], [event(2), event(3)]
    (tmp_path / "events.jsonl").write_bytes(encode(first) + encode(again))
    assert spool.events_of(tmp_path) == (event(1), event(2), event(3))
    line = [Queued(5, "f", "o", 1.0), Queued(4, "f", "p", 1.0)]
    (tmp_path / "line.jsonl").write_bytes(encode(line))
    assert [one.seq for one in spool.line_of(tmp_path)] == [4, 5]


def test_a_chapter_without_any(tmp_path: Path) -> None:
    assert spool.events_of(tmp_path) == ()
    assert spool.line_of(tmp_path) == ()
    assert spool.position(tmp_path) == spool.Position(0, 0, complete=True)
