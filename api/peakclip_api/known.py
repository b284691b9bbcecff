"""What the API remembers of rows, by id: refreshed behind the requests, so that a burst reads no database.

What has changed in the database is seen within `FRESH_SECONDS`. While the database is away, what was known stays in
use. Everything that is asked for while a query runs goes into the next one: however many ask, one connection serves
them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import structlog

from peakclip.store import DATABASE_AWAY

log = structlog.get_logger()

FRESH_SECONDS: Final = 2.0
REFRESH_AFTER_SECONDS: Final = 1.0  # who asks later than this has it refreshed behind their back
MISSING_SECONDS: Final = 0.5  # how long 'there is none' is believed
PATIENCE_SECONDS: Final = 0.25
MOST_REMEMBERED: Final = 100_000
MOST_AT_ONCE: Final = 1_000  # ids in one query

T = TypeVar("T")


class _Found(NamedTuple, Generic[T]):
    refresh_at: float
    until: float
    value: T | None


class Known(Generic[T]):
    """`load` gets ids and answers the rows that there are, by id. `clock` is monotonic seconds.

    `patience`: seconds that somebody waits for a database that hangs, while something old is known.
    """

    def __init__(
        self,
        load: Callable[[Sequence[str]], Awaitable[dict[str, T]]],
        clock: Callable[[], float],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._load = load
        self._clock = clock
        self._patience = patience
        self._known: dict[str, _Found[T]] = {}
        self._next: dict[str, asyncio.Future[T | None]] = {}  # for the next query
        self._loading: dict[str, asyncio.Future[T | None]] = {}  # in the one that runs
        self._loader: asyncio.Task[None] | None = None

    def remembered(self, key: str) -> T | None:
        """What is known and fresh; None says nothing."""
        found = self._known.get(key)
        if found is None:
            return None
        now = self._clock()
        if now >= found.refresh_at:
            self._refresh(key)
        return found.value if now < found.until else None

    async def get(self, key: str) -> T | None:
        """None if there is no such row. Raises what asyncpg raises while the database is away and nothing is known."""
        found = self._known.get(key)
        if found is None:
            return await asyncio.shield(self._refresh(key))
        now = self._clock()
        if now >= found.refresh_at:
            asked = self._refresh(key)
            if now >= found.until:
                if found.value is None:
                    return await asyncio.shield(asked)
                return await self._or_old(key, found.value, asked)
        return found.value

    async def fresh(self, key: str) -> T | None:
        """As the database has it after the call."""
        return await asyncio.shield(self._refresh(key, anew=True))

    async def _or_old(self, key: str, old: T, asked: asyncio.Future[T | None]) -> T | None:
        await asyncio.wait([asked], timeout=self._patience)
        if asked.done() and asked.exception() is None:
            return asked.result()
        self._remember(key, old)
        return old

    def _remember(self, key: str, value: T | None) -> None:
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        now = self._clock()
        known_missing = MISSING_SECONDS if value is None else None
        self._known[key] = _Found(
            now + (known_missing or REFRESH_AFTER_SECONDS), now + (known_missing or FRESH_SECONDS), value
        )

    def _refresh(self, key: str, *, anew: bool = False) -> asyncio.Future[T | None]:
        """A query that runs may have read the row already, so it is no answer to who asks anew."""
        future = (None if anew else self._loading.get(key)) or self._next.get(key)
        if future is None:
            future = self._next[key] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_seen)
        if self._loader is None or self._loader.done():
            self._loader = asyncio.create_task(self._load_all(), name="load-rows")
        return future

    async def _load_all(self) -> None:
        while self._next:
            keys = list(self._next)[:MOST_AT_ONCE]
            self._loading = {key: self._next.pop(key) for key in keys}
            try:
                rows = await self._load(keys)
            except Exception as exc:  # noqa: BLE001 - each of those who wait gets it
                self._fail(exc)
                continue
            for key, future in self._loading.items():
                self._remember(key, rows.get(key))
                if not future.done():
                    future.set_result(rows.get(key))
            self._loading = {}

    def _fail(self, failure: Exception) -> None:
        log.warning("rows_not_refreshed", rows=len(self._loading), error=repr(failure))
        loading, self._loading = self._loading, {}
        for key, future in loading.items():
            found = self._known.get(key)
            if found is not None and found.value is not None and isinstance(failure, DATABASE_AWAY):
                self._remember(key, found.value)
            if not future.done():
                future.set_exception(failure)


def _seen(future: asyncio.Future[Any]) -> None:
    """Nobody may be waiting any more."""
    if not future.cancelled():
        future.exception()
