"""A disk whose plug can be pulled, for tests: a folder that a process of its own serves.

with Disk(folder) as disk:
    ...                 # programs write to disk.path
    disk.cut(seed=1)    # what was not synced is gone, and nothing works any more
    disk.mount()        # what is left
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from ctypes.util import find_library
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from faults.disk.names import Semantics

_TESTS: Final = Path(__file__).parents[2]
_READY_SECONDS: Final = 20.0
_DETACH: Final = 2  # MNT_DETACH


def why_not() -> str | None:
    """Why this machine cannot have one; None: it can."""
    if os.geteuid() != 0:
        return "only root may mount a file system for other accounts"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    if not find_library("fuse3"):
        return "libfuse3 is not installed (Debian: apt-get install fuse3)"
    return None


def unmount(folder: Path) -> None:
    """At once, whoever still uses it, if anything is mounted there at all."""
    ctypes.CDLL(None).umount2(os.fsencode(folder), _DETACH)


class Disk:
    """`folder` is its own; PostgreSQL's account must be able to enter it."""

    def __init__(self, folder: Path, semantics: Semantics = Semantics.ORDERED) -> None:
        self._semantics = semantics
        self._backing = folder / "backing"
        self._log = folder / "disk.log"
        self.path = folder / "disk"
        self._backing.mkdir(mode=0o700, parents=True)
        self.path.mkdir()
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def mount(self) -> None:
        if self._process is not None:
            raise RuntimeError("it is mounted")
        unmount(self.path)  # what is left of a mount that was cut
        command = [sys.executable, "-P", "-m", "faults.disk.mount"]
        command += [str(self._backing), str(self.path), self._semantics]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": str(_TESTS)}, cwd="/", text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _READY_SECONDS
        while not os.path.ismount(self.path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the disk could not be mounted: {self._log.read_text()}")
            time.sleep(0.01)

    def cut(self, seed: int, *, torn: bool = True) -> dict[str, int]:
        """How many files, bytes and names were not synced. Until it is mounted again every call fails."""
        told = self._order(order="cut", seed=seed, torn=torn)
        self._gone()
        return told

    def sync(self) -> None:
        """As if it had been used long ago: everything is on the disk, names too."""
        self._order(order="sync")

    def set_room(self, room_bytes: int | None) -> None:
        """How much more it takes before it is full; None: anything."""
        self._order(order="room", bytes=room_bytes)

    def fail(self, *calls: str) -> None:
        """From now on these of `read`, `write` and `fsync` are answered with EIO, and the others are not."""
        self._order(order="fail", calls=calls)

    def unmount(self) -> None:
        """In order: everything is kept."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._gone()

    def close(self) -> None:
        """Also after anything went wrong."""
        try:
            self.unmount()
        finally:
            if self._process is not None:
                self._process.kill()
                self._gone()
            unmount(self.path)

    def _order(self, **order: Any) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("it is not mounted")
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        if not (answer := process.stdout.readline()):
            raise RuntimeError(f"the disk is gone: {self._log.read_text()}")
        told: dict[str, Any] = json.loads(answer)
        return told

    def _gone(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(_READY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
