from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import structlog

from peakclip.errors import UnavailableError
from peakclip.messages import PoolStatus
from peakclip_operator.loop import ControlLoop
from peakclip_operator.plan import Lag, PoolSpec, Totals
from peakclip_operator.ports import PaceReading, Ports, Telemetry, Workers, WorkerSample


@dataclass
class World:
    """All ports in one. A port named in `down` fails."""

    now: float = 1000.0
    lag: Lag = field(default_factory=lambda: Lag(0, 0, 0, 0))
    delayed: int = 0
    running: int = 1
    pace: PaceReading = field(default_factory=lambda: PaceReading(100.0, 100.0, paused=False, burst=5))
    samples: Sequence[WorkerSample] = ()
    most_at_once: int | None = None
    down: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[int, list[int]]] = field(default_factory=list)
    set_to: list[float] = field(default_factory=list)
    published: list[PoolStatus] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def ports(self) -> Ports:
        names = ("lag", "delayed", "telemetry", "scaler", "pace", "pace", "status")
        return Ports(*(_Port(self, name) for name in names))  # type: ignore[arg-type]

    def loop(self, spec: PoolSpec | None = None) -> ControlLoop:
        wanted = spec or PoolSpec(prior_batch_seconds=1 / 22)
        return ControlLoop("pool", wanted, self.ports(), clock=lambda: self.now)

    async def ticks(self, loop: ControlLoop, number: int) -> None:
        for _ in range(number):
            self.now += 0.5
            await loop.tick()


@dataclass
class _Port:
    world: World
    name: str

    def _check(self) -> World:
        if self.name in self.world.down:
            raise self.world.down[self.name]
        return self.world

    async def read(self, now: float | None = None) -> object:  # type: ignore[override]
        world = self._check()
        answers = {
            "lag": world.lag,
            "delayed": world.delayed,
            "telemetry": Telemetry(Totals(0, 0, 0.0), world.samples, most_at_once=world.most_at_once),
            "pace": world.pace,
        }
        return answers[self.name]

    async def current(self) -> Workers:
        return Workers(running=self._check().running, starting=0)

    async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
        world = self._check()
        world.asked.append((replicas, [sample.pid for sample in idle_first]))
        world.running = replicas

    async def set_effective(self, per_second: float) -> None:
        self._check().set_to.append(per_second)

    async def publish(self, status: PoolStatus) -> None:
        self._check().published.append(status)
        self.world.told.set()


def sample(pid: int, in_flight: int) -> WorkerSample:
    return WorkerSample(str(pid), pid, 0.0, in_flight, draining=False)


BURST = Lag(10_000, 0, 10_000, 0)


async def test_scales_only_when_the_number_differs() -> None:
    world = World()
    loop = world.loop()
    await world.ticks(loop, 20)
    assert world.asked == []
    world.lag = BURST
    await world.ticks(loop, 10)
    assert world.asked == [(6, [])]
    world.running = 5  # one died
    await world.ticks(loop, 1)
    assert world.asked == [(6, []), (6, [])]


async def test_the_idle_are_named_first() -> None:
    world = World(running=6, samples=[sample(1, 4), sample(2, 0), sample(3, 2)])
    loop = world.loop(PoolSpec(stabilization_seconds=1))
    await world.ticks(loop, 14)
    assert world.asked == [(1, [2, 3, 1])]


@pytest.mark.parametrize("failure", [UnavailableError(), ValueError("nonsense in the bucket"), OSError()])
@pytest.mark.parametrize("port", ["lag", "delayed", "telemetry", "scaler", "pace", "status"])
async def test_a_failing_port_is_unknown_and_stops_nothing(port: str, failure: Exception) -> None:
    world = World(lag=BURST)
    loop = world.loop()
    await world.ticks(loop, 10)
    before = loop.decision
    assert before is not None
    world.down[port] = failure
    with structlog.testing.capture_logs() as lines:
        await world.ticks(loop, 10)
    assert loop.decision is not None
    assert loop.decision.replicas == before.replicas
    assert loop.decision.valid == (port != "lag")
    assert [line["port"] for line in lines if line["event"] == "port_failing"] == [port]  # told once
    del world.down[port]
    with structlog.testing.capture_logs() as lines:
        await world.ticks(loop, 1)
    assert [line["port"] for line in lines if line["event"] == "port_back"] == [port]
    assert loop.decision.valid


async def test_a_port_that_hangs_is_unknown() -> None:
    world = World()

    class Hanging:
        async def read(self) -> Lag:
            await asyncio.Event().wait()
            raise AssertionError

    ports = replace(world.ports(), lag=Hanging())
    loop = ControlLoop("pool", PoolSpec(), ports, clock=lambda: world.now, port_seconds=0.01)
    await world.ticks(loop, 1)
    assert world.published[-1].reason == "LagUnknown"


async def test_the_status_says_what_is_known_and_none_for_the_rest() -> None:
    world = World()
    loop = world.loop()
    world.down["lag"] = UnavailableError()
    await world.ticks(loop, 1)
    status = world.published[-1]
    assert (status.lag_ready, status.lag_in_flight, status.arrival_per_second, status.eta_seconds) == (
        None,
    ) * 4
    assert (status.per_worker_per_second, status.average_processing_seconds) == (None, None)
    assert (status.limit_per_second, status.effective_per_second, status.burst) == (100.0, 100.0, 5)


