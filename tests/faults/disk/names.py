"""The folders of a disk: as programs see them, and as they would be found after a power cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

ROOT = 1


class Semantics(StrEnum):
    """What else an fsync keeps."""

    # Of a file: its name too, and every earlier change of any name. So do ext4, xfs, btrfs and zfs.
    ORDERED = "ordered"
    # Of a file: nothing of its name; of a folder: its own names. That is all that POSIX promises.
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Change:
    """`number` None: the name is gone."""

    folder: int
    name: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """Changes that one call made together; `about` are the files and folders whose fsync has to keep it."""

    changes: tuple[Change, ...]
    about: frozenset[int]


class Names:
    """Files and folders are numbers. `now` and `kept` are, for each folder, what its names stand for."""

    def __init__(self, semantics: Semantics, found: Mapping[int, Mapping[str, int]] | None = None) -> None:
        self._semantics = semantics
        self.kept: dict[int, dict[str, int]] = {
            folder: dict(names) for folder, names in (found or {ROOT: {}}).items()
        }
        self.now = _copy(self.kept)
        self._folders = set(self.kept)
        self._steps: list[Step] = []
        self._uses = self._count()

    @property
    def unsynced(self) -> int:
        """Steps that an ordered disk may have written by itself, oldest first."""
        return len(self._steps)

    def used(self, number: int) -> bool:
        """It can be found under a name, now or after a power cut."""
        return number == ROOT or self._uses[number] > 0

    def add(self, folder: int, name: str, number: int, *, is_folder: bool = False) -> None:
        """Or replace what had this name."""
        if is_folder:
            self._folders.add(number)
            self.now[number] = {}
        self._take(Change(folder, name, number), about={number, *self._now(folder, name)})

    def remove(self, folder: int, name: str) -> None:
        self._take(Change(folder, name, None), about={self.now[folder][name]})

    def rename(self, folder: int, name: str, to_folder: int, to_name: str) -> None:
        number = self.now[folder][name]
        if (folder, name) != (to_folder, to_name):
            about = {number, *self._now(to_folder, to_name)}
            self._take(Change(to_folder, to_name, number), Change(folder, name, None), about=about)

    def sync(self, number: int) -> set[int]:
        """What may be used by nobody any more."""
        if self._semantics is Semantics.STRICT:
            return self._keep_folder(number) if number in self._folders else set()
        last = max((i for i, step in enumerate(self._steps) if number in step.about), default=-1)
        return self._keep_steps(last + 1)

    def sync_all(self) -> set[int]:
        return self._keep_steps(len(self._steps))

    def cut(self, further: int = 0) -> None:
        """Forgets what was not synced; an ordered disk has written that many further steps."""
        if self._semantics is Semantics.ORDERED:
            self._keep_steps(further)
        self._steps.clear()
        self._folders &= _reachable(self.kept)
        self.kept = {folder: self.kept.get(folder, {}) for folder in self._folders}
        self.now = _copy(self.kept)
        self._uses = self._count()

    def _count(self) -> Counter[int]:
        """While `now` and `kept` are the same."""
        return Counter(number for names in self.now.values() for number in names.values() for _ in range(2))

    def _now(self, folder: int, name: str) -> Iterable[int]:
        return [self.now[folder][name]] if name in self.now[folder] else []

    def _take(self, *changes: Change, about: set[int]) -> None:
        folders = {change.folder for change in changes}
        self._steps.append(Step(changes, frozenset(about | folders)))
        for change in changes:
            self._apply(self.now, change)
            if change.number is not None:
                self._uses[change.number] += 1  # by the step

    def _apply(self, names: dict[int, dict[str, int]], change: Change) -> None:
        folder = names.setdefault(change.folder, {})
        if (before := folder.pop(change.name, None)) is not None:
            self._uses[before] -= 1
        if change.number is not None:
            folder[change.name] = change.number
            self._uses[change.number] += 1

    def _keep_steps(self, count: int) -> set[int]:
        done, self._steps = self._steps[:count], self._steps[count:]
        return self._keep(change for step in done for change in step.changes)

    def _keep_folder(self, folder: int) -> set[int]:
        mine = [change for step in self._steps for change in step.changes if change.folder == folder]
        left = (
            (tuple(change for change in step.changes if change.folder != folder), step.about)
            for step in self._steps
        )
        self._steps = [Step(changes, about) for changes, about in left if changes]
        return self._keep(mine)

    def _keep(self, changes: Iterable[Change]) -> set[int]:
        touched: set[int] = set()
        for change in changes:
            before = self.kept.get(change.folder, {}).get(change.name)
            touched |= {number for number in (before, change.number) if number is not None}
            self._apply(self.kept, change)
            if change.number is not None:
                self._uses[change.number] -= 1
        return touched


def _copy(names: Mapping[int, Mapping[str, int]]) -> dict[int, dict[str, int]]:
    return {folder: dict(entries) for folder, entries in names.items()}


def _reachable(names: Mapping[int, Mapping[str, int]]) -> set[int]:
    found, ahead = {ROOT}, [ROOT]
    while ahead:
        for number in names.get(ahead.pop(), {}).values():
            if number not in found:
                found.add(number)
                ahead.append(number)
    return found
