"""A clock on the wall that a test can set, for processes that are started by `faults.launcher`.

Their `time.time` adds what stands in a file. What asks the kernel by another way (`datetime.now`: leases of deliveries,
days of reports) keeps the true time, as do all clocks that only go on, by which everything waits.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Final

_NUMBER: Final = struct.Struct("d")


class Clock:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0.0)

    def set(self, ahead_seconds: float) -> None:
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.write(_NUMBER.pack(ahead_seconds))


def plant(path: Path) -> None:
    """From now on this process goes by that clock."""
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _NUMBER.size, access=mmap.ACCESS_READ)
    true_time = time.time

    def shown() -> float:
        return true_time() + float(_NUMBER.unpack_from(shared)[0])

    time.time = shown
