"""`spec` of a WorkerPool. The definition for the API server is generated from this: `make crd`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import pydantic
from pydantic import Field

from peakclip.limiter import grid
from peakclip_operator.resource.duration import Duration
from peakclip_operator.resource.excluded import MOST_PERIODS, ExcludedPeriod
from peakclip_operator.resource.rules import Part, Rule, between, matches
from peakclip_operator.resource.shared import Shared

GROUP: Final = "peakclip.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "WorkerPool"
API_VERSION: Final = f"{GROUP}/{VERSION}"
PLURAL: Final = "workerpools"

MOST_REPLICAS: Final = 1000
# (1 + spare) * utilization may not exceed 1, and the plan's spare is 0.2.
MOST_UTILIZATION: Final = 0.83
# Slots below which a start could not be 5 ms late; see limiter.grid.least_burst, with which a test compares.
_BURST_SHARE: Final = 0.006

_Count = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]
_Number = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]


class Workload(Part):
    """The workers: what is scaled. It may be changed; the workload that is left stays as it is."""

    kind: Literal["Deployment"] = "Deployment"
    """Kind of the workload: a Deployment in the same namespace."""

    name: str = Field(max_length=253)
    """Name of the Deployment. Leave out its `spec.replicas`, or every `kubectl apply` sets the number back."""

    rules: ClassVar[tuple[Rule, ...]] = (
        matches("name", "[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "name is small letters, digits, dots and hyphens"),
    )


class Source(Part):
    """Where the work waits. It may be changed; the operator then begins anew, without memory of the old one."""

    stream: str = Field(max_length=128)
    """Name of the JetStream stream."""

    consumer: str = Field(max_length=128)
    """Name of the durable consumer that all workers share. It gets every message of its stream. It is also the
    name of the pool: workers find their rate and send their telemetry under it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        matches("stream", "[A-Za-z0-9_-]+", "stream is letters, digits, hyphens and underscores"),
        matches("consumer", "[A-Za-z0-9_-]+", "consumer is letters, digits, hyphens and underscores"),
    )


class DatabaseHealth(Part):
    """When the rate is lowered because the database suffers: to 70 %, once in five seconds, and never below a twentieth
    of the limit or of the pool's share of it. When the database is well again it rises by a twentieth of the limit in
    five seconds."""

    enabled: bool = True
    """Lower the rate at all. Workers that tell nothing of a database never lower it."""

    max_error_percent: float = 5.0
    """More calls than this that the database did not do, from 0 to 100 %, are too many."""

    max_wait: Annotated[float, Duration("0s", "1h")] = 0.25
    """A longer wait for a connection, on the average, is too long: a duration from 0s to 1h."""

    max_p95: Annotated[float, Duration("0s", "10s")] = 1.0
    """Slower calls than this, one in twenty, are too slow: a duration from 0s to 10s, which is when a worker gives a
    call up. Workers count times by classes, which end at 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4,
    0.5, 0.6, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8 and 10 s. A value between two of them counts as the
    upper one."""

    rules: ClassVar[tuple[Rule, ...]] = (between("maxErrorPercent", 0, 100),)


class Throughput(Part):
    """How fast the pool works, all workers together."""

    limit_per_second: float
    """R, in messages per second over all workers together: what the database behind them was sized for. From 0.001
    to 100000; fractions are allowed, 0.5 is one every two seconds. A change is in force within two seconds, without
    a restart."""

    burst: int | None = Field(default=None, le=round(grid.GREATEST_RATE))
    """Messages that any sliding second may start above the limit. Absent: a twentieth of the limit, at least 5."""

    catch_up: Annotated[float, Duration("1s", "24h")] = 120.0
    """A backlog is to be gone after this long, if the limit allows it: a duration from 1s to 24h. Shorter means more
    workers for a small backlog."""

    utilization: float = 0.7
    """Share of a worker's time that may be planned, from 0.1 to 0.83. Bounds the pool: more than
    limit / (rate of one worker * utilization) workers could only wait for each other's share of the limit."""

    database_health: DatabaseHealth = DatabaseHealth()
    """When the rate is lowered because the database suffers."""

    shared: Shared | None = None
    """A limit that this pool has together with others, as pools have that write to one database. Absent: it shares
    with nobody."""

    rules: ClassVar[tuple[Rule, ...]] = (
        between("limitPerSecond", grid.LEAST_RATE, grid.GREATEST_RATE),
        between("utilization", 0.1, MOST_UTILIZATION),
        Rule(
            "!has(self.burst) || (double(self.burst - 1) >= 0.006 * self.limitPerSecond"
            " && double(self.burst - self.burst / 5) >= 0.006 * self.limitPerSecond)",
            "burst is too small for limitPerSecond: starts can be milliseconds late, so it is at least 2 and about"
            " 0.75 % of limitPerSecond",
            lambda it: it.burst is None or _burst_suffices(it.burst, it.limit_per_second),
        ),
        Rule(
            "!has(self.shared) || self.shared.guaranteedPerSecond <= self.limitPerSecond",
            "shared.guaranteedPerSecond may not exceed limitPerSecond",
            lambda it: it.shared is None or it.shared.guaranteed_per_second <= it.limit_per_second,
        ),
    )


