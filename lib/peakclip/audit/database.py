"""What the auditor reads from PostgreSQL: one snapshot, as plain values."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from peakclip import messages, topology
from peakclip.audit.facts import DeadLetter, Dropped, OrderRow, Payment, SaleRow, Sum
from peakclip.dead_letters.letter import units_of
from peakclip.store import query

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Snapshot:
    orders: tuple[OrderRow, ...]
    sales: tuple[SaleRow, ...]
    payments: tuple[Payment, ...]
    dead_letters: tuple[DeadLetter, ...]
    dropped: tuple[Dropped, ...]
    effects: dict[str, tuple[str, ...]]
    sums: tuple[Sum, ...]
    outbox_rows: int


async def read_database(pool: Any) -> Snapshot:
    """By cursors where there may be millions: all rows at once would be held twice and outlast a command's time."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        known: dict[
            tuple[str, ...], tuple[str, ...]
        ] = {}  # a few combinations of effects, for any number of events
        return Snapshot(
            sales=tuple(SaleRow(*row) for row in await connection.fetch(query("audit_sales"))),
            orders=tuple([order_of(row) async for row in _rows(connection, "audit_orders")]),
            payments=tuple([Payment(*row) async for row in _rows(connection, "audit_payments")]),
            dead_letters=tuple([letter_of(row) async for row in _rows(connection, "audit_dead_letters")]),
            dropped=tuple([dropped_of(row) async for row in _rows(connection, "audit_dropped")]),
            effects={
                row["event_id"]: known.setdefault(tuple(row["effects"]), tuple(row["effects"]))
                async for row in _rows(connection, "audit_effects")
            },
            sums=tuple(Sum(*row) for row in await connection.fetch(query("audit_sums"))),
            outbox_rows=await connection.fetchval("select count(*) from outbox"),
        )


def _rows(connection: Any, name: str) -> Any:
    return connection.cursor(query(name), prefetch=5_000)


def order_of(row: Any) -> OrderRow:
    values = dict(row)
    for name in ("tenant", "sale_id", "status", "reason"):
        if values[name] is not None:
            values[name] = sys.intern(values[name])
    return OrderRow(**values)


def letter_of(row: Any) -> DeadLetter:
    order_ids: tuple[str, ...] = ()
    units: tuple[tuple[str, str, int], ...] = ()
    if row["pool"] in (topology.ORDERS_POOL, topology.RELAY):
        try:
            orders = messages.decode_frame(row["payload"])
            order_ids = tuple(order.order_id for order in orders)
            if row["pool"] == topology.ORDERS_POOL:  # those of a frame went back when it could not be read
                units = tuple((one["order_id"], one["sale_id"], one["quantity"]) for one in units_of(orders))
        except _UNREADABLE:
            order_ids = ()
    return DeadLetter(row["message_id"], row["pool"], row["cause"], row["attempts"], order_ids, units)


def dropped_of(row: Any) -> Dropped:
    return Dropped(row["message_id"], tuple(msgspec.json.decode(row["order_ids"], type=list[str])))
