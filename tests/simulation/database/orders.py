"""PURE. `drain_seckill` and `create_orders`, and what is asked about orders, as the migrations have them."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Final

import msgspec
from simulation.database.store import PAUSE, Row, Steps, Transaction
from simulation.database.words import Record, moment, owe, seconds, text_of, traced
from simulation.servers.words import written

INACTIVE: Final = ("cancelled", "rejected")
DEFAULTS: Final[Row] = {
    "order_id": "", "tenant": "", "customer_id": "", "sale_id": None, "quantity": 1, "status": "", "reason": None,
    "version": 1, "amount_cents": 0, "frame_id": None, "fingerprint": "", "transition_keys": None,
    "payment_id": None, "accepted_at": 0.0, "started_at": None, "committed_at": 0.0, "expires_at": None,
    "paid_at": None, "cancelled_at": None, "pet_id": None, "service_package_id": None, "service_date": None,
    "address": None, "latitude": None, "longitude": None, "note": None, "provider_id": None, "assigned_at": None,
    "service_started_at": None, "completed_at": None,
}  # fmt: skip
_TIMES: Final = (*(name for name in DEFAULTS if name.endswith("_at")), "service_date")
_IDS: Final = ("order_id", "payment_id")
_IN_EVENT: Final = (
    "order_id", "tenant", "customer_id", "sale_id", "quantity", "status", "reason", "amount_cents", "provider_id",
    "pet_id", "service_package_id", "service_date", "latitude", "longitude", "expires_at", "version",
)  # fmt: skip


def shown(row: Row | None) -> Record:
    """All columns, as asyncpg gives them."""
    found = Record(row or dict.fromkeys(DEFAULTS))
    for name in _TIMES:
        found[name] = moment(found[name])
    for name in _IDS:
        found[name] = None if found[name] is None else uuid.UUID(found[name])
    return found


def order_event(tx: Transaction, order: Row, refunded_cents: int = 0) -> str:
    body = {name: text_of(order[name]) if name in _TIMES else order[name] for name in _IN_EVENT}
    return msgspec.json.encode({**body, "refunded_cents": refunded_cents, "at": text_of(tx.clock())}).decode()


def emit(tx: Transaction, order: Row, kind: str, traceparent: str | None, refunded_cents: int = 0) -> None:
    message_id = f"{order['order_id']}:{order['version']}"
    payload = order_event(tx, order, refunded_cents)
    owe(tx, message_id, f"order.{kind}", headers=traced(traceparent), payload=payload)


@dataclass(slots=True)
class _Incoming:
    n: int
    order_id: str
    tenant: str
    customer_id: str
    sale_id: str
    quantity: int
    frame_id: str
    fingerprint: str
    accepted_at: float
    traceparent: str
    sale: Row | None = None
    within: bool | None = None  # None: of an unknown sale
    left_over: int = 0

    @property
    def fits(self) -> bool:
        return bool(self.within) and self.quantity <= self.left_over

    @property
    def reason(self) -> str | None:
        if self.sale is None:
            return "unknown-sale"
        if not self.within:
            return "limit-reached"
        return None if self.fits else "sold-out"


def drain_seckill(tx: Transaction, *args: Any) -> Steps[list[Record]]:
    *columns, started_at = args
    rows = [_Incoming(n, *row) for n, row in enumerate(zip(*columns, strict=True), start=1)]
    for sale_id in sorted({row.sale_id for row in rows}):
        yield from tx.hold("sales", sale_id)
    yield PAUSE
    inserted = yield from _insert(tx, _judged(tx, rows), started_at)
    created = sum(order["status"] == "pending_payment" for _, order in inserted)
    rejected = len(inserted) - created
    repeated = len(rows) - created - rejected
    if repeated:
        yield PAUSE
        yield from _superseded(tx, rows)
    return [Record(created=created, rejected=rejected, repeated=repeated)]


def _judged(tx: Transaction, rows: Sequence[_Incoming]) -> list[_Incoming]:
    """The first of each new order, in their order."""
    fresh: dict[str, _Incoming] = {}
    for row in rows:
        if tx.get("orders", row.order_id) is None:
            fresh.setdefault(row.order_id, row)
    buyers = {(row.sale_id, row.customer_id) for row in rows}
    bought: defaultdict[tuple[Any, Any], int] = defaultdict(int)
    for _, order in tx.rows("orders"):
        buyer = order["sale_id"], order["customer_id"]
        if buyer in buyers and order["status"] not in INACTIVE:
            bought[buyer] += order["quantity"]
    running: defaultdict[tuple[object, ...], int] = defaultdict(int)
    for row in fresh.values():
        row.sale = tx.get("sales", row.sale_id)
        if row.sale is None:
            continue
        buyer = row.sale_id, row.customer_id
        running[buyer] += row.quantity
        row.within = running[buyer] + bought[buyer] <= row.sale["per_customer_limit"]
        taken = (row.sale_id, "taken", row.within)
        row.left_over = row.sale["available"] - running[taken]
        running[taken] += row.quantity
    return list(fresh.values())


def _insert(
    tx: Transaction, judged: Sequence[_Incoming], started_at: float
) -> Steps[list[tuple[_Incoming, Row]]]:
    inserted: list[tuple[_Incoming, Row]] = []
    for row in judged:
        sale, now = row.sale, tx.clock()
        order = {
            **DEFAULTS, "order_id": row.order_id, "tenant": row.tenant, "customer_id": row.customer_id,
            "sale_id": row.sale_id, "quantity": row.quantity,
            "amount_cents": sale["price_cents"] * row.quantity if sale else 0,
            "status": "pending_payment" if row.fits else "rejected", "reason": row.reason,
            "frame_id": row.frame_id, "fingerprint": row.fingerprint, "accepted_at": seconds(row.accepted_at),
            "started_at": seconds(started_at), "committed_at": now,
            "expires_at": now + sale["pay_within_seconds"] if sale and row.fits else None,
        }  # fmt: skip
        if (yield from tx.insert("orders", row.order_id, order, or_nothing=True)):
            inserted.append((row, order))
    _take_units(tx, inserted)
    for row, order in inserted:
        _tell(tx, row, order)
    for second in {floor(order["expires_at"]) + 1: None for row, order in inserted if row.fits}:
        at = f"@at {written(second)[:19]}Z"
        headers = {"Nats-Schedule": at, "Nats-Schedule-Target": "timer.due.expiry"}
        owe(tx, f"timer.expiry.{second}", f"timer.expiry.{second}", headers=headers)
    for row, _ in inserted:
        if row.reason == "limit-reached" or (row.reason == "sold-out" and row.left_over > 0):
            _give_back(tx, row, max(0, row.left_over) if row.reason == "sold-out" else row.quantity)
    return inserted


def _take_units(tx: Transaction, inserted: Sequence[tuple[_Incoming, Row]]) -> None:
    """The sales are held already."""
    taken: defaultdict[str, int] = defaultdict(int)
    for row, _ in inserted:
        if row.fits:
            taken[row.sale_id] += row.quantity
    for sale_id, units in taken.items():
        sale = tx.get("sales", sale_id)
        if sale is not None:
            moved = {"available": sale["available"] - units, "reserved": sale["reserved"] + units}
            tx.put("sales", sale_id, {**sale, **moved})


def _tell(tx: Transaction, row: _Incoming, order: Row) -> None:
    names = (
        "order_id",
        "tenant",
        "customer_id",
        "sale_id",
        "quantity",
        "status",
        "reason",
        "amount_cents",
        "version",
    )
    body = {name: order[name] for name in names}
    body |= {"expires_at": text_of(order["expires_at"]), "at": text_of(order["committed_at"])}
    subject = "order.created" if row.fits else "order.rejected"
    payload = msgspec.json.encode(body).decode()
    owe(tx, f"{row.order_id}:1", subject, headers=traced(row.traceparent), payload=payload)


def _give_back(tx: Transaction, row: _Incoming, units: int) -> None:
    message_id = f"b-{row.frame_id}-{row.order_id}"
    owe(tx, message_id, f"stock.{row.sale_id}", increment=units, headers={"Peakclip-Order": row.order_id})


def _superseded(tx: Transaction, rows: Sequence[_Incoming]) -> Steps[None]:
    repeats: dict[tuple[str, str], _Incoming] = {}
    for row in rows:
        winner = tx.get("orders", row.order_id)
        if (winner and winner["frame_id"]) != row.frame_id:
            repeats.setdefault((row.order_id, row.frame_id), row)
    for key in sorted(repeats):
        named = {"order_id": key[0], "frame_id": key[1]}
        if (yield from tx.insert("superseded_reservations", key, named, or_nothing=True)):
            _give_back(tx, repeats[key], repeats[key].quantity)


def create_orders(tx: Transaction, body: str, started_at: float | None, keep: bool) -> Steps[list[Record]]:
    incoming: dict[str, Mapping[str, Any]] = {}
    for one in msgspec.json.decode(body):
        incoming.setdefault(one["order_id"], one)
    told: list[tuple[str, str | None, Row | None]] = []
    before = {order_id: tx.get("orders", order_id) for order_id in incoming}
    for order_id, one in sorted(incoming.items()):
        refusal, order = _booked(tx, one, started_at)
        there = (keep or refusal is None) and (
            yield from tx.insert("orders", order_id, order, or_nothing=True)
        )
        if there:
            emit(tx, order, "rejected" if refusal else "created", one.get("traceparent"))
        told.append((order_id, refusal, order if there else None))
    return list(_outcomes(told, before))


def _outcomes(
    told: Sequence[tuple[str, str | None, Row | None]], before: Mapping[str, Row | None]
) -> Iterator[Record]:
    for order_id, refusal, order in told:
        if order is not None:
            outcome = order["status"]
        else:
            outcome = "repeated" if refusal is None or before[order_id] is not None else "refused"
        yield Record(order_id=order_id, outcome=outcome, reason=refusal)


def _booked(tx: Transaction, one: Mapping[str, Any], started_at: float | None) -> tuple[str | None, Row]:
    pet = tx.get("pets", one["pet_id"])
    package = tx.get("service_packages", one["service_package_id"])
    if pet is None or (pet["tenant"], pet["customer_id"]) != (one["tenant"], one["customer_id"]):
        refusal: str | None = "unknown-pet"
    else:
        refusal = "unknown-package" if package is None or package["tenant"] != one["tenant"] else None
    kept = ("tenant", "customer_id", "fingerprint", "pet_id", "service_package_id", "address", "latitude",
            "longitude", "note", "frame_id")  # fmt: skip
    return refusal, {
        **DEFAULTS, **{name: one.get(name) for name in kept}, "order_id": one["order_id"],
        "status": "rejected" if refusal else "created", "reason": refusal,
        "amount_cents": package["price_cents"] if package else 0, "accepted_at": seconds(one["accepted_at"]),
        "started_at": None if started_at is None else seconds(started_at), "committed_at": tx.clock(),
        "service_date": seconds(one["service_date"]),
    }  # fmt: skip


def find_order(tx: Transaction, order_id: str) -> Steps[list[Record]]:
    yield from ()
    found = tx.get("orders", str(order_id))
    return [shown(found)] if found is not None else []


def find_due_orders(tx: Transaction, after: float, order_id: str, most: int) -> Steps[list[Record]]:
    yield from ()
    due = [
        (order["expires_at"], order["order_id"])
        for _, order in tx.rows("orders")
        if order["status"] == "pending_payment" and order["expires_at"] <= tx.statement_began
        and (order["expires_at"], order["order_id"]) > (seconds(after), str(order_id))
    ]  # fmt: skip
    return [Record(order_id=own, expires_at=at) for at, own in sorted(due)[:most]]


def count_due_orders(tx: Transaction) -> Steps[list[Record]]:
    yield from ()
    due = [
        order for _, order in tx.rows("orders")
        if order["status"] == "pending_payment" and order["expires_at"] <= tx.statement_began
    ]  # fmt: skip
    return [Record(count=len(due))]
