from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip_api.paging import read_cursor, write_cursor
from peakclip_api.prints import derived_id, fingerprint, same_key

MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS, st.text(st.characters(exclude_categories=("C", "Z")), max_size=128))
def test_a_cursor_names_its_item_exactly(at: datetime, last_id: str) -> None:
    cursor = write_cursor(at, last_id)
    assert read_cursor(cursor) == (at, last_id)
    assert not set(cursor) & set("+/= ")


@given(st.text(max_size=80))
def test_what_is_no_cursor_is_refused_and_does_no_harm(text: str) -> None:
    try:
        at, last_id = read_cursor(text)
    except (ValueError, OverflowError):
        return
    assert write_cursor(at, last_id) == text


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "MXxh=", "MXxh ", "MXxhYg==", "MXwA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTl8YQ", "fA", "YXxi",
        "KzF8YQ", "MDF8YQ", "-", "MXxh\n", "é",
    ],
)  # fmt: skip
def test_other_spellings_are_no_cursors(cursor: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        read_cursor(cursor)


def test_ids_and_fingerprints_tell_their_parts_apart() -> None:
    ids = {
        derived_id("p", *parts)
        for parts in [
            ("t", "pet", "k"),
            ("t", "pe", "tk"),
            ("t2", "pet", "k"),
            ("t", "review", "k"),
            ("t", "pet", "l"),
        ]
    }
    assert len(ids) == 5
    assert all(len(one) == 21 for one in ids)
    assert (
        len({fingerprint("a", b"b"), fingerprint("ab", b""), fingerprint("a", b"c"), fingerprint("b", b"b")})
        == 4
    )
    assert same_key(fingerprint("a", b"b"), fingerprint("a", b"c"))
    assert not same_key(fingerprint("a", b"b"), fingerprint("c", b"b"))
