"""A disk's files and folders under their paths, with its faults. Everything but the kernel's side of it."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from faults.disk.content import Content, Store
from faults.disk.names import ROOT, Names, Semantics

_SPREAD_STEPS: Final = 8  # of names that an ordered disk may have written by itself before it is cut


class Stores(Protocol):
    def open(self, number: int) -> Store: ...

    def size(self, number: int) -> int: ...

    def remove(self, number: int) -> None: ...


@dataclass(slots=True)
class Node:
    """What a file or folder is. Rights and times are kept at once: nothing here is about losing them."""

    mode: int
    uid: int
    gid: int
    changed_ns: int = 0


class Volume:
    """Calls raise OSError as the kernel would. `clock` tells nanoseconds."""

    def __init__(
        self,
        stores: Stores,
        semantics: Semantics,
        clock: Callable[[], int],
        found: Mapping[str, Any] | None = None,
    ) -> None:
        """`found`: what `state` told at the end of the time before."""
        self._stores = stores
        self._clock = clock
        found = found or {"names": {ROOT: {}}, "nodes": {ROOT: asdict(Node(stat.S_IFDIR | 0o711, 0, 0))}}
        names = {int(folder): entries for folder, entries in found["names"].items()}
        self.names = Names(semantics, names)
        self.nodes = {int(number): Node(**node) for number, node in found["nodes"].items()}
        self._contents: dict[int, Content] = {}
        self._opens: Counter[int] = Counter()
        self._next = max(self.nodes) + 1
        self.room_bytes: int | None = None  # None: more than anybody needs
        self.failing: set[str] = set()  # calls that are answered with EIO: read, write, fsync
        self.off = False  # everything is answered with EIO

    # -- looking -------------------------------------------------------------------------------------------

    def find(self, path: str) -> int:
        self._powered()
        number = ROOT
        for name in path.split("/"):
            if name:
                if number not in self.names.now:
                    raise OSError(errno.ENOTDIR, path)
                if name not in self.names.now[number]:
                    raise OSError(errno.ENOENT, path)
                number = self.names.now[number][name]
        return number

    def size(self, number: int) -> int:
        return self._content(number).size if stat.S_ISREG(self.nodes[number].mode) else 4096

    def list(self, number: int) -> dict[str, int]:
        self._powered()
        return dict(sorted(self.names.now[number].items()))

    # -- names ---------------------------------------------------------------------------------------------

    def create(self, path: str, node: Node) -> int:
        folder, name = self._place(path)
        self._take_room(1)
        number, self._next = self._next, self._next + 1
        node.changed_ns = self._clock()
        self.nodes[number] = node
        is_folder = stat.S_ISDIR(node.mode)
        if not is_folder:
            store = self._stores.open(number)
            store.truncate(0)
            self._contents[number] = Content(store, 0)
        self.names.add(folder, name, number, is_folder=is_folder)
        return number

    def remove(self, path: str) -> None:
        number = self.find(path)
        if self.names.now.get(number):
            raise OSError(errno.ENOTEMPTY, path)
        self.names.remove(*self._place(path))
        self._collect({number})

    def rename(self, old: str, new: str) -> None:
        number, (folder, name) = self.find(old), self._place(new)
        before = self.names.now[folder].get(name)
        if before is not None and before != number and self.names.now.get(before):
            raise OSError(errno.ENOTEMPTY, new)
        self.names.rename(*self._place(old), folder, name)
        self._collect({before} - {None, number})

    def opened(self, number: int) -> None:
        self._opens[number] += 1

    def closed(self, number: int) -> None:
        self._opens[number] -= 1
        self._collect({number})

    # -- bytes ---------------------------------------------------------------------------------------------

    def read(self, number: int, offset: int, size: int) -> bytes:
        self._works("read")
        return self._content(number).read(offset, size)

    def write(self, number: int, offset: int, data: bytes) -> None:
        self._works("write")
        content = self._content(number)
        self._take_room(offset + len(data) - content.size)
        content.write(offset, data)
        self.nodes[number].changed_ns = self._clock()

    def truncate(self, number: int, size: int) -> None:
        self._works("write")
        content = self._content(number)
        self._take_room(size - content.size)
        content.truncate(size)
        self.nodes[number].changed_ns = self._clock()

    def sync(self, number: int) -> None:
        """Of a file or of a folder."""
        self._powered()
        if "fsync" in self.failing:
            if number in self._contents:
                self._contents[number].fail_to_sync()
            raise OSError(errno.EIO, "fsync")
        if number in self._contents:
            self._contents[number].sync()
        self._collect(self.names.sync(number))

    # -- power ---------------------------------------------------------------------------------------------

    def sync_all(self) -> None:
        for content in self._contents.values():
            content.sync()
        self._collect(self.names.sync_all())

    def cut(self, chance: random.Random, *, torn: bool = True) -> dict[str, int]:
        """What was not synced is forgotten, or all but a torn beginning of it: how much that was, for people."""
        self.off = True
        unsynced = {number: one for number, one in self._contents.items() if not one.synced}
        told = {
            "files": len(unsynced),
            "bytes": sum(max(0, one.size - one.first_unsynced) for one in unsynced.values()),
            "names": self.names.unsynced,
        }
        for number in sorted(self._contents):
            content = self._contents[number]
            tears = torn and not content.synced and chance.random() < 0.5
            content.cut(chance.randint(content.first_unsynced, content.size) if tears else None)
        self.names.cut(chance.randint(0, min(self.names.unsynced, _SPREAD_STEPS)) if torn else 0)
        for number in [number for number in self.nodes if not self.names.used(number)]:
            self._forget(number)
        return told

    def state(self) -> dict[str, Any]:
        """All that a new one needs to go on from what is on the disk."""
        nodes = {number: asdict(node) for number, node in self.nodes.items() if self.names.used(number)}
        return {"names": self.names.kept, "nodes": nodes}

    # -- within --------------------------------------------------------------------------------------------

    def _place(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        folder = self.find(parent)
        if folder not in self.names.now:
            raise OSError(errno.ENOTDIR, parent)
        return folder, name

    def _content(self, number: int) -> Content:
        if number not in self._contents:
            self._contents[number] = Content(self._stores.open(number), self._stores.size(number))
        return self._contents[number]

    def _powered(self) -> None:
        if self.off:
            raise OSError(errno.EIO, "the plug is pulled")

    def _works(self, call: str) -> None:
        self._powered()
        if call in self.failing:
            raise OSError(errno.EIO, call)

    def _take_room(self, more: int) -> None:
        """Bytes. What a file gives back is free again."""
        if self.room_bytes is None:
            return
        if more > 0 and more > self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= more

    def _collect(self, numbers: set[Any]) -> None:
        """The bytes of what has no name any more, is not open, and cannot come back."""
        for number in numbers:
            if number in self.nodes and not self.names.used(number) and self._opens[number] <= 0:
                if number in self._contents:
                    self._take_room(-self._contents[number].size)
                self._forget(number)

    def _forget(self, number: int) -> None:
        if stat.S_ISREG(self.nodes.pop(number).mode):
            self._contents.pop(number, None)
            self._stores.remove(number)
        self._opens.pop(number, None)
