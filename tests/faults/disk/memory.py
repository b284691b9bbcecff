"""Bytes in memory, for tests of what needs no mount."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Bytes:
    data: bytearray = field(default_factory=bytearray)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self.truncate(max(len(self.data), offset + len(data)))
        self.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self.data = self.data[:size].ljust(size, b"\0")


class Memory:
    def __init__(self) -> None:
        self.files: defaultdict[int, Bytes] = defaultdict(Bytes)

    def open(self, number: int) -> Bytes:
        return self.files[number]

    def size(self, number: int) -> int:
        return len(self.files[number].data)

    def remove(self, number: int) -> None:
        del self.files[number]
