from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from simulation.looked import seen

from peakclip_operator.simulation.autoscalers import Autoscaler
from peakclip_operator.simulation.baselines.flink import DelayedScaleDown, Flink, documented
from peakclip_operator.simulation.baselines.flink_formulas import FlinkSettings

SETTINGS = FlinkSettings()
QUICK = replace(SETTINGS, stabilization_seconds=60.0, window_seconds=120.0)


@dataclass
class Job:
    """Workers of 25/s at most, looked at once a second."""

    flink: Flink
    workers: int
    arrivals: float
    each: float = 25.0
    most: float = float("inf")
    """What all of them together can do."""
    lag: float = 0.0
    done: float = 0.0
    busy: float = 0.0
    now: int = 0
    changes: list[tuple[int, int]] = field(default_factory=list)

    def run(self, seconds: int) -> list[tuple[int, int]]:
        for _ in range(seconds):
            shown = seen(int(self.lag), self.workers, finished=int(self.done), busy_seconds=self.busy)
            wanted = self.flink.look(shown, float(self.now))
            if wanted is not None:
                self.changes.append((self.now, wanted))
                self.workers = wanted
            able = min(self.workers * self.each, self.most)
            taken = min(self.lag + self.arrivals, able)
            self.lag += self.arrivals - taken
            self.done += taken
            self.busy += self.workers * taken / able if able else 0.0
            self.now += 1
        return self.changes


def test_it_is_an_autoscaler_without_a_limiter() -> None:
    flink: Autoscaler = Flink(SETTINGS)
    assert not flink.limited


def test_the_first_decision_comes_after_20_minutes_and_is_a_restart() -> None:
    """100/s come, 2 x 25/s are done: 60,000 wait after 1200 s. (60,000/1800 + 16.7 + 142.9) / 50 x 2 = 7.7."""
    assert Job(Flink(SETTINGS), 2, 100.0).run(1260) == [(1200, 0), (1230, 8)]


def test_after_a_restart_it_waits_for_the_stabilization_and_a_whole_window_again() -> None:
    """9,000 wait after 180 s: (9000/1800 + 16.7 + 142.9) / 50 x 2 = 6.6."""
    changes = Job(Flink(QUICK), 2, 100.0).run(600)
    assert changes[:2] == [(180, 0), (210, 7)]
    assert all(at >= 210 + 180 for at, _ in changes[2:])


def test_a_worker_that_needs_time_to_start_is_asked_for_earlier() -> None:
    assert Job(Flink(SETTINGS, start_seconds=10.0), 2, 100.0).run(1260)[1] == (1220, 8)
    assert Job(Flink(SETTINGS, start_seconds=60.0), 2, 100.0).run(1260)[1] == (1201, 8)


def test_a_job_has_at_least_one_worker() -> None:
    assert Flink(SETTINGS).look(seen(0, 0), 0.0) == 1


def test_it_collects_nothing_before_all_workers_run() -> None:
    flink = Flink(QUICK)
    for now in range(100):
        flink.look(seen(0, 2, ready=1), float(now))
    job = Job(flink, 2, 100.0, now=100)
    assert job.run(400)[0] == (300, 0)  # runs since 100; the first collection after 160 at 180, and 120 s


def test_within_its_bounds_nothing_changes() -> None:
    assert Job(Flink(QUICK), 6, 100.0).run(3000) == []  # 67 % busy


def test_scale_down_waits_for_an_hour_and_takes_the_highest_wish_of_it() -> None:
    changes = Job(Flink(QUICK), 20, 100.0).run(3900)
    assert changes == [(3780, 0), (3810, 8)]  # due since 180; at most 60 % down


def test_a_delayed_scale_down_is_forgotten_when_it_is_not_wished_any_more() -> None:
    delayed = DelayedScaleDown(3600.0)
    assert delayed.trigger(5, True, 0.0) is None
    assert delayed.trigger(3, True, 3599.0) is None
    assert delayed.trigger(2, True, 3600.0) == (5, True)
    assert delayed.trigger(2, True, 3601.0) == (3, True)
    delayed.clear()
    assert delayed.trigger(2, True, 7000.0) is None


@pytest.mark.parametrize(("detects", "restarts"), [(False, True), (True, False)])
def test_an_ineffective_scale_up_is_repeated_unless_it_is_told_to_look(detects: bool, restarts: bool) -> None:
    """The database does 50/s whoever asks: more workers bring nothing."""
    flink = Flink(replace(QUICK, detect_ineffective=detects))
    changes = Job(flink, 2, 100.0, most=50.0).run(1200)
    assert (len(changes) > 2) == restarts


def test_an_unknown_lag_is_not_collected() -> None:
    flink = Flink(QUICK)
    for now in range(400):
        assert flink.look(seen(None, 2), float(now)) is None


def test_the_documented_example_decides_after_6_minutes() -> None:
    assert Job(Flink(documented(SETTINGS)), 2, 100.0).run(400)[0] == (360, 0)
