"""What workers say of themselves is added up exactly once, however it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.messages import DATABASE_BOUNDS, DatabaseWord, WorkerTelemetry
from peakclip_operator.heard import (
    FORGET_SECONDS,
    LATE_SECONDS,
    REMEMBERED,
    SILENT_SECONDS,
    PoolStarts,
    WorkersHeard,
)
from peakclip_operator.plan import DatabaseTotals, Lag, PoolSpec, Totals
from peakclip_operator.plan.health import Level
from peakclip_operator.ports import Telemetry

BEGAN = 1_000.0  # of the controller


def word(
    worker: str, finished: int, *, age: float | None = None, number: int | None = None, **changes: Any
) -> WorkerTelemetry:
    """Of a worker with a clock of its own, which began at 50,000 on it; without an age, of an older version."""
    told = WorkerTelemetry(
        worker=worker,
        pool="orders",
        pid=1,
        at=50_000.0 + (number or 0) if age is None else 50_000.0 + age,
        finished=finished,
        failed=0,
        busy_seconds=finished / 20,
        limiter_wait_seconds=0.0,
        starts_max_sliding_second=0,
        in_flight=1,
        since=None if age is None else 50_000.0,
        number=None if age is None else number,
    )
    return msgspec.structs.replace(told, **changes)


def database(calls: int, errors: int = 0) -> DatabaseWord:
    return DatabaseWord(calls, errors, calls / 8, (calls, *[0] * len(DATABASE_BOUNDS)))


def heard(*words: tuple[float, WorkerTelemetry]) -> WorkersHeard:
    """Each with when it came."""
    found = WorkersHeard(BEGAN)
    for at, one in words:
        found.hear(one, at)
    return found


def test_totals_add_up_over_the_workers() -> None:
    report = heard(
        (1_001.0, word("a", 10, age=1.0, number=1, failed=1)),
        (1_001.0, word("b", 5, age=0.5, number=1)),
        (1_002.0, word("a", 30, age=2.0, number=2, failed=3)),
    ).report(1_002.0)
    assert report.totals == Totals(35, 3, 1.75)
    assert (report.finished_ever, report.failed_ever) == (35, 3)
    assert {sample.worker for sample in report.workers} == {"a", "b"}


def test_a_controller_that_begins_late_takes_what_the_old_workers_did_as_the_base_line() -> None:
    """And a worker whose clock is wrong by hours is as old as it says."""
    old = {"at": 90_000.0 + 3_600.0, "since": 90_000.0, "number": 3_600}
    found = heard((1_000.2, word("a", 100_000, **old, failed=7, database=database(1_000, 9))))
    before = found.report(1_000.2)
    assert before.totals == Totals(
        0, 0, 0.0, DatabaseTotals(0, 0, 0.0, (0,) * (len(DATABASE_BOUNDS) + 1), DATABASE_BOUNDS)
    )
    assert (before.finished_ever, before.failed_ever) == (100_000, 7)
    more = {**old, "at": old["at"] + 1, "number": 3_601}
    found.hear(word("a", 100_020, **more, failed=8, database=database(1_016, 11)), 1_001.2)
    totals = found.report(1_001.2).totals
    assert (totals.finished, totals.failed, totals.busy_seconds) == (20, 1, pytest.approx(1.0))
    assert totals.database == DatabaseTotals(16, 2, 2.0, (16, *[0] * len(DATABASE_BOUNDS)), DATABASE_BOUNDS)


def test_the_first_word_of_a_worker_that_began_after_the_controller_counts_in_full() -> None:
    assert heard((1_010.0, word("a", 40, age=2.0, number=2))).report(1_010.0).totals.finished == 40
    assert heard((1_010.0, word("a", 40, age=12.0, number=12))).report(1_010.0).totals.finished == 0


def test_a_late_word_of_an_old_worker_is_the_base_line_after_all() -> None:
    found = heard(
        (1_001.0, word("a", 130, age=102.0, number=102)), (1_001.1, word("a", 100, age=100.0, number=100))
    )
    assert found.report(1_001.1).totals.finished == 30


def test_what_the_dead_have_finished_stays_counted() -> None:
    later = 1_001.0 + SILENT_SECONDS + 1
    found = heard((1_001.0, word("a", 100, age=1.0, number=1)), (later, word("b", 1, age=1.0, number=1)))
    report = found.report(later)
    assert report.totals.finished == 101
    assert [sample.worker for sample in report.workers] == ["b"]


def test_a_worker_that_was_silent_is_not_counted_twice() -> None:
    found = heard((1_001.0, word("a", 100, age=1.0, number=1)))
    assert found.report(1_060.0).workers == []
    found.hear(word("a", 110, age=60.0, number=2), 1_060.0)
    assert found.report(1_060.0).totals.finished == 110


def test_one_that_was_forgotten_is_not_counted_twice_either() -> None:
    found = heard((1_001.0, word("a", 100, age=1.0, number=1)))
    later = 1_001.0 + FORGET_SECONDS + 1
    assert found.report(later).totals.finished == 100
    assert found._known == {}
    found.hear(word("a", 100, age=later - 1_000.0, number=2), later)
    found.hear(word("a", 105, age=later - 999.0, number=3), later + 1)
    report = found.report(later + 1)
    assert (report.totals.finished, len(report.workers)) == (105, 1)


def test_a_pid_that_is_used_again_is_another_process() -> None:
    first = word("a", 100, age=9.0, number=9)
    second = msgspec.structs.replace(
        word("a", 7, age=1.0, number=1, in_flight=4), since=50_020.0, at=50_021.0
    )
    late = msgspec.structs.replace(first, number=10, at=50_010.0, finished=104)
    found = heard((1_010.0, first), (1_022.0, second), (1_022.5, late))
    report = found.report(1_022.5)
    assert report.totals.finished == 111
    assert [(sample.worker, sample.in_flight) for sample in report.workers] == [("a", 4)]


def test_a_late_word_or_a_repeat_is_no_sign_of_life_and_no_news() -> None:
    newest = word("a", 30, age=3.0, number=3, in_flight=2)
    found = heard(
        (1_003.0, newest), (1_007.0, word("a", 20, age=2.0, number=2, in_flight=9)), (1_007.0, newest)
    )
    (sample,) = found.report(1_007.0).workers
    assert (sample.in_flight, sample.at) == (2, 1_003.0)
    assert found.report(1_003.0 + SILENT_SECONDS + 0.1).workers == []


def test_workers_that_do_not_tell_when_they_began_count_from_their_first_word() -> None:
    found = heard((1_001.0, word("a", 100, number=1)), (1_002.0, word("a", 103, number=2)))
    found.hear(word("a", 101, number=1), 1_002.5)  # late
    assert found.report(1_003.0).totals.finished == 3
    found.hear(word("a", 2, number=3), 1_004.0)  # a new process of that name
    found.hear(word("a", 7, number=4), 1_005.0)
    report = found.report(1_005.0)
    assert (report.totals.finished, report.finished_ever) == (8, 110)
    assert report.totals.database is None


def test_a_histogram_of_another_version_is_left_out() -> None:
    other = DatabaseWord(5, 0, 0.0, (5, 0))
    assert (
        heard((1_001.0, word("a", 1, age=1.0, number=1, database=other))).report(1_001.0).totals.database
        is None
    )


def test_batches_are_known_when_everybody_tells_of_them() -> None:
    told = [(1_001.0, word(name, 40, age=1.0, number=1, batches=9)) for name in "ab"]
    assert heard(*told).report(1_001.0).totals.batches == 18
    silent = (1_001.0, word("c", 40, age=1.0, number=1))
    found = heard(*told, silent)
    assert found.report(1_001.0).totals.batches is None
    assert found.report(1_001.0 + LATE_SECONDS).totals.batches is None
    assert found.report(1_001.1 + LATE_SECONDS).totals.batches == 18  # it has been replaced


def test_of_the_database_nothing_is_known_when_those_who_told_of_it_were_replaced() -> None:
    found = heard((1_001.0, word("a", 40, age=1.0, number=1, database=database(40))))
    assert (
        found.report(1_100.0).totals.database is not None
    )  # nobody speaks: that is an outage, and no replacement
    found.hear(word("b", 1, age=1.0, number=1), 1_001.0 + LATE_SECONDS)
    assert found.report(1_100.0).totals.database is not None  # it may be late
    found.hear(word("b", 2, age=2.0, number=2), 1_001.1 + LATE_SECONDS)
    assert found.report(1_100.0).totals.database is None
    found.hear(word("c", 9, age=1.0, number=1, database=database(5)), 1_101.0)
    totals = found.report(1_101.0).totals.database
    assert totals is not None
    assert totals.calls == 45
    found.hear(word("b", 3, age=3.0, number=3), 500.0)  # the clock was set back
    found.hear(word("c", 10, age=2.0, number=2, database=database(6)), 500.5)
    assert found.report(500.5).totals.database is not None


def test_the_rate_rises_when_nobody_tells_of_the_database_any_more() -> None:
    """Worker a fails half of its calls and is replaced by b, which knows of no database."""
    spec, level, found = PoolSpec(limit_per_second=100), Level(), WorkersHeard(BEGAN)
    rates = []
    for second in range(200):
        now = BEGAN + 1.0 + second
        if second < 20:
            told = database(100 * second, 50 * second)
            one = word("a", 50 * second, age=1.0 + second, number=1 + second, database=told)
        else:
            one = word("b", 50 * (second - 19), age=second - 19.0, number=second - 19)
        found.hear(one, now)
        totals = found.report(now).totals.database
        level = level.observe(spec, totals, Lag(5_000, 5, 90_000, 0), now)
        rates.append(100.0 if level.rate is None else level.rate)
    assert rates[20] < 40
    assert rates[20:90] == [min(rates)] * 70
    assert rates[100] > rates[90]
    assert rates[-1] == 100


def test_how_much_a_worker_takes_together_is_remembered_when_all_are_gone() -> None:
    assert WorkersHeard(BEGAN).report(BEGAN).most_at_once is None
    assert heard((1_001.0, word("a", 1, age=1.0, number=1, most_at_once=1))).report(1_100.0).most_at_once == 1


def test_the_names_of_the_dead_do_not_grow_without_end() -> None:
    found = WorkersHeard(BEGAN)
    for number in range(3 * REMEMBERED):
        starts = ((1_000.0 + number / 100, 1),)
        found.hear(word(f"w{number}", 1, age=0.5, number=1, starts=starts), 1_000.5 + number / 100)
    report = found.report(1_000.5 + 3 * REMEMBERED / 100)
    assert (report.totals.finished, report.finished_ever) == (3 * REMEMBERED, 3 * REMEMBERED)
    assert len(found._known) <= REMEMBERED
    assert len(found._starts._recent) <= 100 * LATE_SECONDS + 1


# -- whatever the order ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """A process: what each of its words adds, and how old it was when the controller began (negative: began later)."""

    name: str
    pid: int
    born: float
    clock: float
    adds: tuple[tuple[int, int, int], ...]

    def words(self) -> list[WorkerTelemetry]:
        found, since = [], self.clock + self.born
        finished = failed = calls = 0
        for number, (more, failures, starts) in enumerate(self.adds, start=1):
            finished, failed, calls = finished + more, failed + failures, calls + more + failures
            at = BEGAN + self.born / 10 + number  # of the server, in seconds
            found.append(
                WorkerTelemetry(
                    *(self.name, "orders", self.pid, since + max(0.0, -self.born) + number),
                    *(finished, failed, finished / 7, 0.0, 0, 0),
                    starts=((at, starts), (at + 0.5, 1)) if starts else (),
                    since=since,
                    number=number,
                    database=database(calls, failed),
                )
            )
        return found


lives = st.lists(
    st.builds(
        Life,
        name=st.sampled_from("ab"),
        pid=st.integers(1, 2),
        born=st.sampled_from([-86_400.0, -60.0, 30.0, 30.25, 31.0]),
        clock=st.sampled_from([0.0, 1e9, -1e6, 123.0]),
        adds=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=8)
        .map(tuple),
    ),
    max_size=5,
    unique_by=lambda life: (life.name, life.pid, life.clock + life.born),
)  # fmt: skip


def said(report: Telemetry) -> tuple[object, ...]:
    ever = report.finished_ever, report.failed_ever
    return report.totals, report.starts_max_sliding_second, report.starts_recent_most, ever


@given(lives, st.data())
def test_totals_and_starts_are_the_same_in_any_order_and_however_often(
    lives: list[Life], data: st.DataObject
) -> None:
    in_order = [one for life in lives for one in life.words()]
    shuffled = data.draw(
        st.permutations([*in_order, *data.draw(st.lists(st.sampled_from(in_order or [None])))])
    )
    now = BEGAN + 45.0  # younger than 45 s: began after the controller
    expected = heard(*((now, one) for one in in_order))
    found = WorkersHeard(BEGAN)
    before: tuple[Any, ...] = (0, 0, 0.0)
    for one in shuffled:
        if one is None:
            continue
        found.hear(one, now)
        totals = found.report(now).totals  # in between, too
        after = totals.finished, totals.failed, totals.busy_seconds
        assert all(new >= old for old, new in zip(before, after, strict=True))
        before = after
    assert said(found.report(now)) == said(expected.report(now))
    counted = [life.adds if life.born >= 0 else life.adds[1:] for life in lives]
    assert found.report(now).totals.finished == sum(more for adds in counted for more, _, _ in adds)


# -- starts ----------------------------------------------------------------------------------------------------


def test_the_most_starts_of_the_pool_are_found_across_workers_and_late_words() -> None:
    starts = PoolStarts()
    assert starts.most(10.0) is None
    starts.add("a1", [(10.0, 3), (10.5, 2), (12.0, 1)], 12.1)
    assert starts.most(12.1) == 5
    starts.add("b1", [(10.4, 4)], 12.4)  # another worker, told later, about the same second
    starts.add("b1", [(10.4, 4)], 12.4)
    assert starts.most(12.5) == 9
    starts.add("a2", [(30.0, 1)], 30.1)
    starts.add("b2", [(30.9, 1), (31.0, 1)], 31.1)  # 30.0 and 31.0 are a second apart
    assert starts.most(31.1) == 9
    assert len(starts._recent) == 2


def test_the_most_of_the_last_minute_is_forgotten_and_the_most_of_all_times_is_not() -> None:
    starts = PoolStarts()
    assert starts.recent_most(100.0) is None
    starts.add(1, [(100.0, 300)], 100.0)
    assert (starts.most(100.0), starts.recent_most(100.0)) == (300, 300)
    starts.add(2, [(250.0, 40)], 250.0)
    assert (starts.most(250.0), starts.recent_most(250.0)) == (300, 40)
    assert starts.recent_most(400.0) == 0


def test_a_start_in_the_far_future_pushes_out_nobody_elses() -> None:
    starts = PoolStarts()
    starts.add(1, [(9e9, 1)], 100.0)
    starts.add(2, [(100.0, 3)], 100.1)
    assert starts.most(100.2) == 3
    starts.add(3, [(100.5, 4)], 100.9)
    assert starts.most(101.0) == 7
