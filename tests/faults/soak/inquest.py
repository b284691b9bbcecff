"""Judges what a soak has left, in a process of its own, so that the clients' loop never waits for it.

    python -m faults.soak.inquest DATA FOLDER take      what the streams hold now, into the files of the chapters
    python -m faults.soak.inquest DATA FOLDER s0007     one chapter: its history against the data
    python -m faults.soak.inquest DATA FOLDER audit     the auditor, over everything, and what is in no chapter

DATA is the folder of the stack, FOLDER that of the chapters. Prints one JSON object. Exit code 3: NATS or PostgreSQL
was away, so ask again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from faults.history.check import check
from faults.history.facts import Facts, Notification
from faults.history.fetch import NOTIFICATIONS, PRICES
from faults.history.record import History
from faults.soak import spool
from faults.soak.chapter import Closing
from faults.soak.verdict import Verdict
from faults.system import Data, connected

from peakclip import store
from peakclip.audit import RateLimit, audit_system
from peakclip.audit.database import dropped_of, letter_of, order_of
from peakclip.audit.facts import Payment, SaleRow
from peakclip.audit.fetch import last_movements
from peakclip.audit.rest import wait_until_at_rest
from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.limiter.grid import default_burst
from peakclip.local.stack import TENANT
from peakclip.store import DATABASE_AWAY

AWAY: Final = 3  # exit code
_MOST_SHOWN: Final = 50  # findings of a chapter
_REST_SECONDS: Final = 1_800.0
_NICE: Final = 10
_STATEMENT_SECONDS: Final = 600.0

_EFFECTS: Final = """
select e.event_id, array_agg(e.effect order by e.effect) as effects
from orders o
cross join lateral generate_series(1, o.version + 1) v
join audit_effects e on e.event_id = o.order_id || ':' || v
where o.tenant = $1 and o.customer_id >= $2 and o.customer_id < $3
group by e.event_id"""
_PAYMENTS: Final = """
select p.payment_id::text, p.kind, p.order_id::text, p.amount_cents
from orders o join payments p using (order_id)
where o.tenant = $1 and o.customer_id >= $2 and o.customer_id < $3"""
_OF_CHAPTER: Final = " where tenant = $1 and customer_id >= $2 and customer_id < $3"


def bounds(chapter: str) -> tuple[str, str]:
    """From the first to behind the last name of its customers.

    >>> bounds("s0007")
    ('c-s0007-', 'c-s0007.')
    """
    return f"c-{chapter}-", f"c-{chapter}."


async def facts_of(data: Data, folder: Path, chapter: str) -> Facts:
    here, position = folder / chapter, spool.position(folder)
    closing = msgspec.json.decode((here / "closing.json").read_bytes(), type=Closing)
    whose = TENANT, *bounds(chapter)
    async with (
        data.database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        rows = await connection.fetch(store.query("audit_orders").rstrip(";\n ") + _OF_CHAPTER, *whose)
        sales = [SaleRow(*row) for row in await connection.fetch(store.query("audit_sales"))]
        effects = await connection.fetch(_EFFECTS, *whose)
        payments = await connection.fetch(_PAYMENTS, *whose)
        notifications = await connection.fetch(NOTIFICATIONS.replace("order by", _TOLD), *whose)
        prices = {row["sale_id"]: row["price_cents"] for row in await connection.fetch(PRICES)}
        letters = await connection.fetch(store.query("audit_dead_letters"))
        dropped = await connection.fetch(store.query("audit_dropped"))
    return Facts(
        orders=tuple([order_of(row) for row in rows]),
        sales=tuple(sale for sale in sales if sale.sale_id in closing.sales),
        counters={sale: value for sale, (value, _) in (await last_movements(data.js, closing.sales)).items()},
        payments=tuple([Payment(*row) for row in payments]),
        line=spool.line_of(here),
        events=spool.events_of(here),
        events_complete=position.complete,
        effects={row["event_id"]: tuple(row["effects"]) for row in effects},
        notifications=tuple([Notification(*row) for row in notifications]),
        deliveries=closing.deliveries,
        prices=prices,
        dead_letters=tuple([letter_of(row) for row in letters]),
        dropped=tuple([dropped_of(row) for row in dropped]),
    )


_TOLD: Final = "where n.tenant = $1 and n.user_id >= $2 and n.user_id < $3\norder by"


async def judge(data: Data, folder: Path, chapter: str) -> Verdict:
    began = time.monotonic()
    await spool.take(data.js, folder)
    facts = await facts_of(data, folder, chapter)
    history = History.read(folder / chapter / "history.jsonl")
    closing = msgspec.json.decode((folder / chapter / "closing.json").read_bytes(), type=Closing)
    found = check(
        history, facts, kept_trying=closing.kept_trying, listeners=closing.listeners, stocks=closing.stocks
    )
    by_status = Counter("expired" if row.reason == "expired" else row.status for row in facts.orders)
    return Verdict(
        chapter, list(found[:_MOST_SHOWN]), len(found), dict(by_status), len(history.entries), len(facts.events),
        round(time.monotonic() - began, 2), facts.events_complete,
    )  # fmt: skip


def accepted_of(folder: Path) -> dict[str, int]:
    """Orders that clients were told of, and how many units each: all ask for one."""
    found: dict[str, int] = {}
    for path in sorted(folder.glob("*/accepted.json")):
        found |= dict.fromkeys(msgspec.json.decode(path.read_bytes(), type=list[str]), 1)
    return found


async def audit(data: Data, folder: Path, rate: float) -> dict[str, Any]:
    """At rest, or it says why not."""
    began = time.monotonic()
    await wait_until_at_rest(data.database, data.js, _REST_SECONDS)
    rest_seconds = time.monotonic() - began
    await spool.take(data.js, folder)
    accepted = accepted_of(folder)
    limit = RateLimit(rate, default_burst(rate))
    result, reasons = await audit_system(
        data.database, data.js, accepted=accepted, wait_seconds=_REST_SECONDS, rate=limit
    )
    strangers = await data.database.fetch(
        "select order_id::text, customer_id, status from orders where customer_id !~ '^c-s[0-9]{4}-' limit 50"
    )
    nobody = folder / spool.NOBODY
    return {
        "at_rest": result.at_rest,
        "rest_seconds": round(rest_seconds, 1),
        "audit_seconds": round(time.monotonic() - began - rest_seconds, 1),
        "why_not": reasons,
        "accepted": len(accepted),
        "lost": result.lost,
        "duplicated": result.duplicated,
        "oversold": result.oversold,
        "undersold": result.undersold,
        "checks": [
            {"invariant": one.invariant, "name": one.name, "outcome": str(one.outcome), "detail": one.detail}
            for one in result.checks
        ],
        "violations": [
            {"invariant": one.invariant, "message": one.message, "number": len(one.rows),
             "rows": [str(row) for row in one.rows[:5]]}
            for one in result.violations
        ],
        "strangers": [dict(row) for row in strangers],
        "events_of_nobody": len(spool.events_of(nobody)),
        "orders": {
            row["status"]: row["count"]
            for row in await data.database.fetch(
                "select case when reason = 'expired' then 'expired' else status end as status, count(*)"
                " from orders group by 1 order by 1"
            )
        },
        "dead_letters": {
            row["cause"]: row["count"]
            for row in await data.database.fetch(
                "select pool || ': ' || cause as cause, count(*) from dead_letters group by 1"
            )
        },
        "database_bytes": await data.database.fetchval("select pg_database_size(current_database())"),
    }  # fmt: skip


async def main(given: argparse.Namespace) -> Any:
    credentials = msgspec.json.decode((given.data / "credentials.json").read_bytes())
    async with connected(credentials, _STATEMENT_SECONDS) as data:
        if given.what == "take":
            return msgspec.to_builtins(await spool.take(data.js, given.folder))
        if given.what == "audit":
            return await audit(data, given.folder, given.rate)
        return msgspec.to_builtins(await judge(data, given.folder, given.what))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m faults.soak.inquest")
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what")
    parser.add_argument("--rate", type=float, default=0.0)
    os.nice(_NICE)
    # What is printed is the answer, and nothing else.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        told = asyncio.run(main(parser.parse_args()))
    except (UnavailableError, OutcomeUnknownError, TimeoutError, *DATABASE_AWAY) as exc:
        print(repr(exc), file=sys.stderr)
        raise SystemExit(AWAY) from None
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