def _burst_suffices(burst: int, limit: float) -> bool:
    return min(burst - 1, burst - burst // 5) >= _BURST_SHARE * limit


class Replicas(Part):
    """How many workers there may be."""

    min: _Count = 1
    """Fewest workers. 0 ends the last one when nothing waits; the first message then waits for a pod to start."""

    max: _Number = 20
    """Most workers: what the cluster and the connections of the database bear. It is no rate limit,
    `throughput.limitPerSecond` is."""

    activation: _Number = 1
    """From none, at least so many at once, as far as the limit per second has use for them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.min <= self.max", "min may not exceed max", lambda it: it.min <= it.max),
        Rule(
            "self.activation <= self.max",
            "activation may not exceed max",
            lambda it: it.activation <= it.max,
        ),
    )


class _Steps(Part):
    pods: _Number | None = None
    """Most pods in this direction within any `period`. Absent: no limit. Needs `period`."""

    period: Annotated[float, Duration("1s", "1h")] | None = None
    """The stretch of time that `pods` counts in: a duration from 1s to 1h. Needs `pods`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.pods) == has(self.period)",
            "pods and period belong together: give both or neither",
            lambda it: (it.pods is None) == (it.period is None),
        ),
    )


class ScaleUp(_Steps):
    """How fast workers are added. Without a limit: at once, as many as the limit per second calls for."""

    reverse_ineffective: bool = True
    """Take workers back that brought no throughput, and try no others for a while."""


class ScaleDown(_Steps):
    """How fast workers are given back."""

    stabilization: Annotated[float, Duration("0s", "1h")] = 60.0
    """A worker is given back when it was not needed for this long, a duration from 0s to 1h: bursts come in waves."""


class Behavior(Part):
    """How fast the number of workers moves. `replicas.min` and `replicas.max` go before these."""

    scale_up: ScaleUp = ScaleUp()
    """Limits the way up."""

    scale_down: ScaleDown = ScaleDown()
    """Delays and limits the way down."""

    excluded_periods: list[ExcludedPeriod] | None = Field(default=None, max_length=MOST_PERIODS)
    """Times of the week in which nobody is started or ended, such as those of a backup. The rate goes on. Absent:
    none."""


class Fallback(Part):
    """What to do while the lag is unknown: NATS away, the consumer missing."""

    after: Annotated[float, Duration("1s", "1h")] = 30.0
    """For this long, a duration from 1s to 1h, the number of workers is held, whatever the policy."""

    policy: Literal["Hold", "Floor", "Fixed"] = "Hold"
    """Then: Hold keeps the number, Floor sees to at least `replicas` workers, Fixed to exactly `replicas`."""

    replicas: _Count | None = None
    """Number of workers of the policies Floor and Fixed, within `spec.replicas`. Absent with Hold."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.replicas) == (self.policy != 'Hold')",
            "replicas is required with the policies Floor and Fixed, and has no meaning with Hold",
            lambda it: (it.replicas is None) == (it.policy == "Hold"),
        ),
    )


class WorkerPoolSpec(Part):
    """What is wished for: a workload, the consumer that it works on, and the rate of all its workers together."""

    workload: Workload
    """The workers: what is scaled."""

    source: Source
    """Where the work waits."""

    throughput: Throughput
    """How fast the pool works, all workers together."""

    replicas: Replicas = Replicas()
    """How many workers there may be."""

    behavior: Behavior = Behavior()
    """How fast the number of workers moves."""

    fallback: Fallback = Fallback()
    """What to do while the lag is unknown."""

    mode: Literal["Enforce", "Advise"] = "Enforce"
    """Enforce acts. Advise decides and says so here and in Events, and touches neither the workload nor the rate."""

    paused: bool = False
    """Stops the work: no message is started, the number of workers is held so that going on is immediate. To stop
    only the scaling, annotate the resource with peakclip.dev/paused: "true"."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.fallback.replicas) || (self.fallback.replicas >= self.replicas.min"
            " && self.fallback.replicas <= self.replicas.max)",
            "fallback.replicas must be within replicas.min and replicas.max",
            lambda it: (
                it.fallback.replicas is None or it.replicas.min <= it.fallback.replicas <= it.replicas.max
            ),
        ),
    )


class InvalidSpecError(ValueError):
    """The spec breaks a rule."""


def read_spec(spec: object) -> WorkerPoolSpec:
    """Raises InvalidSpecError with one sentence per mistake. The API server refuses the same, so this is seen only
    where an older definition is installed."""
    try:
        return WorkerPoolSpec.model_validate(spec)
    except pydantic.ValidationError as exc:
        raise InvalidSpecError(" ".join(_sentence(one) for one in exc.errors())) from exc


def _sentence(mistake: object) -> str:
    error = mistake if isinstance(mistake, dict) else {}
    path = ".".join(["spec", *(str(part) for part in error.get("loc", ()))])
    return f"{path}: {str(error.get('msg', '')).removeprefix('Value error, ')}."