async def test_what_waits_for_another_attempt_is_told_apart_and_calls_for_no_worker() -> None:
    world = World(delayed=10_000)
    loop = world.loop()
    await world.ticks(loop, 20)
    status = world.published[-1]
    assert (status.lag_ready, status.lag_in_flight, status.lag_delayed) == (0, 0, 10_000)
    assert (status.reason, status.workers_desired, status.eta_seconds) == ("Idle", 1, 0.0)
    world.down["delayed"] = UnavailableError()
    await world.ticks(loop, 1)
    assert world.published[-1].lag_delayed is None
    assert loop.decision is not None
    assert loop.decision.valid


async def test_the_last_known_pace_stays_in_force_while_it_cannot_be_read() -> None:
    world = World(lag=BURST, pace=PaceReading(200.0, 150.0, paused=False))
    loop = world.loop()
    await world.ticks(loop, 1)
    world.down["pace"] = UnavailableError()
    await world.ticks(loop, 1)
    assert (world.published[-1].limit_per_second, world.published[-1].effective_per_second) == (200.0, 150.0)
    assert world.set_to == []


async def test_a_worker_that_takes_one_at_a_time_counts_as_one() -> None:
    """At 300/s three may start together; in workers that take one after the other they need three times as many."""
    world = World(pace=PaceReading(300.0, 300.0, paused=False, burst=15, batch=3))
    loop = world.loop()
    await world.ticks(loop, 1)
    world.lag = Lag(10_000, 0, 10_000, 0)
    await world.ticks(loop, 1)
    together = loop.decision.replicas if loop.decision else 0
    world.most_at_once = 1
    await world.ticks(loop, 1)
    assert loop.decision is not None
    assert (together, loop.decision.replicas) == (6, 17)


async def test_a_line_is_logged_for_a_change_and_none_for_a_repetition() -> None:
    world = World()
    loop = world.loop()
    await world.ticks(loop, 20)
    world.lag = BURST
    with structlog.testing.capture_logs() as lines:
        await world.ticks(loop, 10)
    (line,) = lines
    assert (line["event"], line["before"], line["replicas"], line["reason"]) == ("scaled", 1, 6, "CatchingUp")
    assert line["inputs"]["lag_ready"] == 10_000


async def test_the_gauges_show_the_status() -> None:
    from peakclip.telemetry import exposition

    world = World(lag=BURST)
    loop = world.loop()
    await world.ticks(loop, 3)
    text = exposition().decode()
    assert 'peakclip_lag_messages{pool="pool",state="ready"} 10000.0' in text
    assert 'peakclip_lag_messages{pool="pool",state="delayed"} 0.0' in text
    assert 'peakclip_workers{pool="pool",state="desired"} 6.0' in text
    assert 'peakclip_decisions_total{pool="pool",reason="CatchingUp"}' in text
    world.down |= {"lag": UnavailableError(), "delayed": UnavailableError()}
    await world.ticks(loop, 1)
    text = exposition().decode()
    assert 'peakclip_lag_messages{pool="pool",state="ready"} NaN' in text
    assert 'peakclip_lag_messages{pool="pool",state="delayed"} NaN' in text


async def test_run_ends_at_once_when_asked_to() -> None:
    world = World()
    stopping = asyncio.Event()
    running = asyncio.create_task(world.loop().run(stopping))
    await world.told.wait()
    stopping.set()
    async with asyncio.timeout(0.4):
        await running


async def test_with_no_word_of_the_workers_nobody_is_scaled() -> None:
    world = World(lag=BURST, running=9, down={"scaler": UnavailableError()})
    loop = world.loop()
    await world.ticks(loop, 20)
    assert loop.decision is not None
    assert (loop.decision.replicas, loop.decision.reason, world.asked) == (None, "WorkersUnknown", [])
    assert (loop.workers, list(loop.failures)) == (None, ["scaler"])
    del world.down["scaler"]
    await world.ticks(loop, 1)
    assert (loop.decision.replicas, world.asked, loop.failures) == (9, [], {})


async def test_advice_is_told_and_touches_neither_workers_nor_rate() -> None:
    world = World(lag=BURST, pace=PaceReading(40.0, 40.0, paused=False, burst=5))
    loop = world.loop(PoolSpec(prior_batch_seconds=1 / 22, advise=True))
    with structlog.testing.capture_logs() as lines:
        await world.ticks(loop, 5)
    assert (world.asked, world.set_to) == ([], [])
    assert world.published[-1].workers_desired == 6  # for the 100/s of the spec
    assert (world.published[-1].limit_per_second, world.published[-1].effective_per_second) == (100.0, 40.0)
    assert [line["event"] for line in lines] == ["advised"]


async def test_a_refused_order_to_scale_is_kept_until_it_is_taken_back_or_obeyed() -> None:
    world = World(lag=BURST)
    refusal = PermissionError("patch deployments/scale")

    class Refusing(_Port):
        async def scale_to(self, replicas: int, idle_first: Sequence[WorkerSample]) -> None:
            raise refusal

    loop = ControlLoop(
        "pool",
        PoolSpec(prior_batch_seconds=1 / 22),
        replace(world.ports(), scaler=Refusing(world, "scaler")),
        clock=lambda: world.now,
    )
    with structlog.testing.capture_logs() as lines:
        await world.ticks(loop, 10)
    assert loop.failures == {"scale": refusal}
    assert len([line for line in lines if line["event"] == "port_failing"]) == 1
    world.running = 6
    await world.ticks(loop, 1)
    assert loop.failures == {}
