"""Another account for what refuses to run as root, and the question what that account can reach."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from peakclip.local.process import Account, ProcessError

_READ: Final = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_ENTER: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def unprivileged(kept_uid: int | None = None) -> Account:
    """The account for PostgreSQL: ours; for root that of the kept data (`kept_uid`), or `nobody`.

    No account is created. It has to be in the password file, since initdb looks up its own name.
    """
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwuid(kept_uid) if kept_uid else pwd.getpwnam("nobody")
    except KeyError:
        others = [other for other in pwd.getpwall() if other.pw_uid > 0]
        if not others:
            raise ProcessError(
                "PostgreSQL does not run as root and this machine has no other account: run as another user."
            ) from None
        entry = max(others, key=lambda other: other.pw_uid)
    return Account(entry.pw_uid, entry.pw_gid)


def allows(mode: int, owner: Account, account: Account, wanted: int) -> bool:
    """Whether a file of this mode and owner gives `account` the rights in `wanted` (bits of all classes)."""
    if owner.uid == account.uid:
        mask = stat.S_IRWXU
    elif owner.gid == account.gid:
        mask = stat.S_IRWXG
    else:
        mask = stat.S_IRWXO
    needed = wanted & mask
    return mode & needed == needed


def can_reach(path: Path, account: Account, *, wanted: int = _READ | _ENTER) -> bool:
    """True if `account` can enter every folder on the way to `path` and has the `wanted` rights there.

    Judged by mode bits; an access list that gives more is not seen, and then we copy without need.
    """
    if account.uid == 0:
        return True
    target = path.resolve()
    steps = [(folder, _ENTER) for folder in target.parents] + [(target, wanted)]
    for step, rights in steps:
        try:
            found = step.stat()
        except OSError:
            return False
        if not allows(found.st_mode, Account(found.st_uid, found.st_gid), account, rights):
            return False
    return True


def can_read(path: Path, account: Account) -> bool:
    """Like `can_reach`, for a file that is read and not run."""
    return can_reach(path, account, wanted=_READ)
