"""When is nothing under way any more? Only then must the admission counters equal the database's stock.

Orders that await payment are at rest until their time is up. Effects are waited for, too, but an audit need not: what
an event has brought about is judged event by event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from peakclip import topology
from peakclip.audit.fetch import last_movements
from peakclip.errors import OutcomeUnknownError, RefusedError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.store import DATABASE_AWAY, query

# A reservation without a frame is given back within about this time; a younger one may still get its frame.
RESERVATION_SETTLES_SECONDS: Final = 30.0

_CONSUMERS: Final = (
    (topology.INTAKE, topology.RELAY),
    (topology.SECKILL, topology.ORDERS_POOL),
    (topology.EXPIRY, topology.REAPER_POOL),
    (topology.TIMERS, topology.RELAY),
    (topology.STOCK, "reconciler"),
)
_STREAMS: Final = (topology.INTAKE, topology.SECKILL, topology.EXPIRY, topology.EVENTS, topology.STOCK)
_AWAY: Final = (*DATABASE_AWAY, UnavailableError, OutcomeUnknownError)


@dataclass(frozen=True, slots=True)
class Moment:
    """The system between two breaths."""

    unfinished: Mapping[
        str, int | None
    ]  # messages not yet finished per consumer; None: there is no such consumer
    outbox_rows: int
    movement_age_seconds: float | None  # of the youngest change of a counter; None: there was none
    counters_match: bool  # every sale's counter is what the database has available
    delayed: Mapping[str, int] = field(
        default_factory=dict
    )  # by pool: messages that wait for another attempt
    due_orders: int = 0  # unpaid, and their time is up
    events_unfinished: int = 0  # for the pool `effects`
    last_seqs: tuple[int, ...] = ()  # of the streams that an audit reads: equal when nothing came meanwhile


def under_way(moment: Moment) -> list[str]:
    """Why the system is not at rest, one reason each; empty: it is.

    Counters that match settle all reservations at once; only where one differs must its age be waited for.
    """
    reasons = [
        f"there is no consumer {name}" if count is None else f"{name}: {count} not finished"
        for name, count in moment.unfinished.items()
        if count is None or (count > 0 and not (_is_reconciler(name) and moment.counters_match))
    ]
    reasons += [
        f"{pool}: {count} wait for another attempt"
        for pool, count in moment.delayed.items()
        if count and pool != topology.EFFECTS_POOL
    ]
    if moment.due_orders:
        reasons.append(f"{moment.due_orders} unpaid orders are due and not yet cancelled")
    if moment.outbox_rows:
        reasons.append(f"outbox: {moment.outbox_rows} rows not yet published")
    age = moment.movement_age_seconds
    if not moment.counters_match and age is not None and age < RESERVATION_SETTLES_SECONDS:
        reasons.append(f"a counter differs from the database and moved {age:.0f} s ago")
    return reasons


def effects_under_way(moment: Moment) -> int:
    """Events whose effects may still come."""
    return moment.events_unfinished + moment.delayed.get(topology.EFFECTS_POOL, 0)


async def look(pool: Any, js: JetStream) -> Moment:
    """Upstream first, so that an order that moves meanwhile is not overlooked."""
    last_seqs = tuple([(await js.stream_state(stream)).last_seq for stream in _STREAMS])
    unfinished = {f"{stream}/{name}": await _unfinished(js, stream, name) for stream, name in _CONSUMERS}
    events_unfinished = await _unfinished(js, topology.EVENTS, topology.EFFECTS_POOL)
    delayed = {
        name: await js.count_messages(topology.TIMERS, topology.delayed_subject(name, ">"))
        for name in topology.POOLS
    }
    available = {row["sale_id"]: row["available"] for row in await pool.fetch("select * from audit_sales")}
    due_orders = await pool.fetchval(query("count_due_orders"))
    outbox_rows = await pool.fetchval("select count(*) from outbox")
    movements = await last_movements(js, available)
    youngest = max((at for _, at in movements.values()), default=None)
    now = (await js.stream_state(topology.STOCK)).server_time
    return Moment(
        unfinished=unfinished,
        outbox_rows=outbox_rows,
        movement_age_seconds=None if youngest is None else max(0.0, now - youngest),
        counters_match=available == {sale: value for sale, (value, _) in movements.items()},
        delayed=delayed,
        due_orders=due_orders,
        events_unfinished=events_unfinished or 0,
        last_seqs=last_seqs,
    )


async def wait_until_at_rest(pool: Any, js: JetStream, timeout_seconds: float) -> Moment:
    """The first moment of rest, or the last look when the time is over. Servers may be away meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while True:
        try:
            moment = await look(pool, js)
            resting = not under_way(moment) and not effects_under_way(moment)
            if resting or loop.time() >= deadline:
                return moment
        except _AWAY:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(min(0.5, max(0.01, deadline - loop.time())))


def _is_reconciler(name: str) -> bool:
    return name.startswith(f"{topology.STOCK}/")


async def _unfinished(js: JetStream, stream: str, consumer: str) -> int | None:
    try:
        state = await js.consumer_state(stream, consumer)
    except RefusedError:
        return None
    return state.pending + state.ack_pending
