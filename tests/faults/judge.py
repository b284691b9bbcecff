"""What every fault test asserts at the end, beyond the auditor's own invariants."""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from faults.buyers import Buyers
from faults.history.check import check
from faults.history.facts import Delivery
from faults.history.fetch import read_facts
from faults.history.finding import Finding
from faults.history.record import History
from faults.system import Data
from support import until

from peakclip import topology
from peakclip.audit import AuditResult, RateLimit
from peakclip.audit.checks.rate import busiest_second
from peakclip.audit.fetch import read_stream
from peakclip.jetstream import StoredMessage
from peakclip.limiter.grid import default_burst
from peakclip.messages import decode_order

# A 500 among the causes of what clients asked for again: by its problem, or by its status if that is all it says.
INTERNAL_ERRORS = frozenset({"internal-error", "500"})


def holds(result: AuditResult) -> None:
    """No violation at all."""
    assert not result.violations, "\n".join(
        f"{one.invariant} {one.message} ({len(one.rows)}): {list(one.rows)[:5]}" for one in result.violations
    )
    assert (result.lost, result.duplicated, result.oversold, result.undersold) == (0, 0, 0, 0)


async def findings(
    data: Data,
    history: History,
    rate: float,
    deliveries: Callable[[], Iterable[Delivery]] | None = None,
    **said: Any,
) -> tuple[Finding, ...]:
    """What `check` finds at rest, printed. `deliveries`: what a receiver has; `said` to `check`."""
    if deliveries is not None:
        await until(lambda: _all_delivered(data), 90, pause=0.2)
    facts = await read_facts(
        data,
        rate=RateLimit(rate, default_burst(rate)),
        deliveries=None if deliveries is None else deliveries(),
    )
    began = time.monotonic()
    found = check(history, facts, **said)
    told = "nobody" if facts.deliveries is None else len(facts.deliveries)
    print(
        f"  history: {len(history.entries)} entries, {len(facts.orders)} rows, {len(facts.events)} events, webhooks to"
        f" {told}, {len(facts.letters)} dead letters: {len(found)} findings ({time.monotonic() - began:.1f} s)"
    )
    for one in found[:20]:
        print(f"  {one.damage}: {', '.join(one.subjects)}: {one.evidence}")
    return found


async def _all_delivered(data: Data) -> bool:
    return not await data.database.fetchval("select count(*) from deliveries where state = 'pending'")


async def answers_hold(data: Data, buyers: Buyers) -> None:
    """What buyers were told is what the database says."""
    assert not buyers.wrong, (len(buyers.wrong), buyers.wrong[:5])
    assert not INTERNAL_ERRORS & set(buyers.causes), "a defect: what is away for a moment is a 503"
    rows = await data.database.fetch("select order_id::text, status, reason, sale_id from orders")
    told_no = [dict(row) for row in rows if row["order_id"] in buyers.refused]
    assert not told_no, ("sold to customers who were told that they get nothing", len(told_no), told_no[:5])
    rejected = Counter(row["reason"] for row in rows if row["status"] == "rejected")
    assert not rejected, ("accepted and then rejected by the database", rejected)
    assert len(rows) == len(buyers.accepted)


async def queued_once(data: Data) -> None:
    """The relay stored each order of each frame once, however often it died in the middle."""
    seen: Counter[tuple[str, str]] = Counter()

    def note(message: StoredMessage) -> None:
        order = decode_order(message.payload)
        seen[message.headers[topology.FRAME_HEADER], order.order_id] += 1

    await read_stream(data.js, topology.SECKILL, "order.seckill.created.*", 1, note)
    twice = [key for key, times in seen.items() if times > 1]
    assert not twice, (len(twice), twice[:5])


def most_in_a_second(starts: Iterable[float]) -> int:
    return busiest_second(sorted(starts))[0]


def count_in(starts: Sequence[float], begin: float, end: float) -> int:
    """How many of the ascending `starts` are in [begin, end)."""
    return bisect_left(starts, end) - bisect_left(starts, begin)


async def buy_the_rest(system: Data, buyers: Buyers, sale: str) -> None:
    """Buyers keep trying until the database has sold the last unit."""
    deadline = time.monotonic() + 150
    while left := await system.available(sale):
        assert time.monotonic() < deadline, f"{left} units could not be bought"
        await buyers.wave(sale, min(left, 1_000) + 20)
        await asyncio.sleep(1.0)


def exits(log: Path) -> set[int]:
    """Exit codes of the workers that ended by themselves, as the operator saw them."""
    died = re.finditer(r'"exit_code": (-?\d+)[^{}]*"event": "worker_died"', log.read_text(errors="replace"))
    return {int(found[1]) for found in died}
