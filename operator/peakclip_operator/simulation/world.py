"""The model: one step of time after another. Orders are counted, never objects; so are workers.

What it knows: the limiter (slots of R, nothing banked, starts late by no more than the real tolerance allows), a
database with a queue in it, workers that start, drain and die, messages that come back, and telemetry once a second.
What it leaves out: single orders and their order, the tickets and the clocks of the limiter (the event level has them),
the network, and that one worker differs from another.
"""

from __future__ import annotations

import random
from math import sqrt

from peakclip.limiter.grid import LATE_TOLERANCE_SECONDS, rate_milli, tolerance
from peakclip_operator.plan import Lag
from peakclip_operator.simulation.arrivals import per_step
from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.database import Calls
from peakclip_operator.simulation.fleet import Fleet
from peakclip_operator.simulation.returns import Returns
from peakclip_operator.simulation.row import Row
from peakclip_operator.simulation.scenario import Scenario
from peakclip_operator.simulation.telling import Counters, Telling

_FENCE_SECONDS = 1.3  # from another rate to the moment at which every worker obeys it


class World:
    """`run` moves it on, `seen` looks at it, `scale` and `pace` act on it."""

    def __init__(
        self, scenario: Scenario, *, limited: bool, seed: int | None = None, step_seconds: float = 0.1
    ) -> None:
        self.seed = scenario.seed if seed is None else seed
        self._scenario = scenario
        self._limited = limited
        self._batch = scenario.batch
        self._late_most = _late_most(scenario.limit_per_second, scenario.burst)
        self._dt = step_seconds
        self._per_second = round(1 / step_seconds)
        self._rng = rng = random.Random(self.seed)
        orders = random.Random(self.seed + 1)  # the same orders whoever decides
        self.arrivals = per_step(scenario.arrivals, self._per_second, orders if scenario.poisson else None)
        self._fleet = Fleet(scenario, rng)
        self._telling = Telling(scenario, rng)
        self._index = 0
        self.starts: list[int] = []
        self.waiting: list[int] = []
        self.rates: list[tuple[float, float]] = [(0.0, scenario.limit_per_second)]
        """From when on which rate was in force."""
        self.rows: list[Row] = []
        self.arrived = self.started = self.finished = self.failed = 0
        self.busy_seconds = self.worker_seconds = 0.0
        self._queue = 0  # waits for a start
        self._hands = 0  # in the hands of workers, on their way there
        # What ends in each step, and the seconds that it took: told when it is done.
        self._ends = [0] * (len(self.arrivals) + 1)
        self._ends_busy = [0.0] * (len(self.arrivals) + 1)
        self._ends_batches = [0.0] * (len(self.arrivals) + 1)
        self._batches = 0.0
        self._returns = Returns()
        self._calls = Calls(scenario.database, step_seconds, rng)
        self._slots = self._late = 0.0  # of the limiter: a part of a slot; slots that may still be used
        self._free = 0.0  # orders that the workers could still have done
        self._lost = 0  # orders in the hands of workers that have died: their starts were in vain
        self._busy = 0.0
        self._rate = self._target = scenario.limit_per_second
        self._fence: tuple[float, float] | None = None
        self._told_finished = 0
        self._oldest = 0  # index of the step in which the oldest unfinished order came
        self._sum_to_oldest = 0
        self._row_before = (0, 0, 0)

    @property
    def now(self) -> float:
        return self._index * self._dt

    @property
    def remaining(self) -> bool:
        return self._index < len(self.arrivals)

    # -- acting --------------------------------------------------------------------------------------------

    def scale(self, asked: int) -> None:
        self._fleet.scale(asked, self.now)

    def pace(self, per_second: float) -> None:
        """Another rate counts when every worker has heard of it."""
        if per_second != self._target:
            self._target = per_second
            self._fence = (self.now + _FENCE_SECONDS, per_second)

    def forget_telemetry(self) -> None:
        self._telling.forget()

    # -- looking -------------------------------------------------------------------------------------------

    def seen(self) -> Seen:
        now, fleet, scenario = self.now, self._fleet, self._scenario
        outstanding = self._queue + self._hands + self._calls.inside
        held = min(outstanding, fleet.ready * self._batch)
        totals = self._telling.tell(self._counters(), fleet.ready, now)
        # With a work shorter than a step orders begin and end within one: a real consumer would count some of them.
        finished = max(self._told_finished, self.finished - max(0, round(self._busy * self._batch) - held))
        self._told_finished = finished
        lag = None
        if not any(since <= now < until for since, until in scenario.lag_unknown):
            floor = self._returns.floor(finished)
            lag = Lag(
                ready=outstanding - held,
                in_flight=held + self.finished - finished + self._returns.count,
                last_seq=self.arrived,
                finished_seq=finished,
                oldest_seconds=self._oldest_seconds(floor),
                redelivered=self._returns.count,
                floor_seq=floor,
            )
        return Seen(
            lag=lag,
            totals=totals,
            delayed=self._returns.count,
            asked=fleet.asked,
            existing=fleet.existing,
            ready=fleet.ready,
            busy=self._busy,
            arrived_total=self.arrived,
            started_total=self.started,
            finished_total=self.finished,
            busy_seconds_total=self.busy_seconds,
        )

    def _counters(self) -> Counters:
        calls = self._calls
        done = self.finished, self.failed, self.busy_seconds, self._batches
        return (*done, self.finished + calls.errors, calls.errors, calls.wait_seconds, *calls.took)

    def _oldest_seconds(self, floor: int) -> float | None:
        if floor >= self.arrived:
            return None
        index, total, arrivals = self._oldest, self._sum_to_oldest, self.arrivals
        while total + arrivals[index] <= floor:
            total += arrivals[index]
            index += 1
        self._oldest, self._sum_to_oldest = index, total
        return max(0.0, self.now - index * self._dt)

    # -- moving on -----------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        """The heart: so many steps. Local names, since it is done some thousand times a run."""
        scenario, fleet, dt, rng = self._scenario, self._fleet, self._dt, self._rng
        batch, database, limited = self._batch, scenario.database, self._limited
        if scenario.crashes_per_hour:
            self._crash_at_random(steps * dt)
        work = scenario.work_seconds(self.now) * scenario.slower(self._busy)
        noise = scenario.work_noise
        arrivals, starts, waits = self.arrivals, self.starts, self.waiting
        queue, free, slots, late = self._queue, self._free, self._slots, self._late
        started, finished, arrived = 0, 0, self.arrived
        busy_seconds, paid = 0.0, 0
        ready = fleet.ready
        delay, hands, ends, ends_busy = int(work / dt), self._hands, self._ends, self._ends_busy
        usual = database.most(self.now) * dt
        calls, returns = self._calls, self._returns
        rough = calls.rough(self.now)
        rate, late_most = self._rate, self._late_most
        end = min(self._index + steps, len(arrivals))
        for index in range(self._index, end):
            now = index * dt
            if now >= fleet.next_event:
                self._lost += self._in_hands(fleet.pass_events(now), ready, queue + hands)
                ready = fleet.ready
            if returns.count:
                queue += returns.come_back(now)
            if self._fence is not None and now >= self._fence[0]:
                rate, self._fence = self._fence[1], None
                late_most = _late_most(rate, scenario.burst)
                self._rate, self._late_most = rate, late_most
                self.rates.append((now, rate))
            came = arrivals[index]
            arrived += came
            queue += came
            paid += ready + fleet.starting + fleet.draining
            done, count, busy, batches = 0, 0, 0.0, 0.0
            most = queue
            if limited:
                slots += rate * dt
                whole = int(slots)
                slots -= whole
                most = whole + int(late)
            if ready and queue:
                flow = ready * batch * dt / work
                # Orders that end in this step vary with their number; those who were free take one each at once.
                free += flow * max(0.0, 1 + rng.gauss(0.0, noise / sqrt(max(1.0, flow)))) if noise else flow
                count = min(queue, most, int(free))
                if rough or count > usual:
                    rough = True
                    count, done = self._through_database(count, ready, now)
                    busy = min(calls.inside * dt / batch, max(0.0, ready * dt - count * work / batch))
                else:
                    done = count
                    calls.at_once(count)
                free = min(free - count, ready * batch * min(1.0, work / dt) + 1.0)
                queue -= count
                batches = count / batch
                if queue == 0 and batch > 1:  # whoever is free takes what is there, and waits for no more
                    batches = min(float(count), max(batches, ready * dt / work))
                busy += batches * work
            elif rough:
                _, done = self._through_database(0, ready, now)
                busy = min(calls.inside / batch, ready) * dt
            if delay and done:  # longer work than a step
                at = min(index + delay, len(arrivals))
                ends[at] += done
                ends_busy[at] += busy
                self._ends_batches[at] += batches
                hands += done
                done, busy, batches = 0, 0.0, 0.0
            if hands and ends[index]:
                done += ends[index]
                busy += ends_busy[index]
                batches += self._ends_batches[index]
                hands -= ends[index]
            if self._lost and done:
                done -= self._die_with(min(self._lost, done), now)
            busy_seconds += busy
            self._batches += batches
            if limited:
                late = min(max(0, most - count), late_most)
            started += count
            finished += done
            starts.append(count)
            waits.append(queue + self._returns.count)
            if (index + 1) % self._per_second == 0:
                self._note(index, arrived, self.started + started, self.finished + finished, waits[-1])
            rough = rough and calls.rough(now)
        passed = max(1, end - self._index) * dt
        self._index = end
        self._queue, self._free, self._slots, self._late, self._hands = queue, free, slots, late, hands
        self.arrived = arrived
        self.started += started
        self.finished += finished
        self.busy_seconds += busy_seconds
        self._busy = min(float(ready), busy_seconds / passed)
        self.worker_seconds += paid * dt

    def _through_database(self, count: int, ready: int, now: float) -> tuple[int, int]:
        """The orders that begin, and those that end well."""
        count, ended, failed = self._calls.step(count, ready * self._batch, now)
        if failed:
            self.failed += failed
            self._returns.put_off(failed, now + self._scenario.retry_seconds, self.finished)
        return count, ended - failed

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _in_hands(self, died: int, ready: int, orders: int) -> int:
        """Of so many orders, those that the dead had begun."""
        if not died:
            return 0
        busy = min(1.0, self._busy / ready) if ready else 0.0
        return min(orders, round(died * self._batch * busy))

    def _die_with(self, count: int, now: float) -> int:
        self._lost -= count
        self._returns.put_off(count, now + self._scenario.ack_wait_seconds, self.finished)
        return count

    def _crash_at_random(self, seconds: float) -> None:
        fleet = self._fleet
        if self._rng.random() < fleet.ready * self._scenario.crashes_per_hour * seconds / 3600:
            ready = fleet.ready
            self._lost += self._in_hands(fleet.crash(1, self.now), ready, self._queue + self._hands)

    def _note(self, index: int, arrived: int, started: int, finished: int, lag: int) -> None:
        fleet, before = self._fleet, self._row_before
        self._row_before = (arrived, started, finished)
        self.rows.append(
            Row(
                (index + 1) // self._per_second,
                arrived - before[0],
                started - before[1],
                finished - before[2],
                lag,
                fleet.asked,
                fleet.existing,
                fleet.ready,
                self._rate,
            )
        )


def _late_most(per_second: float, burst: int) -> int:
    """Slots that may be used in the next step: as many as the real limiter's tolerance for being late holds."""
    if per_second <= 0:
        return 0
    return int(max(0.0, min(tolerance(rate_milli(per_second), burst), LATE_TOLERANCE_SECONDS)) * per_second)
