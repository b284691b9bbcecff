"""The kernel's side: serves a folder from a backing one, and does what the lines on its input say.

Started by `faults.disk.disk`, one process for each mount: python -m faults.disk.mount BACKING FOLDER SEMANTICS.
A JSON object a line in, one out. The end of the input is the end of the mount: it does not outlive the test.
"""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mfusepy
from faults.disk.disk import unmount
from faults.disk.names import Semantics
from faults.disk.volume import Node, Volume

_WHOLE_BYTES: Final = 1 << 40  # of a disk that is not full
_BLOCK: Final = 4096


class File:
    """One file of the backing folder."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        done = os.pwrite(self._descriptor, data, offset)
        if done != len(data):
            raise OSError(errno.EIO, "the backing folder is full")

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


class Files:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, File] = {}

    def open(self, number: int) -> File:
        return self._open.setdefault(number, File(self._folder / str(number)))

    def size(self, number: int) -> int:
        return (self._folder / str(number)).stat().st_size

    def remove(self, number: int) -> None:
        if number in self._open:
            self._open.pop(number).close()
        (self._folder / str(number)).unlink(missing_ok=True)


class Mounted(mfusepy.Operations):  # type: ignore[misc]
    """One call at a time: the kernel's, and those of `Orders`. A handle is the number of what is open."""

    use_ns = True

    def __init__(self, volume: Volume, lock: threading.Lock) -> None:
        self._volume = volume
        self._lock = lock  # `lock` without the underscore would be a call of the kernel's

    def _number(self, path: str | None, handle: int | None) -> int:
        return handle or self._volume.find(path or "")

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with self._lock:
            number = self._number(path, fh)
            node = self._volume.nodes[number]
            size = self._volume.size(number)
            times = dict.fromkeys(("st_mtime", "st_ctime", "st_atime"), node.changed_ns)
            return {
                "st_ino": number, "st_mode": node.mode, "st_uid": node.uid, "st_gid": node.gid, "st_size": size,
                "st_nlink": 2 if stat.S_ISDIR(node.mode) else 1, "st_blocks": -(-size // 512), **times,
            }  # fmt: skip

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        with self._lock:
            numbers = {".": fh, "..": fh, **self._volume.list(fh)}
            return iter([(name, {"st_ino": number}, 0) for name, number in numbers.items()])

    def opendir(self, path: str) -> int:
        with self._lock:
            return self._volume.find(path)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return self._create(path, stat.S_IFREG | stat.S_IMODE(mode), opened=True)

    def mkdir(self, path: str, mode: int) -> int:
        self._create(path, stat.S_IFDIR | stat.S_IMODE(mode), opened=False)
        return 0

    def _create(self, path: str, mode: int, *, opened: bool) -> int:
        uid, gid, _ = mfusepy.fuse_get_context()
        with self._lock:
            number = self._volume.create(path, Node(mode, uid, gid))
            if opened:
                self._volume.opened(number)
            return number

    def open(self, path: str, flags: int) -> int:
        with self._lock:
            number = self._volume.find(path)
            if flags & os.O_TRUNC:
                self._volume.truncate(number, 0)
            self._volume.opened(number)
            return number

    def release(self, path: str, fh: int) -> int:
        with self._lock:
            self._volume.closed(fh)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._lock:
            return self._volume.read(fh, offset, size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._lock:
            self._volume.write(fh, offset, data)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._lock:
            self._volume.truncate(self._number(path, fh), length)
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only what posix_fallocate asks for")
        with self._lock:
            self._volume.truncate(fh, max(self._volume.size(fh), offset + size))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._lock:
            self._volume.sync(fh)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        return self.fsync(path, datasync, fh)

    def flush(self, path: str, fh: int) -> int:
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._lock:
            self._volume.rename(old, new)
        return 0

    def unlink(self, path: str) -> int:
        with self._lock:
            self._volume.remove(path)
        return 0

    def rmdir(self, path: str) -> int:
        return self.unlink(path)

    def chmod(self, path: str, mode: int) -> int:
        with self._lock:
            node = self._volume.nodes[self._volume.find(path)]
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        nobody = 2**32 - 1  # -1: leave it
        with self._lock:
            node = self._volume.nodes[self._volume.find(path)]
            node.uid = node.uid if uid in (-1, nobody) else uid
            node.gid = node.gid if gid in (-1, nobody) else gid
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        with self._lock:
            self._volume.nodes[self._volume.find(path)].changed_ns = times[1] if times else time.time_ns()
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        free = (_WHOLE_BYTES if self._volume.room_bytes is None else self._volume.room_bytes) // _BLOCK
        whole = _WHOLE_BYTES // _BLOCK
        return {"f_bsize": _BLOCK, "f_frsize": _BLOCK, "f_blocks": whole, "f_bfree": free, "f_bavail": free,
                "f_files": 1 << 20, "f_ffree": 1 << 20, "f_namemax": 255}  # fmt: skip


class Orders:
    """What the test wants of the disk, read from standard input by a thread of its own."""

    def __init__(self, volume: Volume, lock: threading.Lock, backing: Path, folder: Path) -> None:
        self._volume = volume
        self._lock = lock
        self._backing = backing
        self._folder = folder

    def run(self) -> None:
        for line in sys.stdin:
            with self._lock:
                answer = self._obey(**json.loads(line))
                print(json.dumps(answer), flush=True)
                if self._volume.off:
                    os._exit(0)  # who waits for an answer of the disk gets an error, and so does who asks it
        unmount(self._folder)  # then FUSE returns

    def _obey(self, order: str, **value: Any) -> dict[str, Any]:
        volume = self._volume
        match order:
            case "cut":
                told = volume.cut(random.Random(value["seed"]), torn=value["torn"])
                save(volume, self._backing)
                return told
            case "sync":
                volume.sync_all()
            case "room":
                volume.room_bytes = value["bytes"]
            case "fail":
                volume.failing = set(value["calls"])
        return {}


def save(volume: Volume, backing: Path) -> None:
    (backing / "state.json").write_text(json.dumps(volume.state()))


def main() -> None:
    backing, folder, semantics = Path(sys.argv[1]), Path(sys.argv[2]), Semantics(sys.argv[3])
    state = backing / "state.json"
    found = json.loads(state.read_text()) if state.exists() else None
    state.unlink(missing_ok=True)  # written again at the end; without one the backing folder is of no use
    (backing / "files").mkdir(exist_ok=True)
    volume = Volume(Files(backing / "files"), semantics, time.time_ns, found)
    lock = threading.Lock()
    threading.Thread(target=Orders(volume, lock, backing, folder).run, daemon=True).start()
    mfusepy.FUSE(
        Mounted(volume, lock), str(folder), foreground=True, nothreads=True, allow_other=True, default_permissions=True,
        hard_remove=True, use_ino=True, fsname="peakclip-disk",
    )  # fmt: skip
    with lock:  # unmounted in order
        volume.sync_all()
        save(volume, backing)


if __name__ == "__main__":
    main()
