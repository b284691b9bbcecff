"""PURE. What is asked and changed of sales."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
from simulation.database.store import PAUSE, Row, Steps, Transaction
from simulation.database.words import Record, moment, owe, record, seconds

_SHOWN: Final = (
    "sale_id", "tenant", "product", "price_cents", "initial", "available", "opens_at", "closes_at",
    "per_customer_limit", "pay_within_seconds", "fingerprint",
)  # fmt: skip
_CHANGED: Final = ("product", "opens_at", "closes_at", "per_customer_limit", "pay_within_seconds")


def create_sale(
    tx: Transaction, sale_id: str, tenant: str, product: str, price_cents: int, stock: int, opens_at: datetime,
    closes_at: datetime, limit: int, pay_within: int, fingerprint: str,
) -> Steps[str]:  # fmt: skip
    row = {
        "sale_id": sale_id, "tenant": tenant, "product": product, "price_cents": price_cents, "initial": stock,
        "available": stock, "reserved": 0, "sold": 0, "opens_at": seconds(opens_at),
        "closes_at": seconds(closes_at), "per_customer_limit": limit, "pay_within_seconds": pay_within,
        "fingerprint": fingerprint, "created_at": tx.began, "deleted_at": None,
    }  # fmt: skip
    there = yield from tx.insert("sales", sale_id, row, or_nothing=True)
    if there and stock > 0:
        owe(tx, f"init-{sale_id}", f"stock.{sale_id}", increment=stock)
    return f"INSERT 0 {int(there and stock > 0)}"


def find_sales(tx: Transaction, ids: Sequence[str]) -> Steps[list[Record]]:
    yield from ()
    found = (tx.get("sales", sale_id) for sale_id in dict.fromkeys(ids))
    there = [record(row, _SHOWN) for row in found if row is not None and row["deleted_at"] is None]
    for row in there:
        row["opens_at"], row["closes_at"] = moment(row["opens_at"]), moment(row["closes_at"])
    return there


def change_sale(
    tx: Transaction, sale_id: str, tenant: str, changes: str, initial: int, units: int, message_id: str
) -> Steps[list[Record]]:
    def fits(row: Row) -> bool:
        same = row["tenant"] == tenant and row["deleted_at"] is None and row["initial"] == initial
        return same and row["available"] + units >= 0

    seen = tx.get("sales", sale_id)
    row = (yield from tx.take("sales", sale_id, seen, fits)) if seen is not None and fits(seen) else None
    if row is None:
        return []
    told: dict[str, Any] = {
        name: value for name, value in msgspec.json.decode(changes).items() if name in _CHANGED
    }
    for name in ("opens_at", "closes_at"):
        if name in told:
            told[name] = seconds(told[name])
    row = {**row, **told, "initial": row["initial"] + units, "available": row["available"] + units}
    if row["closes_at"] <= row["opens_at"]:
        raise asyncpg.CheckViolationError("sales_check")
    tx.put("sales", sale_id, row)
    if units:
        owe(tx, message_id, f"stock.{sale_id}", increment=units)
    return [Record(sale_id=sale_id)]


def remove_sale(tx: Transaction, sale_id: str, tenant: str, initial: int) -> Steps[list[Record]]:
    def fits(row: Row) -> bool:
        return row["tenant"] == tenant and row["deleted_at"] is None

    seen = tx.get("sales", sale_id)
    row = (yield from tx.take("sales", sale_id, seen, fits)) if seen is not None and fits(seen) else None
    if row is None:
        return [Record(remove_sale="not-found")]
    yield PAUSE
    if any(order["sale_id"] == sale_id for _, order in tx.rows("orders")):
        return [Record(remove_sale="has-orders")]
    if row["initial"] != initial:
        return [Record(remove_sale="changed")]
    tx.put("sales", sale_id, {**row, "initial": 0, "available": 0, "deleted_at": tx.began})
    if initial > 0:
        owe(tx, f"d-{sale_id}", f"stock.{sale_id}", increment=-initial)
    return [Record(remove_sale="removed")]
