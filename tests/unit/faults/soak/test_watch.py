"""What the view is told: clients' answers at once, the database's rows once each, and nothing of one that is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from faults.history.record import Kind
from faults.nemesis.plan import Fault
from faults.nemesis.plan import Kind as FaultKind
from faults.soak.tally import Step
from faults.soak.view import View
from faults.soak.watch import EXACT_SECONDS, Watch


class Rows:
    """A table of orders: when each was committed."""

    def __init__(self) -> None:
        self.committed: dict[str, float] = {}
        self.away = False
        self.counted = 0  # rows, by all questions together

    async def fetchrow(self, _: str, __: str, since: float, until: float) -> dict[str, Any]:
        if self.away:
            raise ConnectionError
        found = [at for at in self.committed.values() if at > since]
        self.counted += len(found)
        before = sum(at <= until for at in found)
        return {"rows": len(found), "before": before, "newest": max(found, default=None)}

    async def fetchval(self, _: str) -> int:
        return 3

    async def fetch(self, _: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        return [{"order_id": one, "at": self.committed[one]} for one in ids if one in self.committed]


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def watch(rows: Rows) -> Watch:
    return Watch(View(1, 60.0), rows, clock=lambda: 100.5)


def test_answers_count_at_once_and_repeats_of_a_wave_that_is_over_do_not(watch: Watch) -> None:
    watch.accepted(50)
    assert watch.view.counts.accepted == 50
    watch.accepted(56)
    watch.wave(100, 106, 2, Counter({"503": 2}))
    assert watch.view.counts.accepted == 100
    watch.acted(Kind.PAY, 3)
    watch.acted(Kind.CANCEL, 2)
    watch.acted(Kind.START, 9)
    assert (watch.view.counts.paid, watch.view.counts.cancelled) == (3, 2)


async def test_rows_are_counted_whenever_they_come_and_old_ones_only_now_and_then(
    watch: Watch, rows: Rows
) -> None:
    rows.committed = {f"o{n}": float(n) for n in range(1, 1_001)}
    await watch.look(0.0)
    await watch.look(1.0)
    assert watch.view.counts.committed == 1_000
    counted = rows.counted
    rows.committed |= {f"p{n}": 1_001.0 + n for n in range(10)}
    rows.committed["late"] = 999.5  # its transaction took a moment
    await watch.look(2.0)
    assert watch.view.counts.committed == 1_011
    assert rows.counted - counted < 50
    rows.committed["very late"] = 1.0
    await watch.look(3.0)
    assert watch.view.counts.committed == 1_011
    await watch.look(EXACT_SECONDS + 1.0)
    assert watch.view.counts.committed == 1_012


async def test_of_a_database_that_is_away_nothing_is_known(watch: Watch, rows: Rows) -> None:
    rows.committed = {"o": 1.0}
    await watch.look(0.0)
    rows.away = True
    await watch.look(1.0)
    assert watch.view.counts.committed is None
    assert watch.view.counts.backlog is None
    assert watch.view.committed_rate is None
    rows.away = False
    await watch.look(2.0)
    assert watch.view.counts.committed == 1


async def test_an_order_that_went_through_ends_the_recovery(watch: Watch, rows: Rows) -> None:
    fault = Fault(1.0, FaultKind.KILL, "api")
    watch.begins(fault)
    watch.ends(fault, missed=False)
    watch.clock = lambda: 101.0
    watch.probe("o", 100.75)
    rows.committed["an older one"] = 100.25
    await watch.look(0.0)
    assert [step for step, _ in watch.view.faults.slowest] == [Step.ACCEPTED]
    rows.committed["o"] = 102.0
    await watch.look(1.0)
    took = {step: slow.seconds for (step, _), slow in watch.view.faults.slowest.items()}
    assert took == {Step.ACCEPTED: 0.5, Step.COMMITTED: 1.5, Step.THROUGH: 1.5}


async def test_rates_are_those_of_the_last_seconds(watch: Watch, rows: Rows) -> None:
    for second in range(21):
        watch.accepted(10 if second < 10 else 30)
        rows.committed |= {f"{second}-{n}": float(second) for n in range(5)}
        await watch.look(float(second))
    assert watch.view.accepted_rate == pytest.approx(30.0)
    assert watch.view.committed_rate == pytest.approx(5.0)
