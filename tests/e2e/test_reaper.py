"""Unpaid orders of a burst all fall due together; the reaper gives their stock back at a rate of its own."""

from __future__ import annotations

from e2e.rates import Drain, allowed
from e2e.record import bar, measured
from e2e.story import told
from e2e.system import System

from peakclip.report.rates import max_sliding

ORDERS = 1_500
RATE = 60  # of the reaper, in values.yaml
PAY_WITHIN_SECONDS = 20
_WINDOW_SECONDS = 5


async def test_what_expires_is_cancelled_at_the_reapers_own_r(system: System) -> None:
    # Faster than the reaper, so that it falls behind; slow enough for two cores that do everything.
    await system.change("orders", {"throughput": {"limitPerSecond": 100}})
    async with told(system.api, system.namespace, system.pool("reaper")) as story:
        sale = await system.sale(ORDERS, pay_within=PAY_WITHIN_SECONDS)
        orders = await system.burst(sale, ORDERS)
        assert len(orders.accepted) == ORDERS
        # A second sale, so that orders are written while others expire: each pool keeps its own rate.
        other = await system.sale(ORDERS)
        more = await system.burst(other, ORDERS)
        await system.until_rows(sale, ORDERS, ORDERS / RATE + 90, "cancelled_at is not null")
        story.say("the last one is cancelled")
        await system.until_rows(other, ORDERS, 60)
    moments = await system.moments(sale, "cancelled_at")
    cancelled = Drain.of(moments, RATE)
    measured("reaper", {"rate": RATE, "cancelled": cancelled.figures()}, story.lines)
    # Moments of commits: nothing tells when each one started, and on a busy machine they come closer together.
    most = max_sliding(moments, _WINDOW_SECONDS)
    assert most is not None
    assert most <= RATE * _WINDOW_SECONDS + 2 * (allowed(RATE) - RATE)
    bar(f"{RATE}/s within 2 %", abs(cancelled.steady / RATE - 1) <= 0.02)
    async with system.database() as connection:
        row = await connection.fetchrow("select * from audit_sales where sale_id = $1", sale)
    assert (row["available"], row["reserved"], row["sold"]) == (ORDERS, 0, 0)
    await system.audit(orders.accepted | more.accepted, 300, allowed(300) - 300)
