"""Which folders another account can enter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peakclip.local.accounts import allows, can_reach
from peakclip.local.process import Account

NOBODY = Account(65534, 65534)


@pytest.mark.parametrize(
    ("mode", "owner", "wanted", "allowed"),
    [
        (0o700, Account(0, 0), 0o111, False),
        (0o711, Account(0, 0), 0o111, True),
        (0o711, Account(0, 0), 0o444, False),
        (0o755, Account(0, 0), 0o555, True),
        (0o700, NOBODY, 0o555, True),
        (0o077, NOBODY, 0o111, False),  # the owner's bits decide for the owner, though others may more
        (0o750, Account(0, 65534), 0o555, True),
        (0o705, Account(0, 65534), 0o111, False),  # and the group's for the group
    ],
)
def test_mode_bits_of_the_right_class_decide(mode: int, owner: Account, wanted: int, allowed: bool) -> None:
    assert allows(mode, owner, NOBODY, wanted) is allowed


def test_one_closed_folder_on_the_way_is_enough(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    while top.parent != Path("/"):  # pytest's own folders are closed, too: judge by a stranger to all of them
        top = top.parent
    deep = tmp_path / "closed" / "open"
    deep.mkdir(parents=True)
    stranger = Account(os.stat(tmp_path).st_uid + 1, os.stat(tmp_path).st_gid + 1)
    (tmp_path / "closed").chmod(0o700)
    assert not can_reach(deep, stranger)
    assert can_reach(deep, Account(os.stat(tmp_path).st_uid, os.stat(tmp_path).st_gid)) is True


def test_what_does_not_exist_is_not_reached(tmp_path: Path) -> None:
    assert not can_reach(tmp_path / "missing", NOBODY)


def test_our_own_account_reaches_everything_that_we_reach(tmp_path: Path) -> None:
    assert can_reach(tmp_path / "even missing: it is for us to make", Account())
