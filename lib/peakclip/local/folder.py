"""The folder of a stack: made, locked, tidied of what a killed stack left behind, removed if it is not kept."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

import psutil

from peakclip.local import accounts
from peakclip.local.files import read_json, write_private
from peakclip.local.process import ProcessError
from peakclip.local.supervisor import Running

STACK_VARIABLE: Final = "PEAKCLIP_STACK"  # in the environment of every process of a stack: its folder
_LEFTOVER_SECONDS: Final = 15.0


class DataFolder:
    """Open from construction until `close`; only one at a time per folder."""

    def __init__(self, data: Path | None) -> None:
        self.kept = data is not None
        self.path = _make(data)
        self._lock = _lock(self.path)
        self.logs = self.path / "logs"
        self.metrics = self.path / "run" / "metrics"
        self.credentials = self.path / "credentials.json"
        for private in (self.logs, self.path / "run"):
            private.mkdir(exist_ok=True, mode=0o700)
        if self.kept:
            end_leftovers(self.path)
        shutil.rmtree(self.metrics, ignore_errors=True)
        self.metrics.mkdir()

    def write_processes(self, running: Iterable[Running]) -> None:
        """For people, and for tests that kill one."""
        rows = [
            {
                "name": one.name,
                "pid": one.pid,
                "management_url": one.management_url,
                "started_at": one.started_at,
            }
            for one in running
        ]
        write_private(self.path / "processes.json", json.dumps(rows, indent=2) + "\n")

    def settings(self) -> dict[str, Any]:
        """What the last run on this folder chose."""
        return read_json(self.path / "settings.json") or {}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / "processes.json").unlink()
        if not self.kept:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _make(data: Path | None) -> Path:
    """Root's folder may be entered by everybody, or PostgreSQL's account could not; what is in it is closed."""
    root = os.geteuid() == 0
    if data is None:
        path = Path(tempfile.mkdtemp(prefix="peakclip-", dir=temporary()))
        if root:
            path.chmod(0o711)
        return path
    path = data.expanduser().absolute()
    if not path.exists():
        path.mkdir(parents=True, mode=0o700)
        if root:
            path.chmod(0o711)
    if not path.is_dir():
        raise ProcessError(f"{path} is not a folder.")
    return path


def temporary() -> str:
    """Where temporary files go, such that PostgreSQL's account can enter: TMPDIR may be in a closed home."""
    account = accounts.unprivileged()
    for name in (tempfile.gettempdir(), "/var/tmp", "/tmp"):  # noqa: S108 - mkdtemp makes an own folder there
        if accounts.can_reach(Path(name), account, wanted=0o111):
            return name
    return tempfile.gettempdir()


def _lock(path: Path) -> IO[str]:
    """The kernel lets go of the lock when we die, however we die."""
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = file.read().strip()
        file.close()
        raise ProcessError(
            f"Another Peakclip (pid {owner or 'unknown'}) runs on {path}: stop it, or choose another --data folder."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def end_leftovers(path: Path, patience_seconds: float = _LEFTOVER_SECONDS) -> None:
    """Ends processes of a stack that was killed: two servers on the same files would destroy them.

    Known by a variable in their environment, which their own children have, too. (PostgreSQL is known by its
    pid file, see postgres.py.)
    """
    left = [process for process in psutil.process_iter() if _belongs(process, path)]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=patience_seconds)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=patience_seconds)


def _belongs(process: psutil.Process, path: Path) -> bool:
    try:
        return bool(process.environ().get(STACK_VARIABLE) == str(path))
    except (psutil.Error, OSError):
        return False
