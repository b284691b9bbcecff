from __future__ import annotations

from itertools import count

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peakclip.messages import WorkerTelemetry
from peakclip_operator.plan import Totals
from peakclip_operator.telemetry_source import SILENT_SECONDS, PoolStarts, WorkersHeard


def word(
    worker: str, finished: int, *, pid: int = 1, failed: int = 0, starts: tuple[tuple[float, int], ...] = ()
) -> WorkerTelemetry:
    return WorkerTelemetry(
        worker=worker,
        pool="orders",
        pid=pid,
        at=0.0,
        finished=finished,
        failed=failed,
        busy_seconds=finished / 20,
        limiter_wait_seconds=0.0,
        starts_max_sliding_second=0,
        in_flight=1,
        starts=starts,
    )


def test_totals_add_up_over_the_workers() -> None:
    heard = WorkersHeard()
    for worker, finished in (("a", 10), ("b", 5), ("a", 30)):
        heard.hear(word(worker, finished), 0.0)
    report = heard.report(0.0)
    assert report.totals == Totals(35, 0, 1.75)
    assert {sample.worker for sample in report.workers} == {"a", "b"}


def test_how_much_a_worker_takes_together_is_remembered_when_all_are_gone() -> None:
    heard = WorkersHeard()
    assert heard.report(0.0).most_at_once is None
    heard.hear(msgspec.structs.replace(word("a", 1), most_at_once=1), 0.0)
    assert heard.report(100.0).most_at_once == 1


def test_what_the_dead_have_finished_stays_counted() -> None:
    heard = WorkersHeard()
    heard.hear(word("a", 100), 0.0)
    heard.hear(word("b", 1), SILENT_SECONDS + 1)
    report = heard.report(SILENT_SECONDS + 1)
    assert report.totals.finished == 101
    assert [sample.worker for sample in report.workers] == ["b"]


def test_a_worker_that_was_silent_is_not_counted_twice() -> None:
    heard = WorkersHeard()
    heard.hear(word("a", 100), 0.0)
    assert heard.report(60.0).workers == []
    heard.hear(word("a", 110), 60.0)
    assert heard.report(60.0).totals.finished == 110


def test_a_new_process_of_the_same_name_begins_again() -> None:
    heard = WorkersHeard()
    heard.hear(word("a", 100), 0.0)
    heard.hear(word("a", 3), 1.0)
    heard.hear(word("a", 7, pid=2), 2.0)
    assert heard.report(2.0).totals.finished == 110


def test_the_names_of_the_dead_do_not_grow_without_end() -> None:
    heard = WorkersHeard()
    for number in range(3_000):
        heard.hear(word(f"w{number}", 1), float(number))
    assert heard.report(3_000.0).totals.finished == 3_000
    assert len(heard._newest) <= 1_000


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(0, 5), st.booleans()), max_size=60
    )
)
def test_totals_never_fall_and_are_exact(words: list[tuple[str, int, int, bool]]) -> None:
    heard, totals, pids, numbers = (
        WorkersHeard(),
        dict.fromkeys("abc", (0, 0)),
        dict.fromkeys("abc", 0),
        count(1),
    )
    expected, before = 0, Totals(0, 0, 0.0)
    for worker, more, failures, reborn in words:
        if reborn:
            totals[worker], pids[worker] = (0, 0), next(numbers)
        finished, failed = totals[worker][0] + more, totals[worker][1] + failures
        totals[worker] = (finished, failed)
        expected += more
        heard.hear(word(worker, finished, failed=failed, pid=pids[worker]), 0.0)
        seen = heard.report(0.0).totals
        assert seen.finished >= before.finished
        assert seen.busy_seconds >= before.busy_seconds
        before = seen
    assert before.finished == expected


def test_the_most_starts_of_the_pool_are_found_across_workers_and_late_words() -> None:
    starts = PoolStarts()
    assert starts.most() is None
    starts.add([(10.0, 3), (10.5, 2), (12.0, 1)])
    assert starts.most() == 5
    starts.add([(10.4, 4)])  # another worker, told later, about the same second
    assert starts.most() == 9
    starts.add([(30.0, 1)])
    starts.add([(30.9, 1), (31.0, 1)])  # 30.0 and 31.0 are a second apart
    assert starts.most() == 9
    assert len(starts._recent) == 3


def test_the_most_of_the_last_minute_is_forgotten_and_the_most_of_all_times_is_not() -> None:
    starts = PoolStarts()
    assert starts.recent_most(100.0) is None
    starts.add([(100.0, 300)])
    assert (starts.most(), starts.recent_most(100.0)) == (300, 300)
    starts.add([(250.0, 40)])
    assert (starts.most(), starts.recent_most(250.0)) == (300, 40)
    assert starts.recent_most(400.0) == 0
