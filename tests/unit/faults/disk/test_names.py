"""The folders of a disk against a model that keeps a copy of the whole tree for each step."""

from __future__ import annotations

import random

from faults.disk.names import ROOT, Names, Semantics
from hypothesis import given
from hypothesis import strategies as st

Tree = dict[int, dict[str, int]]
LETTERS = "abc"


def copy(tree: Tree) -> Tree:
    return {folder: dict(names) for folder, names in tree.items()}


def reachable(tree: Tree, folders: set[int]) -> Tree:
    found: Tree = {}
    ahead = [ROOT]
    while ahead:
        folder = ahead.pop()
        found[folder] = dict(tree.get(folder, {}))
        ahead += [number for number in found[folder].values() if number in folders]
    return found


class Played:
    """Random calls, each possible where it is made; `history` is the tree after each, `about` whom it concerned."""

    def __init__(self, semantics: Semantics, seed: int, calls: int) -> None:
        self.chance = random.Random(seed)
        self.names = Names(semantics)
        self.tree: Tree = {ROOT: {}}
        self.folders = {ROOT}
        self.history: list[Tree] = [copy(self.tree)]
        self.about: list[set[int]] = [set()]
        self.kept = 0  # ordered: how much of the history is on the disk
        self.kept_folders: Tree = {ROOT: {}}  # strict
        for number in range(2, calls + 2):
            self.call(number)

    def call(self, number: int) -> None:
        living = list(reachable(self.tree, self.folders))
        folder, name = self.chance.choice(living), self.chance.choice(LETTERS)
        there = self.tree[folder].get(name)
        match self.chance.choice(["add", "add", "folder", "remove", "rename", "sync", "sync"]):
            case "add" if there not in self.folders:
                self.names.add(folder, name, number)
                self.note({folder, number, there}, {(folder, name): number})
            case "folder" if there is None:
                self.names.add(folder, name, number, is_folder=True)
                self.folders.add(number)
                self.tree[number] = {}
                self.note({folder, number}, {(folder, name): number})
            case "remove" if there is not None and not self.tree.get(there):
                self.names.remove(folder, name)
                self.note({folder, there}, {(folder, name): None})
            case "rename" if there is not None and there not in self.folders:
                to_folder, to_name = self.chance.choice(living), self.chance.choice(LETTERS)
                over = self.tree[to_folder].get(to_name)
                if over not in self.folders and over != there:
                    self.names.rename(folder, name, to_folder, to_name)
                    changes = {(to_folder, to_name): there, (folder, name): None}
                    self.note({folder, to_folder, there, over}, changes)
            case "sync":
                self.sync(self.chance.choice([there or folder, folder]))

    def note(self, about: set[int | None], changes: dict[tuple[int, str], int | None]) -> None:
        for (folder, name), number in changes.items():
            if number is None:
                del self.tree[folder][name]
            else:
                self.tree[folder][name] = number
        self.history.append(copy(self.tree))
        self.about.append({number for number in about if number is not None})

    def sync(self, number: int) -> None:
        self.names.sync(number)
        concerned = [index for index, about in enumerate(self.about) if number in about]
        self.kept = max([self.kept, *concerned])
        if number in self.folders:
            self.kept_folders[number] = dict(self.tree[number])


SEEDS, CALLS = st.integers(0, 2**32), st.integers(0, 40)


@given(SEEDS, CALLS, st.integers(0, 3))
def test_an_ordered_disk_is_found_as_it_was_at_one_moment(seed: int, calls: int, further: int) -> None:
    """Not before the last one that was asked for."""
    played = Played(Semantics.ORDERED, seed, calls)
    assert reachable(played.names.now, played.folders) == reachable(played.tree, played.folders)
    assert played.names.unsynced == len(played.history) - 1 - played.kept
    played.names.cut(further)
    moment = min(played.kept + further, len(played.history) - 1)
    expected = reachable(played.history[moment], played.folders)
    assert played.names.now == played.names.kept == expected
    everything = {number for tree in played.history for names in tree.values() for number in names.values()}
    there = {number for names in expected.values() for number in names.values()}
    assert {number for number in everything if played.names.used(number)} == there


@given(SEEDS, CALLS, st.integers(0, 3))
def test_a_strict_disk_has_of_each_folder_what_its_last_sync_saw(seed: int, calls: int, further: int) -> None:
    played = Played(Semantics.STRICT, seed, calls)
    played.names.cut(further)
    assert played.names.now == reachable(played.kept_folders, played.folders)


@given(SEEDS, CALLS, st.sampled_from(Semantics))
def test_what_a_cut_may_bring_back_is_used(seed: int, calls: int, semantics: Semantics) -> None:
    """Its bytes must not be thrown away before."""
    played = Played(semantics, seed, calls)
    used = {number for number in range(1, 50) if played.names.used(number)}
    played.names.cut(played.chance.randint(0, 10))
    assert {number for names in played.names.now.values() for number in names.values()} <= used


@given(SEEDS, CALLS, st.sampled_from(Semantics))
def test_all_is_kept_after_an_orderly_end(seed: int, calls: int, semantics: Semantics) -> None:
    played = Played(semantics, seed, calls)
    played.names.sync_all()
    played.names.cut()
    assert played.names.now == reachable(played.tree, played.folders)
