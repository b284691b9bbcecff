"""On which file system a folder is, and what is known of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peakclip.durability import FileSystem, file_system, find_file_system
from peakclip.local.disks import file_systems

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
30 27 8:1 / /data rw,relatime shared:1 - ext4 /dev/sda1 rw
31 30 0:50 / /data/in\040memory rw - tmpfs tmpfs rw,size=1024k
32 27 8:2 / /fast rw - ext4 /dev/sda2 rw,nobarrier
33 27 8:3 / /srv rw,noatime shared:2 master:3 - xfs /dev/sdb rw
34 33 8:4 / /srv rw - btrfs /dev/sdc rw
35 27 0:51 / /net rw - nfs4 server:/export rw
36 27 0:52 / /pool rw - zfs pool/data rw,xattr
a line of a later kernel
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data", FileSystem("ext4", True)),
        ("/data/nats", FileSystem("ext4", True)),
        ("/database", FileSystem("overlay", None)),
        ("/data/in memory/nats", FileSystem("tmpfs", False)),
        ("/fast/nats", FileSystem("ext4", None)),
        ("/srv/nats", FileSystem("btrfs", True)),
        ("/net", FileSystem("nfs4", None)),
        ("/pool/a/b", FileSystem("zfs", True)),
    ],
)
def test_the_innermost_and_last_mount_counts(path: str, expected: FileSystem) -> None:
    assert find_file_system(Path(path), MOUNTS) == expected


def test_no_mount_is_unknown(tmp_path: Path) -> None:
    assert find_file_system(Path("/data"), "") is None
    assert file_system(Path("/data"), tmp_path / "not Linux") is None


def test_this_machine_tells() -> None:
    assert file_system(Path("/proc")) == FileSystem("proc", None)


def test_the_database_may_be_elsewhere_and_a_given_server_is_not_seen(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "settings.json").write_text(json.dumps({"home": "/proc"}))
    here, there = file_systems(tmp_path, {})
    assert here == file_system(tmp_path)
    assert there == FileSystem("proc", None)
    assert file_systems(tmp_path, {"PEAKCLIP_DATABASE_URL": "postgresql://elsewhere"}) == [here]
    assert file_systems(tmp_path, {"PEAKCLIP_NATS_URL": "n", "PEAKCLIP_DATABASE_URL": "p"}) == []
