"""The real, unmodified plan behind the simulation's protocol."""

from __future__ import annotations

from dataclasses import replace

from peakclip_operator.memory import decode, encode
from peakclip_operator.plan import Decision, Memory, Observation, decide
from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.scenario import Scenario

_EPOCH = 1_000_000.0  # the plan's clock is not that of the run: seconds since any moment


class Peakclip:
    """Its workers obey the limiter, and it sets the rate in force, as the loop does."""

    name = "peakclip"
    limited = True

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._spec = scenario.spec()
        self._memory = Memory()
        self.decision: Decision | None = None
        self._rate = self._spec.limit_per_second

    @property
    def rate_per_second(self) -> float:
        return self._rate

    def begin_anew(self, now: float, *, kept: bool) -> None:
        """Another process takes over: with the memory as it is kept, or with nothing but the wish and the rate in
        force."""
        self._memory = (
            Memory() if not kept else decode(encode(self._memory, "", _EPOCH + now), "", _EPOCH + now)[0]
        )

    def look(self, seen: Seen, now: float) -> int | None:
        observation = Observation(
            lag=seen.lag,
            totals=seen.totals,
            replicas=seen.existing,
            ready=seen.ready,
            delayed=seen.delayed,
        )
        if self._scenario.limits and (limit := self._scenario.limit_at(now)) != self._spec.limit_per_second:
            # As `peakclip pace` writes it: what was in force goes with the limit that it belonged to.
            self._spec = replace(self._spec, limit_per_second=limit, effective_per_second=None)
        decision, self._memory = decide(self._spec, observation, self._memory, _EPOCH + now)
        self.decision = decision
        if decision.rate != self._rate:
            self._rate = decision.rate
            self._spec = replace(self._spec, effective_per_second=decision.rate)
        return decision.replicas
