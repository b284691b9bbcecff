"""The bytes of one file: as programs see them, and as the disk would have them after a power cut.

The store holds what programs see; what it held at the last sync is remembered, by pages, until the next one.
"""

from __future__ import annotations

from typing import Final, Protocol

PAGE: Final = 4096  # bytes


class Store(Protocol):
    """Where bytes are; beyond the end of what was written there is nothing, and holes read as zeros."""

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def truncate(self, size: int) -> None: ...


class Content:
    """New or found on the disk: what is in the store is synced."""

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self.size = size
        self._synced_size = size
        # Page -> what of it is on the disk: of those that are not synced, and of those that only count as synced.
        self._before: dict[int, bytes] = {}
        self._given_up: dict[int, bytes] = {}

    @property
    def synced(self) -> bool:
        return not self._before and self.size == self._synced_size

    @property
    def first_unsynced(self) -> int:
        """Offset. That of a file without unsynced bytes is its size."""
        pages = [page * PAGE for page in self._before]
        return min([*pages, self.size, *([self._synced_size] if self.size > self._synced_size else [])])

    def read(self, offset: int, size: int) -> bytes:
        return self._store.read(offset, size)

    def write(self, offset: int, data: bytes) -> None:
        if not data:
            return
        self._remember(min(offset, self.size), offset + len(data))
        self._store.write(offset, data)
        self.size = max(self.size, offset + len(data))

    def truncate(self, size: int) -> None:
        """Or grow it, by zeros."""
        if size == self.size:
            return
        self._remember(min(size, self.size), max(size, self.size))
        self._store.truncate(size)
        self.size = size

    def sync(self) -> None:
        self._before.clear()
        self._synced_size = self.size

    def fail_to_sync(self) -> None:
        """As Linux does it: the error is told once, and from then on the pages count as clean.

        A later sync succeeds and does not write them, unless they are changed once more.
        """
        grown = range(-(-self._synced_size // PAGE), -(-self.size // PAGE))
        lost = dict.fromkeys(grown, b"") | self._before
        self._given_up |= {page: data.ljust(PAGE, b"\0") for page, data in lost.items()}

    def cut(self, keep_to: int | None = None) -> None:
        """Forgets what was not synced; with `keep_to` only from that offset on: a torn prefix was written."""
        kept = 0 if keep_to is None else min(keep_to, self.size)
        whole = keep_to is not None and keep_to >= self.size
        grown = max(self._synced_size, kept) if self.size >= self._synced_size else self._synced_size
        size = self.size if whole else grown
        self._store.truncate(size)
        for page, data in self._before.items():
            begin = max(page * PAGE, kept)
            if data[begin - page * PAGE :]:
                self._put(begin, data[begin - page * PAGE :], size)
        for page, data in self._given_up.items():
            self._put(page * PAGE, data, size)
        self._before.clear()
        self._given_up.clear()
        self.size = self._synced_size = size

    def _remember(self, begin: int, end: int) -> None:
        for page in range(begin // PAGE, -(-end // PAGE)):
            if page in self._given_up:  # written now, it will be tried again as a whole
                self._before[page] = self._given_up.pop(page)
            elif page * PAGE < self._synced_size and page not in self._before:
                self._before[page] = self._on_disk(page)

    def _on_disk(self, page: int) -> bytes:
        return self._store.read(page * PAGE, max(0, min(PAGE, self._synced_size - page * PAGE)))

    def _put(self, offset: int, data: bytes, size: int) -> None:
        if data := data[: max(0, size - offset)]:
            self._store.write(offset, data)
