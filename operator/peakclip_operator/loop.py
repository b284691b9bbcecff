"""The control loop: look through the ports, decide, act, tell. It knows neither processes nor Kubernetes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from peakclip.messages import PoolStatus
from peakclip_operator.kept import KeptMemory
from peakclip_operator.plan import Decision, Fallback, Memory, Observation, PoolSpec, decide
from peakclip_operator.ports import PaceReading, Ports, Telemetry, Workers, WorkerSample
from peakclip_operator.report import Seen, export, pool_status

log = structlog.get_logger()

_T = TypeVar("_T")
_PORT_SECONDS = 1.5  # a port that takes longer is unknown at this tick


class ControlLoop:
    """Decides for one pool. `clock` gives epoch seconds; the simulation passes a virtual one."""

    def __init__(
        self,
        pool: str,
        spec: PoolSpec,
        ports: Ports,
        *,
        clock: Callable[[], float] = time.time,
        tick_seconds: float = 0.5,
        port_seconds: float = _PORT_SECONDS,
    ) -> None:
        self._pool = pool
        self._ports = ports
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._port_seconds = port_seconds
        self._told: tuple[int | None, str] | None = None
        self.spec = self._wish = spec
        self.failures: dict[str, BaseException] = {}
        """What fails at the moment, by port: lag, delayed, scheduled, telemetry, scaler, pace, memory, status; and what
        was refused when it was asked for: scale, set_pace."""
        self.workers: Workers | None = None
        self.memory = Memory()
        self._kept = KeptMemory(pool, ports.memory)
        self.decision: Decision | None = None
        self.status: PoolStatus | None = None

    def wish(self, spec: PoolSpec) -> None:
        """Another wish counts from the next tick on; the same one changes nothing, and the memory stays. So does what
        is read with the pace, until it is read again."""
        if spec == self._wish:
            return
        live, self._wish = self.spec, spec
        self.spec = replace(spec, batch=live.batch, share_per_second=live.share_per_second)
        if spec.limit_per_second == live.limit_per_second:
            self.spec = replace(self.spec, effective_per_second=live.effective_per_second)

    def spoke_within(self, seconds: float) -> bool:
        """Whether the last status is no older."""
        return self.status is not None and 0 <= self._clock() - self.status.at <= seconds

    async def run(self, stopping: asyncio.Event) -> None:
        """Ticks until `stopping` is set."""
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            next_tick = loop.time() + self._tick_seconds
            await self.tick()
            try:
                async with asyncio.timeout_at(next_tick):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def tick(self) -> Decision:
        """One look, one decision, and what follows from it."""
        now = self._clock()
        ports = self._ports
        if not self._kept.is_known:
            await self._ask("memory", lambda: self._kept.load(now))
        lag, delayed, scheduled, heard, workers, pace = await asyncio.gather(
            self._ask("lag", ports.lag.read),
            self._ask("delayed", ports.delayed.read),
            self._ask("scheduled", self._scheduled),
            self._ask("telemetry", lambda: ports.telemetry.read(now)),
            self._ask("scaler", ports.scaler.current),
            self._ask("pace", ports.pace.read),
        )
        if pace is not None:  # else the last known rate stays the wish
            self.spec = _with_pace(self.spec, pace, heard)
        self.workers = workers
        observation = Observation(
            lag=lag,
            totals=heard.totals if heard else None,
            replicas=workers.running + workers.starting if workers else None,
            ready=workers.running if workers else None,
            delayed=delayed,
            scheduled=scheduled,
        )
        decision = self._decide(observation, now)
        self._tell(decision, observation.replicas)
        if not self.spec.advise:
            await self._act(decision, observation.replicas, heard, pace)
        seen = Seen(now, workers, heard, pace, has_timers=ports.scheduled is not None)
        status = pool_status(self._pool, self.spec, observation, decision, seen)
        export(status, self.spec, seen, decision.replicas)
        await asyncio.gather(
            self._ask("status", lambda: ports.status.publish(status)),
            self._remember(decision, now),
        )
        self.decision, self.status = decision, status
        return decision

    def _decide(self, observation: Observation, now: float) -> Decision:
        """From the memory of the controller before, as soon as there is one."""
        spec = self.spec
        if observation.lag is not None and self._kept.is_missed(now):
            observation = replace(observation, lag=None)
            spec = replace(spec, fallback=Fallback())  # held, whatever is wished for a lag that is unknown
        recalled = self._kept.taken(self.memory, now)
        if recalled is not None:
            try:
                decision, self.memory = decide(spec, observation, recalled, now)
            except Exception as exc:  # noqa: BLE001 - it would fail again after each restart
                log.warning("memory_begins_anew", pool=self._pool, error=repr(exc))
            else:
                return decision
        decision, self.memory = decide(spec, observation, self.memory, now)
        return decision

    async def _remember(self, decision: Decision, now: float) -> None:
        if self._kept.is_due(decision, now):
            await self._ask("memory", lambda: self._kept.save(self.memory, now))

    async def _scheduled(self) -> int | None:
        source = self._ports.scheduled
        return None if source is None else await source.read()

    async def _act(
        self, decision: Decision, present: int | None, heard: Telemetry | None, pace: PaceReading | None
    ) -> None:
        """With no word of how many workers there are, nobody is started or ended."""
        wanted = decision.replicas
        if present is None or wanted is None or present == wanted:
            self.failures.pop("scale", None)
        else:
            idle_first = _idle_first(heard)
            await self._ask("scale", lambda: self._ports.scaler.scale_to(wanted, idle_first))
        if pace is None or decision.rate == pace.effective_per_second:
            self.failures.pop("set_pace", None)
        else:
            await self._ask("set_pace", lambda: self._ports.pace_sink.set_effective(decision.rate))

    async def _ask(self, port: str, call: Callable[[], Awaitable[_T]]) -> _T | None:
        """None when the port fails, whatever the failure: the other ports go on."""
        try:
            async with asyncio.timeout(self._port_seconds):
                answer = await call()
        except Exception as exc:  # noqa: BLE001 - logged, and unknown from here on
            if port not in self.failures:
                log.warning("port_failing", pool=self._pool, port=port, error=repr(exc))
            self.failures[port] = exc
            return None
        if self.failures.pop(port, None) is not None:
            log.info("port_back", pool=self._pool, port=port)
        return answer

    def _tell(self, decision: Decision, observed: int | None) -> None:
        """A line for each change of the number or of its reason, and none for a decision like the last."""
        told = (decision.replicas, decision.reason)
        if told == self._told:
            return
        before = self._told[0] if self._told else observed
        self._told = told
        log.info(
            "advised" if self.spec.advise else "scaled" if before != decision.replicas else "decided",
            pool=self._pool,
            before=before,
            replicas=decision.replicas,
            reason=decision.reason,
            binding_constraint=decision.binding_constraint,
            ceiling=decision.ceiling,
            valid=decision.valid,
            inputs={
                key: round(value, 3) if value is not None else None for key, value in decision.inputs.items()
            },
        )


def _with_pace(spec: PoolSpec, pace: PaceReading, heard: Telemetry | None) -> PoolSpec:
    """Advice is for the limit that is wished for: nobody writes it to where the pace is read."""
    at_once = heard.most_at_once if heard else None
    batch = pace.batch if at_once is None else min(pace.batch, at_once)
    if spec.advise:
        return replace(spec, batch=batch)
    return replace(
        spec,
        limit_per_second=pace.limit_per_second,
        effective_per_second=pace.effective_per_second,
        paused=pace.paused,
        share_per_second=pace.share_per_second,
        batch=batch,
    )


def _idle_first(heard: Telemetry | None) -> Sequence[WorkerSample]:
    """Who loses least by being sent home; a worker that has not been heard of is not in the list."""
    return sorted(heard.workers, key=lambda sample: sample.in_flight) if heard else ()
