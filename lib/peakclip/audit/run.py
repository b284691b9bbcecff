"""Puts reading and judging together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from peakclip import topology
from peakclip.audit.checks import judge
from peakclip.audit.facts import RateLimit
from peakclip.audit.fetch import gather_facts
from peakclip.audit.rest import look, under_way, wait_until_at_rest
from peakclip.audit.result import AuditResult
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import read_pace

Accepted = Mapping[str, int] | Mapping[str, int | None] | Set[str] | None


async def run_audit(
    pool: Any, js: JetStream, *, accepted: Accepted, at_rest: bool, rate: RateLimit | None = None
) -> AuditResult:
    """Audits once. `accepted`: the order ids (with their quantity) that clients know as accepted.

    With `at_rest` the caller promises that nothing is under way. Without `rate` the pace in force is taken.
    """
    facts = await gather_facts(
        pool, js, accepted=_with_quantity(accepted), rate=rate or await rate_in_force(js), at_rest=at_rest
    )
    return judge(facts)


async def audit_system(
    pool: Any, js: JetStream, *, accepted: Accepted, wait_seconds: float, rate: RateLimit | None = None
) -> tuple[AuditResult, list[str]]:
    """Audits at the first moment of rest within `wait_seconds`, else as it runs; and why it was not at rest.

    Rest counts only if nothing came while the facts were read: an order that passes between two reads would
    look like a lost unit.
    """
    known = _with_quantity(accepted)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        before = await wait_until_at_rest(pool, js, max(0.0, deadline - loop.time()))
        reasons = under_way(before)
        limit = rate or await rate_in_force(js)
        facts = await gather_facts(pool, js, accepted=known, rate=limit, at_rest=not reasons)
        after = await look(pool, js)
        if not reasons and (under_way(after) or after.last_seqs != before.last_seqs):
            reasons = under_way(after) or ["something came while the facts were read"]
            if loop.time() < deadline:
                continue
            facts = replace(facts, at_rest=False)
        return judge(facts), reasons


async def rate_in_force(js: JetStream) -> RateLimit | None:
    """The limit of the pool `orders`, for as long as its schedule reaches back; None: there is no pace."""
    found = await read_pace(js, topology.ORDERS_POOL)
    if found is None:
        return None
    pace, _ = found
    highest = max([pace.limit_per_second, *(step.rate_per_second for step in pace.steps)])
    burst = max([pace.burst, *(step.burst for step in pace.steps if step.burst is not None)])
    since = min((step.from_time for step in pace.steps), default=0.0)
    return RateLimit(highest, burst, since, source="the pace in force now")


def _with_quantity(accepted: Accepted) -> dict[str, int | None] | None:
    if accepted is None:
        return None
    if isinstance(accepted, Mapping):
        return dict(accepted)
    return dict.fromkeys(accepted)
