"""What the models hold, as the auditor and the checker of histories take it; and when nothing is under way any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec
from faults.history import facts as history
from faults.history.fetch import event_of, is_first_attempt, queued_of
from faults.history.record import Kind, operations
from simulation.servers.consumer import Consumer
from simulation.servers.words import Stored
from simulation.system.world import World

from peakclip import topology
from peakclip.audit import RateLimit
from peakclip.audit.database import letter_of
from peakclip.audit.facts import (
    DeadLetter,
    EventLog,
    Facts,
    Intake,
    Movement,
    Offer,
    OrderRow,
    Payment,
    Queue,
    SaleRow,
    complete_from,
)
from peakclip.audit.fetch import _event, _Frames, _message_id, _queued
from peakclip.limiter.pace import Pace
from peakclip.messages import decode_frame

_CONSUMERS: Final = (
    (topology.INTAKE, topology.RELAY), (topology.SECKILL, topology.ORDERS_POOL),
    (topology.EXPIRY, topology.REAPER_POOL), (topology.TIMERS, topology.RELAY), (topology.STOCK, "reconciler"),
)  # fmt: skip
COUNTER_OFF: Final = "a counter is not what is available"
_pace: Final = msgspec.json.Decoder(Pace).decode


def stored(world: World, stream: str) -> list[Any]:
    found = world.network.server._has.streams.get(stream)
    return [] if found is None else list(found.messages.values())


def consumer(world: World, stream: str, name: str) -> Consumer:
    return world.network.server._has.consumers[stream][name]


def rows(world: World, table: str) -> list[Any]:
    return list(world.wire.server.store.tables[table].values())


def counters(world: World) -> dict[str, int]:
    found: dict[str, int] = {}
    for message in stored(world, topology.STOCK):
        found[message.subject.partition(".")[2]] = int(msgspec.json.decode(message.payload)["val"])
    return found


def _under_way(one: Consumer) -> int:
    return one.pending + len(one.state.flying)


def _delayed(world: World, pool: str) -> list[Stored]:
    floor = consumer(world, topology.TIMERS, topology.RELAY).state.floor[1]
    waiting, due = f"timer.retry.{pool}.", topology.due_subject(pool)
    return [
        one for one in stored(world, topology.TIMERS)
        if one.subject.startswith(waiting) or (one.subject == due and one.seq > floor)
    ]  # fmt: skip


def unrest(world: World) -> list[str]:
    """Why the system is not at rest, as `peakclip.audit.rest` sees it."""
    now = world.wire.now()
    matching = counters(world) == {row["sale_id"]: row["available"] for row in rows(world, "sales")}
    found = [] if matching else [COUNTER_OFF]
    for stream, name in _CONSUMERS:
        left = _under_way(consumer(world, stream, name))
        if left and not (stream == topology.STOCK and matching):
            found.append(f"{stream}/{name}: {left} not finished")
    pools = topology.POOLS if world.plan.effects else [topology.ORDERS_POOL, topology.REAPER_POOL]
    if world.plan.effects and _under_way(consumer(world, topology.EVENTS, topology.EFFECTS_POOL)):
        found.append("effects are not finished")
    found += [f"{pool}: some wait for another attempt" for pool in pools if _delayed(world, pool)]
    if rows(world, "outbox"):
        found.append(f"outbox: {len(rows(world, 'outbox'))} rows")
    due = [
        one
        for one in rows(world, "orders")
        if one["status"] == "pending_payment" and one["expires_at"] <= now
    ]
    if due:
        found.append(f"{len(due)} unpaid orders are due")
    if world.opened_at is None or world.customers.under_way:
        found.append(f"{world.customers.under_way} customers have not finished")
    if len(world.poisoned) < len(world.plan.poison):
        found.append("not everything that cannot be worked on has come")
    return found


def accepted_at(world: World) -> dict[str, float]:
    """When each order was on disk for the first time, by the clock that stamps the customers' history, too."""
    found: dict[str, float] = {}
    for message in stored(world, topology.INTAKE):
        if message.headers.get(topology.FRAME_ORDERS_HEADER) != "0":  # else it is a fence
            for order in decode_frame(message.payload):
                found.setdefault(order.order_id, message.at)
    return found


def _order(row: Any) -> OrderRow:
    return OrderRow(
        row["order_id"], row["tenant"], row["customer_id"], row["sale_id"], row["quantity"], row["status"],
        row["accepted_at"], row["started_at"], row["frame_id"] is not None, row["version"], row["reason"],
        row["amount_cents"], row["expires_at"], row["paid_at"], row["cancelled_at"], row["payment_id"],
    )  # fmt: skip


