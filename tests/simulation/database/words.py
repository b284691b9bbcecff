"""PURE. Values as PostgreSQL and asyncpg give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from simulation.database.store import Row, Transaction


class Record(dict[str, Any]):
    """As asyncpg's: by name, and its iteration gives values."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return iter(self.values())


def record(row: Mapping[str, Any], names: Iterable[str]) -> Record:
    return Record([(name, row[name]) for name in names])


def moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def text_of(at: float | None) -> str | None:
    """In JSON."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def seconds(at: datetime | str | float) -> float:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return round(at.timestamp() if isinstance(at, datetime) else at, 6)


def owe(
    tx: Transaction, message_id: str, subject: str, *, increment: int | None = None, headers: Row | None = None,
    payload: str = "",
) -> None:  # fmt: skip
    """A row of the outbox."""
    row = {
        "message_id": message_id, "subject": subject, "increment": increment, "headers": headers or {},
        "payload": payload, "created_at": tx.began,
    }  # fmt: skip
    tx.add("outbox", row, "outbox")


def traced(traceparent: str | None) -> Row:
    return {"traceparent": traceparent} if traceparent else {}
