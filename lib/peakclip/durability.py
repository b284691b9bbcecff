"""Whether the servers sync to disk what they acknowledge: read back from their own reports, never assumed.

And whether the file system keeps what was synced, names of files too, where this process can see it
(docs/explanation/durability.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.store import DATABASE_AWAY

# All of these wait for the local disk; only `off` does not.
COMMITS_TO_DISK: Final = frozenset({"on", "local", "remote_write", "remote_apply"})
STREAMS: Final = (topology.INTAKE, topology.SECKILL, topology.STOCK)  # an order and its unit are in these

_MOUNTS: Final = Path("/proc/self/mountinfo")
# An fsync of a file keeps its name, too. NATS relies on that: it never syncs a folder.
_KEEP_NAMES: Final = frozenset({"ext3", "ext4", "xfs", "btrfs", "zfs"})
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
# The disk is not told to empty its own cache: that is safe only with a battery.
_WITHOUT_BARRIERS: Final = frozenset({"nobarrier", "barrier=0"})
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class FileSystem:
    kind: str  # ext4, overlay, nfs4, fuse.sshfs …
    durable: bool | None  # whether it keeps what was synced when the power goes; None: not known


def file_system(path: Path, mounts: Path = _MOUNTS) -> FileSystem | None:
    """Of the folder's data; None: this system does not tell."""
    try:
        return find_file_system(path.resolve(), mounts.read_text())
    except OSError:
        return None


def find_file_system(path: Path, mountinfo: str) -> FileSystem | None:
    """By the lines of /proc/self/mountinfo. The last of those mounted at one place is the one that is seen."""
    found: tuple[int, FileSystem] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 6 or not kinds[0]:
            continue
        place = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if path.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            options = {*fields[5].split(","), *kinds[-1].split(",")}
            found = len(place.parts), FileSystem(kinds[0], _is_durable(kinds[0], options))
    return None if found is None else found[1]


def _is_durable(kind: str, options: set[str]) -> bool | None:
    if kind in _IN_MEMORY:
        return False
    return True if kind in _KEEP_NAMES and options.isdisjoint(_WITHOUT_BARRIERS) else None


async def nats_is_durable(js: JetStream) -> bool | None:
    """None: the server does not tell."""
    try:
        return await js.is_durable(STREAMS)
    except PeakclipError:
        return None


async def postgres_is_durable(database: Any) -> bool | None:
    """None: the server does not tell."""
    try:
        commit = await database.fetchval("show synchronous_commit")
        return commit in COMMITS_TO_DISK and await database.fetchval("show fsync") == "on"
    except DATABASE_AWAY:
        return None
