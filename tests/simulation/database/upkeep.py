"""PURE. The outbox, dead letters, and what is on record while it is worked on alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from simulation.database.store import Row, Steps, Transaction
from simulation.database.words import Record, moment


def claim_outbox(tx: Transaction, most: int) -> Steps[list[Record]]:
    """`for update skip locked`"""
    yield from ()
    found: list[Record] = []
    for number, row in sorted(tx.rows("outbox")):  # type: ignore[type-var]
        if len(found) >= most:
            break
        if tx.is_free("outbox", number):
            yield from tx.hold("outbox", number)
            shown = {name: row[name] for name in ("id", "message_id", "subject", "increment")}
            headers = msgspec.json.encode(row["headers"]).decode()
            found.append(Record(**shown, headers=headers, payload=row["payload"]))
    return found


def delete_outbox(tx: Transaction, numbers: Sequence[int]) -> Steps[str]:
    there = [number for number in numbers if tx.get("outbox", number) is not None]
    for number in there:
        yield from tx.hold("outbox", number)
        tx.put("outbox", number, None)
    return f"DELETE {len(there)}"


def count_outbox(tx: Transaction) -> Steps[list[Record]]:
    yield from ()
    return [Record(count=sum(1 for _ in tx.rows("outbox")))]


def _letter(tx: Transaction, args: Sequence[Any]) -> Row:
    names = ("message_id", "pool", "subject", "headers", "payload", "cause", "attempts")
    return {**dict(zip(names, args, strict=True)), "headers": msgspec.json.decode(args[3]), "at": tx.began}


def dead_letter(tx: Transaction, *args: Any) -> Steps[list[Record]]:
    letter = _letter(tx, args)
    changed = {name: letter[name] for name in ("headers", "cause", "attempts", "at")}
    row = yield from tx.upsert("dead_letters", args[0], letter, lambda old: {**old, **changed})
    return [Record(at=moment(row["at"]))]


def dead_letter_if_missing(tx: Transaction, *args: Any) -> Steps[list[Record]]:
    letter = _letter(tx, args)
    there = yield from tx.insert("dead_letters", args[0], letter, or_nothing=True)
    return [Record(at=moment(letter["at"]))] if there else []


def count_dead_letters(tx: Transaction) -> Steps[list[Record]]:
    yield from ()
    counts = Counter(row["pool"] for _, row in tx.rows("dead_letters"))
    return [Record(pool=pool, letters=letters) for pool, letters in sorted(counts.items())]


def begin_alone(tx: Transaction, pool: str, message_id: str) -> Steps[list[Record]]:
    row = {"pool": pool, "message_id": message_id, "begun": 1, "at": tx.began}
    now = yield from tx.upsert(
        "begun_alone", (pool, message_id), row, lambda old: {**old, "begun": old["begun"] + 1, "at": tx.began}
    )
    return [Record(begun=now["begun"])]


def end_alone(tx: Transaction, pool: str, message_id: str) -> Steps[str]:
    row = yield from tx.hold("begun_alone", (pool, message_id))
    if row is not None:
        tx.put("begun_alone", (pool, message_id), None)
    return f"DELETE {int(row is not None)}"


def answers(value: Any) -> Any:
    """A statement that only tells that the server is there, or a setting of it."""

    def statement(tx: Transaction) -> Steps[list[Record]]:
        yield from ()
        return [Record(value=value)]

    return statement
