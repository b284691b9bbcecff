"""A resource under the eyes of an operator: real decisions, statuses and Events, without a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peakclip_operator.plan import Lag, Memory, Observation, Totals, decide
from peakclip_operator.ports import PaceReading, Telemetry, Workers
from peakclip_operator.report import Seen, pool_status
from peakclip_operator.resource.conditions import Facts
from peakclip_operator.resource.events import Event, EventMemory, events
from peakclip_operator.resource.model import read_spec
from peakclip_operator.resource.status import build_status
from peakclip_operator.resource.wish import read_pauses, to_pool_spec

SPEC: dict[str, Any] = {
    "workload": {"name": "peakclip-worker-orders"},
    "source": {"stream": "SECKILL", "consumer": "orders"},
    "throughput": {"limitPerSecond": 100},
}
START = 1_700_000_000.0


@dataclass
class Pool:
    """Ticks of the real plan; `facts` is what an operator would know of the last one."""

    spec: dict[str, Any] = field(default_factory=lambda: dict(SPEC))
    annotations: dict[str, str] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    generation: int = 1
    running: int | None = 1
    now: float = START
    memory: Memory = field(default_factory=Memory)
    status: dict[str, Any] = field(default_factory=dict)
    told: EventMemory = field(default_factory=EventMemory)
    events: list[Event] = field(default_factory=list)

    def tick(self, lag: Lag | None, seconds: float = 1.0, totals: Totals | None = None) -> dict[str, Any]:
        spec = read_spec(self.spec)
        self.now += seconds
        wish = to_pool_spec(spec, self.annotations)
        observation = Observation(lag, totals, self.running, delayed=3)
        decision, self.memory = decide(wish, observation, self.memory, self.now)
        workers = None if self.running is None else Workers(self.running, 0)
        heard = Telemetry(totals, ()) if totals else None
        seen = Seen(self.now, workers, heard, PaceReading(100.0, 100.0, paused=wish.paused))
        facts = Facts(
            "shop",
            self.generation,
            self.now,
            spec,
            pauses=read_pauses(self.annotations, spec),
            decision=decision,
            status=pool_status("orders", wish, observation, decision, seen),
            workers=self.running,
            failures=self.failures,
        )
        if spec.mode == "Enforce" and self.running is not None:
            self.running = decision.replicas
        return self.write(facts)

    def write(self, facts: Facts) -> dict[str, Any]:
        self.status = build_status(facts, self.status)
        new, self.told = events(facts, self.status, self.told)
        self.events += new
        return self.status

    def condition(self, kind: str) -> tuple[str, str, str]:
        (one,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return one["status"], one["reason"], one["message"]

    def word(self, kind: str) -> str:
        return "/".join(self.condition(kind)[:2])
