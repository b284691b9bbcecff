"""Paths, room, calls that fail, and what is left after a cut."""

from __future__ import annotations

import errno
import json
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faults.disk.memory import Memory
from faults.disk.names import Semantics
from faults.disk.volume import Node, Volume

FILE, FOLDER = stat.S_IFREG | 0o600, stat.S_IFDIR | 0o700


def make(semantics: Semantics = Semantics.ORDERED) -> tuple[Volume, Memory]:
    memory = Memory()
    return Volume(memory, semantics, lambda: 7), memory


def again(volume: Volume, memory: Memory, semantics: Semantics = Semantics.ORDERED) -> Volume:
    """Mounted anew, by another process."""
    return Volume(memory, semantics, lambda: 8, json.loads(json.dumps(volume.state())))


def put(volume: Volume, path: str, data: bytes) -> int:
    number = volume.create(path, Node(FILE, 5, 6))
    volume.write(number, 0, data)
    return number


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        yield


def test_an_fsync_keeps_a_file_with_its_name_and_all_that_is_above_it() -> None:
    volume, memory = make()
    volume.create("/a", Node(FOLDER, 0, 0))
    volume.create("/a/b", Node(FOLDER, 0, 0))
    synced = put(volume, "/a/b/synced", b"123")
    put(volume, "/a/b/later", b"45")
    volume.sync(synced)
    assert volume.cut(random.Random(1), torn=False) == {"files": 1, "bytes": 2, "names": 1}
    with refused(errno.EIO):
        volume.find("/a")
    found = again(volume, memory)
    assert found.list(found.find("/a/b")) == {"synced": synced}
    assert found.read(synced, 0, 10) == b"123"
    assert (found.nodes[synced].uid, found.nodes[synced].gid, found.size(synced)) == (5, 6, 3)
    assert list(memory.files) == [synced], "nobody can find the other one's bytes"


def test_a_strict_disk_needs_an_fsync_of_each_folder() -> None:
    volume, memory = make(Semantics.STRICT)
    folder = volume.create("/a", Node(FOLDER, 0, 0))
    volume.sync(put(volume, "/a/nameless", b"123"))
    volume.sync(put(volume, "/a/named", b"123"))
    volume.sync(folder)
    volume.remove("/a/nameless")
    volume.sync(folder)
    volume.cut(random.Random(1))
    assert again(volume, memory).list(1) == {}, "the folder itself has no name"


def test_a_file_that_was_written_beside_and_renamed_is_the_old_or_the_new_one() -> None:
    seen = set()
    for seed in range(40):
        volume, memory = make()
        volume.sync(put(volume, "/settings", b"old"))
        volume.sync(put(volume, "/.settings", b"newer"))
        volume.rename("/.settings", "/settings")
        volume.cut(random.Random(seed))
        found = again(volume, memory)
        seen.add(found.read(found.find("/settings"), 0, 9))
    assert seen == {b"old", b"newer"}


def test_a_torn_file_has_a_beginning_of_what_was_written() -> None:
    sizes = set()
    for seed in range(60):
        volume, memory = make()
        number = put(volume, "/a", b"x" * 10)
        volume.sync(number)
        volume.write(number, 10, b"y" * 10)
        volume.cut(random.Random(seed))
        data = again(volume, memory).read(number, 0, 99)
        assert data == (b"x" * 10 + b"y" * 10)[: len(data)]
        sizes.add(len(data))
    assert min(sizes) == 10
    assert max(sizes) == 20
    assert len(sizes) > 5


def test_the_same_seed_leaves_the_same() -> None:
    left = []
    for _ in range(2):
        volume, memory = make()
        for number in range(20):
            put(volume, f"/{number}", b"z" * 1000)
        volume.cut(random.Random(5))
        left.append((volume.state(), {number: one.data for number, one in memory.files.items()}))
    assert left[0] == left[1]


def test_a_file_that_is_removed_while_it_is_open_can_still_be_read() -> None:
    volume, memory = make()
    number = put(volume, "/a", b"123")
    volume.opened(number)
    volume.sync(number)
    volume.remove("/a")
    volume.sync(1)
    assert volume.read(number, 0, 9) == b"123"
    volume.closed(number)
    assert not memory.files


def test_what_was_removed_and_not_synced_is_back() -> None:
    volume, memory = make()
    number = put(volume, "/a", b"123")
    volume.sync(number)
    volume.remove("/a")
    volume.cut(random.Random(1), torn=False)
    found = again(volume, memory)
    assert found.read(found.find("/a"), 0, 9) == b"123"


def test_a_full_disk_takes_what_needs_no_room_and_gives_back_what_is_removed() -> None:
    volume, _ = make()
    number = put(volume, "/a", b"123")
    volume.room_bytes = 0
    with refused(errno.ENOSPC):
        volume.write(number, 3, b"4")
    with refused(errno.ENOSPC):
        volume.create("/b", Node(FILE, 0, 0))
    volume.write(number, 0, b"321")
    volume.truncate(number, 1)
    volume.write(number, 1, b"xy")
    assert volume.read(number, 0, 9) == b"3xy"
    volume.room_bytes = None
    put(volume, "/b", b"much more")


def test_a_failed_fsync_is_told_and_the_rest_works() -> None:
    volume, memory = make()
    number = put(volume, "/a", b"123")
    volume.failing = {"fsync"}
    with refused(errno.EIO):
        volume.sync(number)
    volume.failing = set()
    assert volume.read(number, 0, 9) == b"123"
    volume.sync(number)
    volume.cut(random.Random(1))
    assert again(volume, memory).read(number, 0, 9) == b"\0\0\0", "what the failed one should have written"


def test_paths_that_are_not_there() -> None:
    volume, _ = make()
    volume.create("/a", Node(FOLDER, 0, 0))
    put(volume, "/a/b", b"")
    with refused(errno.ENOENT):
        volume.find("/a/c")
    with refused(errno.ENOTDIR):
        volume.find("/a/b/c")
    with refused(errno.ENOTEMPTY):
        volume.remove("/a")
