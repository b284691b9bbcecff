"""The disk itself, through the kernel: what programs see of it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from faults.disk.disk import Disk
from faults.disk.names import Semantics

from peakclip.local.files import read_json, write_json

pytestmark = [
    pytest.mark.faults,
    pytest.mark.power,
]


TESTS = Path(__file__).parents[1]


def write(path: Path, data: bytes, *, sync: bool = True) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(data)
        if sync:
            os.fsync(file.fileno())


def test_files_folders_rights_and_times(scratch: Path) -> None:
    with Disk(scratch) as disk:
        folder = disk.path / "a" / "b"
        folder.mkdir(parents=True, mode=0o700)
        file = folder / "file"
        write(file, b"0123456789")
        file.chmod(0o640)
        os.chown(file, 12, 34)
        os.utime(file, ns=(5, 6_000_000_007))
        os.truncate(file, 5)
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, 9)
            file.rename(disk.path / "moved")
            os.pwrite(opened.fileno(), b"x", 1)
            (disk.path / "moved").unlink()
            assert os.pread(opened.fileno(), 20, 0) == b"0x234\0\0\0\0"
        write(file, b"1", sync=False)
        file.write_bytes(b"")
        assert (file.stat().st_size, file.stat().st_mode & 0o777) == (0, 0o644)
        assert sorted(os.listdir(folder)) == ["file"]
        disk.unmount()
        disk.mount()
        assert [path.name for path in folder.iterdir()] == ["file"]


def test_after_a_cut_nothing_works_until_it_is_mounted_and_then_it_has_what_was_synced(scratch: Path) -> None:
    away = f"Errno {errno.ENOTCONN}"
    with Disk(scratch) as disk:
        write(disk.path / "kept", b"kept")
        write(disk.path / "lost", b"lost", sync=False)
        descriptor = os.open(disk.path / "kept", os.O_RDWR)
        assert disk.cut(1, torn=False) == {"files": 1, "bytes": 4, "names": 1}
        with pytest.raises(OSError, match=away):
            os.fsync(descriptor)
        with pytest.raises(OSError, match=away):
            os.listdir(disk.path)
        disk.mount()
        assert os.listdir(disk.path) == ["kept"]
        with pytest.raises(OSError, match=away):
            os.fsync(descriptor)
        with pytest.raises(OSError, match=away):
            os.close(descriptor)


def test_on_a_strict_disk_a_synced_file_has_no_name(scratch: Path) -> None:
    with Disk(scratch, Semantics.STRICT) as disk:
        write(disk.path / "lost", b"1")
        disk.sync()
        write(disk.path / "lost, too", b"1")
        disk.cut(1)
        disk.mount()
        assert os.listdir(disk.path) == ["lost"]


def test_a_private_file_keeps_its_name(scratch: Path) -> None:
    """Without its settings a folder of data would be taken for an attempt that failed, and made anew."""
    with Disk(scratch, Semantics.STRICT) as disk:
        disk.sync()
        write_json(disk.path / "settings.json", {"port": 1})
        disk.cut(1)
        disk.mount()
        assert read_json(disk.path / "settings.json") == {"port": 1}


def test_a_full_disk_and_one_with_errors(scratch: Path) -> None:
    with Disk(scratch) as disk:
        write(disk.path / "a", b"1")
        disk.set_room(4096)
        write(disk.path / "b", b"2" * 4095)
        with pytest.raises(OSError, match=f"Errno {errno.ENOSPC}"):
            write(disk.path / "a", b"1" * 4097)
        disk.set_room(None)
        disk.fail("fsync")
        with pytest.raises(OSError, match=f"Errno {errno.EIO}"):
            write(disk.path / "a", b"1")
        disk.fail()
        write(disk.path / "a", b"1" * 4097)


def test_it_ends_with_whoever_started_it(scratch: Path) -> None:
    """Also when that was killed."""
    program = f"""
import os, pathlib, signal
from faults.disk.disk import Disk
disk = Disk(pathlib.Path({str(scratch)!r}))
disk.mount()
print(disk.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(TESTS)}, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(10)
    assert not os.path.ismount(scratch / "disk")
    assert os.listdir(scratch / "disk") == []
