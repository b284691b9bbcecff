"""A file's bytes against a model that keeps two whole copies of them."""

from __future__ import annotations

from faults.disk.content import PAGE, Content
from faults.disk.memory import Bytes
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.one_of(
    st.integers(0, 40), st.sampled_from([PAGE - 1, PAGE, PAGE + 1, 3 * PAGE]), st.integers(0, 4 * PAGE)
)
DATA = st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.integers(1, 9))
WRITES = st.tuples(st.just("write"), SIZES, DATA)
STEPS = st.lists(st.one_of(WRITES, st.tuples(st.just("truncate"), SIZES), st.just(("sync",))), max_size=12)


def play(steps, now: Bytes, synced: Bytes, content: Content) -> None:  # type: ignore[no-untyped-def]
    for step in steps:
        match step:
            case ("write", offset, data):
                content.write(offset, data)
                if data:
                    now.write(offset, data)
            case ("truncate", size):
                content.truncate(size)
                now.truncate(size)
            case ("sync",):
                content.sync()
                synced.data = bytearray(now.data)


@given(STEPS)
def test_what_was_not_synced_is_forgotten(steps) -> None:  # type: ignore[no-untyped-def]
    store, now, synced = Bytes(), Bytes(), Bytes()
    content = Content(store, 0)
    play(steps, now, synced, content)
    assert (store.data, content.size) == (now.data, len(now.data))
    assert not content.synced or now.data == synced.data
    assert content.first_unsynced <= content.size
    assert now.data[: content.first_unsynced] == synced.data[: content.first_unsynced]
    content.cut()
    assert (store.data, content.size, content.synced) == (synced.data, len(synced.data), True)


@given(STEPS, SIZES)
def test_a_torn_file_is_new_up_to_one_byte_and_old_behind_it(steps, keep_to: int) -> None:  # type: ignore[no-untyped-def]
    store, now, synced = Bytes(), Bytes(), Bytes()
    content = Content(store, 0)
    play(steps, now, synced, content)
    content.cut(keep_to)
    if keep_to >= len(now.data):
        assert store.data == now.data
    else:
        assert store.data == now.data[:keep_to] + synced.data[keep_to:]
    content.cut()
    assert content.size == len(store.data)


def test_a_sync_that_failed_is_told_once_and_the_next_one_writes_nothing_of_it() -> None:
    store = Bytes()
    content = Content(store, 0)
    content.write(0, b"a" * 2 * PAGE)
    content.sync()
    content.write(0, b"b" * 3 * PAGE)
    content.fail_to_sync()
    content.write(PAGE, b"c")  # this page is changed again, so it is written as it is now
    content.sync()
    assert content.synced
    content.cut()
    assert store.data == b"a" * PAGE + b"c" + b"b" * (PAGE - 1) + b"\0" * PAGE


def test_a_sync_that_failed_and_was_not_asked_for_again_has_written_nothing() -> None:
    store = Bytes()
    content = Content(store, 0)
    content.write(0, b"a" * 10)
    content.sync()
    content.write(5, b"b" * PAGE)
    content.fail_to_sync()
    content.cut()
    assert store.data == b"a" * 10


@given(STEPS, STEPS)
def test_after_a_failed_sync_programs_still_read_what_they_wrote(before, after) -> None:  # type: ignore[no-untyped-def]
    store, now, synced = Bytes(), Bytes(), Bytes()
    content = Content(store, 0)
    play(before, now, synced, content)
    content.fail_to_sync()
    play(after, now, Bytes(), content)
    assert (store.data, content.size) == (now.data, len(now.data))
