"""PURE. Tables, and transactions on them as PostgreSQL's READ COMMITTED has them, as far as our statements rely on it.

A statement is a generator that runs until it must wait: it yields the transaction that it waits for, or `PAUSE` between
two SQL statements of one function, where other transactions may come in between.

* what a statement reads, it reads at its beginning: what was committed then, and the transaction's own;
* a row that it wants to change or lock is waited for while another transaction has it; if that one has changed it, the
  condition is judged again, on the new row; if it has only locked it, or ended without a commit, what the statement saw
  at its beginning counts;
* a key that another transaction has inserted is waited for until that one has ended;
* a transaction that ends without a commit has never been, sequences apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from typing import Any, Final, TypeVar

import asyncpg

Row = Mapping[str, Any]  # never changed in place
Place = tuple[str, Hashable]  # table and key
T = TypeVar("T")

PAUSE: Final = None
Steps = Generator["Transaction | None", None, T]


class Store:
    """What is committed, and who has which row at the moment."""

    def __init__(self) -> None:
        self.tables: defaultdict[str, dict[Hashable, Row]] = defaultdict(dict)
        self.holders: dict[Place, Transaction] = {}
        self._sequences: dict[str, int] = {}

    def next(self, sequence: str) -> int:
        """Never given back."""
        number = self._sequences[sequence] = self._sequences.get(sequence, 0) + 1
        return number


def _check_sale(row: Row) -> None:
    """The table's own constraint."""
    available, reserved, sold = row["available"], row["reserved"], row["sold"]
    if min(available, reserved, sold) < 0 or row["initial"] != available + reserved + sold:
        raise asyncpg.CheckViolationError(f"sales_check: {row}")


class Transaction:
    """`clock`: epoch seconds, which go on while it runs; `began` does not."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self.clock = lambda: round(clock(), 6)  # as fine as PostgreSQL's
        self.began = self.clock()
        self.statement_began = self.began
        self.is_open = True
        self._writes: dict[str, dict[Hashable, Row | None]] = {}
        self._held: list[Place] = []

    # -- reading -------------------------------------------------------------------------------------------

    def get(self, table: str, key: Hashable) -> Row | None:
        own = self._writes.get(table)
        if own is not None and key in own:
            return own[key]
        return self.store.tables[table].get(key)

    def rows(self, table: str) -> Iterator[tuple[Hashable, Row]]:
        own = self._writes.get(table)
        committed = self.store.tables[table]
        if not own:
            return iter(list(committed.items()))
        found = {**committed, **own}
        return iter([(key, row) for key, row in found.items() if row is not None])

    # -- writing -------------------------------------------------------------------------------------------

    def put(self, table: str, key: Hashable, row: Row | None) -> None:
        """Of a row that is held already. None removes it."""
        if table == "sales" and row is not None:
            _check_sale(row)
        self._writes.setdefault(table, {})[key] = row

    def add(self, table: str, row: Row, sequence: str) -> int:
        """Under a number of its own, for which nobody ever waits."""
        number = self.store.next(sequence)
        self._hold((table, number))
        self.put(table, number, {"id": number, **row})
        return number

    def take(self, table: str, key: Hashable, seen: Row, fits: Callable[[Row], bool]) -> Steps[Row | None]:
        """Waits for a row that the statement saw, and holds it. The row as it is now; None if it no longer fits."""
        yield from self._wait(table, key)
        row = self.get(table, key)
        if row is None or (row is not seen and not fits(row)):
            return None
        return row

    def hold(self, table: str, key: Hashable) -> Steps[Row | None]:
        """`select … for update`, asked for by nothing but the key."""
        seen = self.get(table, key)
        return None if seen is None else (yield from self.take(table, key, seen, lambda _: True))

    def insert(self, table: str, key: Hashable, row: Row, *, or_nothing: bool = False) -> Steps[bool]:
        """Whether it was. Raises UniqueViolationError where the key is there already, unless `or_nothing`."""
        while True:
            if self.get(table, key) is not None:
                if or_nothing:
                    return False
                raise asyncpg.UniqueViolationError(f"duplicate key {key} in {table}")
            holder = self.store.holders.get((table, key))
            if holder is None or holder is self:
                self._hold((table, key))
                self.put(table, key, row)
                return True
            yield holder

    def upsert(self, table: str, key: Hashable, row: Row, change: Callable[[Row], Row]) -> Steps[Row]:
        """`insert … on conflict do update`. The row as it is now."""
        while not (yield from self.insert(table, key, row, or_nothing=True)):
            old = yield from self.hold(table, key)
            if old is not None:
                row = change(old)
                self.put(table, key, row)
                break
        return row

    def is_free(self, table: str, key: Hashable) -> bool:
        """For `skip locked`."""
        return self.store.holders.get((table, key)) in (None, self)

    def _wait(self, table: str, key: Hashable) -> Steps[None]:
        place = (table, key)
        while (holder := self.store.holders.get(place)) is not None and holder is not self:
            yield holder
        self._hold(place)

    def _hold(self, place: Place) -> None:
        if self.store.holders.get(place) is not self:
            self.store.holders[place] = self
            self._held.append(place)

    # -- its end -------------------------------------------------------------------------------------------

    def commit(self) -> None:
        for table, writes in self._writes.items():
            rows = self.store.tables[table]
            for key, row in writes.items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
        self._end()

    def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        self.is_open = False
        self._writes = {}
        for place in self._held:
            del self.store.holders[place]
        self._held = []
