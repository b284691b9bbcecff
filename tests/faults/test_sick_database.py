"""A database that suffers gets less than R, and R again when it is well."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.buyers import Buyers
from faults.judge import answers_hold, holds, most_in_a_second
from faults.system import running
from support import until

from peakclip.limiter.grid import bound, default_burst
from peakclip.load.access import create_sale

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

RATE = 50
SLOW = """
create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1.3); return null; end $$;
create trigger slow before insert on orders for each statement execute function slow();
"""


async def test_slow_statements_lower_the_rate_and_quick_ones_bring_it_back(
    data: Path, chance: random.Random
) -> None:
    """Every statement takes 1.3 s for a while, as beside a backup or somebody else's query."""
    async with running(data, rate=RATE, min_workers=2, max_workers=4) as system:
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=100_000)
        await buyers.wave(sale, 3_000)
        await until(lambda: _done(system, 100), 30)
        assert system.statuses[-1].effective_per_second == RATE
        await system.database.execute(SLOW)
        await until(lambda: system.statuses[-1].effective_per_second <= 0.71 * RATE, 40)
        lowered = system.statuses[-1]
        print(lowered.rate_reason, lowered.inputs["database_p95_seconds"], lowered.formula)
        assert lowered.rate_reason == "database"
        assert (lowered.inputs["database_p95_seconds"] or 0) > 1
        await system.database.execute("drop function slow cascade")
        await until(lambda: system.statuses[-1].effective_per_second == RATE, 90)
        rates = [status.effective_per_second for status in system.statuses]
        turn = rates.index(min(rates))
        assert rates[: turn + 1] == sorted(rates[: turn + 1], reverse=True)
        assert rates[turn:] == sorted(rates[turn:]), "up by steps, and not beyond"
        assert max(rates) == RATE
        holds(await system.audit(buyers.accepted, RATE))
        assert most_in_a_second(await system.started()) <= bound(RATE, default_burst(RATE))
        await answers_hold(system, buyers)


async def _done(system, number: int) -> bool:  # type: ignore[no-untyped-def]
    return bool(await system.done() >= number)