def _rate(world: World) -> RateLimit | None:
    newest = [
        one
        for one in stored(world, f"KV_{topology.PACE}")
        if one.subject.endswith(f".{topology.ORDERS_POOL}")
    ]
    if not newest:
        return None
    pace = _pace(newest[-1].payload)
    return RateLimit(pace.limit_per_second, pace.burst)


def _letters(world: World) -> tuple[DeadLetter, ...]:
    return tuple(letter_of(row) for row in rows(world, "dead_letters"))


def _effects(world: World) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for row in rows(world, "effects"):
        found.setdefault(row["event_id"], []).append(row["effect"])
    return {event_id: tuple(sorted(effects)) for event_id, effects in found.items()}


def _sales(world: World) -> tuple[SaleRow, ...]:
    names = ("sale_id", "initial", "available", "reserved", "sold", "per_customer_limit")
    return tuple(SaleRow(*(row[name] for name in names)) for row in rows(world, "sales"))


def _payments(world: World) -> tuple[Payment, ...]:
    names = ("payment_id", "kind", "order_id", "amount_cents")
    return tuple(Payment(*(row[name] for name in names)) for row in rows(world, "payments"))


def _finished(one: Consumer) -> int:
    return max(one.state.floor[1], one.state.delivered[1] if not one.state.flying else 0)


def audited(world: World, *, at_rest: bool) -> Facts:
    frames = _Frames()
    for message in stored(world, topology.INTAKE):
        frames.add(message)
    last = world.network.server._has.streams[topology.INTAKE].last_seq
    orders = [_queued(one) for one in stored(world, topology.SECKILL)]
    delayed = {_queued(one).order_id for one in _delayed(world, topology.ORDERS_POOL)}
    events = [_event(one) for one in stored(world, topology.EVENTS)]
    delayed_events = {_message_id(one) for one in _delayed(world, topology.EFFECTS_POOL)}
    accepted = {
        operation.first.order_id: operation.first.quantity
        for operation in _purchases(world) if operation.oks
    }  # fmt: skip
    effected = _finished(consumer(world, topology.EVENTS, topology.EFFECTS_POOL))
    return Facts(
        orders=tuple(map(_order, rows(world, "orders"))),
        sales=_sales(world),
        dead_letters=_letters(world),
        payments=_payments(world),
        effects=_effects(world),
        outbox_rows=len(rows(world, "outbox")),
        intake=Intake(
            tuple(frames.found),
            _finished(consumer(world, topology.INTAKE, topology.RELAY)),
            complete_from(last, frames.seen),
        ),
        queue=Queue(
            tuple(orders),
            _finished(consumer(world, topology.SECKILL, topology.ORDERS_POOL)),
            frozenset(one for one in delayed if one is not None),
        ),
        log=EventLog(tuple(events), effected, frozenset(delayed_events)),
        offer=Offer(tuple(_movements(world))),
        counters=counters(world),
        accepted=accepted,
        rate=_rate(world),
        at_rest=at_rest,
    )


def _purchases(world: World) -> Iterable[Any]:
    return [one for one in operations(world.customers.history.entries) if one.first.kind is Kind.PURCHASE]


def _movements(world: World) -> Iterable[Movement]:
    for one in stored(world, topology.STOCK):
        units = int(one.headers.get("Nats-Incr", "0"))
        yield Movement(one.headers.get("Nats-Msg-Id", ""), one.subject.partition(".")[2], units)


def _is_of_a_frame(message: Stored) -> bool:
    """What nobody can work on was put into the line by a stranger, and came out of no frame."""
    return is_first_attempt(message) and topology.FRAME_HEADER in message.headers


def told(world: World) -> history.Facts:
    """For the checker of histories."""
    again = topology.retry_subject(topology.EFFECTS_POOL)
    events = [event_of(one) for one in stored(world, topology.EVENTS) if one.subject != again]
    if not world.plan.effects:
        events = [replace(one, calls_for=frozenset()) for one in events]
    return history.Facts(
        orders=tuple(map(_order, rows(world, "orders"))),
        sales=_sales(world),
        counters=counters(world),
        payments=_payments(world),
        line=tuple(queued_of(one) for one in stored(world, topology.SECKILL) if _is_of_a_frame(one)),
        events=tuple(events),
        effects=_effects(world),
        notifications=tuple(
            history.Notification(
                one["event_id"], one["audience"], one["user_id"], one["kind"], one["created_at"]
            )
            for one in rows(world, "notifications")
        ),
        dead_letters=_letters(world),
        rate=_rate(world),
    )
