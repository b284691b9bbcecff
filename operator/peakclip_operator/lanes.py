"""Groups of pools that share one R: looks at all lanes of a group, and tells each its share.

The share stands in the lane's pace, where it bounds whatever its own control loop, a person or a resume makes of the
rate. So the loops need not know of each other, and a group that nobody looks after stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from peakclip import topology
from peakclip.errors import RefusedError
from peakclip.jetstream import WRONG_LAST_SEQUENCE, JetStream
from peakclip.limiter.pace import Share, read_pace, set_share
from peakclip_operator.ledger import Entry, Found, Ledger, committed, members, promises, writes
from peakclip_operator.loop import ControlLoop
from peakclip_operator.plan.lanes import Lane, LanesMemory, share
from peakclip_operator.resource.model import WorkerPoolSpec
from peakclip_operator.resource.sharing import Sharing
from peakclip_operator.resource.wish import group_of

log = structlog.get_logger()

TICK_SECONDS: Final = 0.5
SOON_SECONDS: Final = (
    0.35  # after somebody was told less: then it is in force before anything that is written
)
_PATIENCE_SECONDS: Final = 2.0
_UNKNOWN_SECONDS: Final = 5.0  # a demand that is unknown for less is what it was
_GONE_SECONDS: Final = 10.0  # who was not there for less is only late, as all are when an operator begins
_FRESH_SECONDS: Final = 5.0  # what a loop said longer ago is not known any more
_BACKLOG_SECONDS: Final = 1.0  # more than this much work at the present rate is a backlog

_decoder = msgspec.json.Decoder(Ledger)


@dataclass(frozen=True, slots=True)
class Demand:
    per_second: float | None
    """None: unknown."""
    backlog: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A pool of a group, as it wishes to be. Rates are messages per second."""

    pool: str
    group: str
    group_limit: float
    limit: float | None
    """Of its own; None: the one that is set, whoever set it."""
    priority: int = 0
    weight: int = 1
    guarantee: float = 0.0


def member_of(spec: WorkerPoolSpec, namespace: str) -> Member | None:
    """None for a pool that shares with nobody."""
    shared, group = spec.throughput.shared, group_of(spec, namespace)
    if shared is None or group is None:
        return None
    return Member(
        pool=spec.source.consumer,
        group=group,
        group_limit=shared.limit_per_second,
        limit=spec.throughput.limit_per_second,
        priority=shared.priority,
        weight=shared.weight,
        guarantee=shared.guaranteed_per_second,
    )


def demand_of(loop: ControlLoop) -> Demand:
    """What the loop's last decision says that the pool could use. One of a loop that stands still says nothing."""
    decision, status = loop.decision, loop.status
    if decision is None or status is None or not loop.spoke_within(_FRESH_SECONDS):
        return Demand(None)
    if loop.spec.paused:
        return Demand(0.0)
    if status.lag_ready is None or status.lag_in_flight is None:
        return Demand(None)
    lag = status.lag_ready + status.lag_in_flight
    backlog = lag > max(1.0, status.effective_per_second * _BACKLOG_SECONDS)
    return Demand(decision.inputs.get("demand_per_second"), backlog)


@dataclass(slots=True)
class _Known:
    """What was last known of a member's demand. At first it is what the lane has: a restart moves nothing."""

    at: float
    demand: Demand | None = None

    def now(self, demand: Demand, given: float, now: float) -> Demand:
        if demand.per_second is not None:
            self.at, self.demand = now, demand
            return demand
        return (self.demand or Demand(given)) if now - self.at < _UNKNOWN_SECONDS else demand


@dataclass(slots=True)
class Group:
    """One group. `tick` is all that it does."""

    name: str
    memory: LanesMemory = field(default_factory=LanesMemory)
    shares: Mapping[str, float] = field(default_factory=dict)
    """As they were told last."""
    known: dict[str, _Known] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    """Who is in the group by its pace and was not here when looked for, since when."""

    async def tick(
        self,
        js: JetStream,
        there: Mapping[str, tuple[Member, Demand]],
        now: float,
        *,
        may_write: Callable[[], bool] = lambda: True,
    ) -> bool:
        """True if somebody was told less: look again soon. `now` in seconds on any clock that does not jump.

        Raises PeakclipError when NATS does not answer; then nothing that was not written is in force, and the next
        tick looks again.
        """
        # This first: what is in force is only less at any later moment, unless somebody writes.
        server_now = (await js.stream_state(topology.TICKETS)).server_time
        entry = await self._ledger(js)
        lanes = await self._found(js, members(entry, there))
        limit = min(
            (member.group_limit for member, _ in there.values()), default=entry.ledger.limit_per_second
        )
        wishes = [self._lane(one, there.get(one.pool), entry, server_now, now) for one in lanes]
        told, self.memory = share(limit, wishes, self.memory, now)
        self.known = {pool: known for pool, known in self.known.items() if pool in there}
        self.gone = {pool: since for pool, since in self.gone.items() if pool not in there}
        if may_write():
            await self._write(js, limit, lanes, told, entry)
        self.shares = told
        return any(told[one.pool] < one.given for one in lanes)

    async def _ledger(self, js: JetStream) -> Entry:
        found = await js.last_message(f"KV_{topology.PACE}", f"$KV.{topology.PACE}.{self._key}")
        if found is None or found.headers.get("KV-Operation"):
            return Entry(Ledger(0.0, {}), found.seq if found else 0)
        return Entry(_decoder.decode(found.payload), found.seq)

    async def _found(self, js: JetStream, pools: list[str]) -> list[Found]:
        """A pool whose pace is not of this group has not joined yet, or has left."""
        paces = await asyncio.gather(*(read_pace(js, pool) for pool in pools))
        return [
            Found(pool, found[0], found[1])
            for pool, found in zip(pools, paces, strict=True)
            if found and found[0].share and found[0].share.group == self.name
        ]

    def _lane(
        self,
        found: Found,
        there: tuple[Member, Demand] | None,
        entry: Entry,
        server_now: float,
        now: float,
    ) -> Lane:
        most = committed(found, entry, server_now)
        if there is None:
            # Nobody may have stopped its workers: it is held to what it has, and gives that up to those who are here.
            late = now - self.gone.setdefault(found.pool, now) < _GONE_SECONDS
            kept = found.given if late else 0.0
            return Lane(
                found.pool,
                found.given,
                priority=-(1 << 31),
                guarantee=kept,
                demand=kept,
                given=found.given,
                committed=most,
            )
        member, said = there
        known = self.known.setdefault(found.pool, _Known(now))
        demand = known.now(said, found.given, now)
        return Lane(
            name=found.pool,
            limit=found.pace.limit_per_second if member.limit is None else member.limit,
            priority=member.priority,
            weight=member.weight,
            guarantee=member.guarantee,
            demand=demand.per_second,
            backlog=demand.backlog,
            given=found.given,
            committed=most,
        )

    async def _write(
        self, js: JetStream, limit: float, lanes: list[Found], told: Mapping[str, float], entry: Entry
    ) -> None:
        wanted = writes(lanes, told, entry)
        lowered = {one.pool for one, rate in wanted.lower if await self._tell(js, one, rate)}
        if not wanted.upper:
            return
        try:
            body = msgspec.json.encode(promises(limit, lanes, told, entry, lowered))
            await js.kv_put(topology.PACE, self._key, body, revision=entry.revision)
        except RefusedError as exc:
            if exc.code != WRONG_LAST_SEQUENCE:
                raise
            log.warning("shared_by_two", group=self.name)  # another operator looks after the same group
            return
        for one, rate in wanted.upper:
            await self._tell(js, one, rate)

    async def _tell(self, js: JetStream, found: Found, rate: float) -> bool:
        """False when the loop or a person was faster: the next tick looks again."""
        try:
            await set_share(js, found.pool, found.pace, found.revision, Share(self.name, rate))
        except RefusedError as exc:
            if exc.code != WRONG_LAST_SEQUENCE:
                raise
            return False
        log.info("share_told", group=self.name, pool=found.pool, before=found.given, per_second=rate)
        return True

    @property
    def _key(self) -> str:
        return f"shared.{self.name}"


class SharedRates:
    """All groups of an operator. Pools join and leave; a pool of no group joins none."""

    def __init__(self) -> None:
        self._members: dict[Hashable, tuple[Member, Callable[[], Demand]]] = {}
        self._groups: dict[str, Group] = {}
        self._failing: set[str] = set()

    def join(self, key: Hashable, member: Member | None, demand: Callable[[], Demand]) -> None:
        """Again at any time, with another wish. None: it is in no group any more."""
        self._members.pop(key, None)
        if member is not None:
            self._members[key] = (member, demand)

    def leave(self, key: Hashable) -> None:
        self._members.pop(key, None)

    def facts(self, key: Hashable) -> Sharing | None:
        """None for a pool of no group."""
        if key not in self._members:
            return None
        mine, _ = self._members[key]
        all_ = [member for member, _ in self._members.values() if member.group == mine.group]
        limits = {member.group_limit for member in all_}
        known = self._groups.get(mine.group)
        return Sharing(
            limit=min(limits),
            limits_differ=len(limits) > 1,
            guaranteed=sum(member.guarantee for member in all_),
            pools=tuple(sorted(member.pool for member in all_)),
            share=known.shares.get(mine.pool) if known else None,
        )

    async def run(
        self, connected: Callable[[], JetStream | None], may_write: Callable[[], bool] = lambda: True
    ) -> None:
        """Until it is cancelled. What fails in one group keeps no other from its work."""
        clock = asyncio.get_running_loop().time
        while True:
            begin, soon = clock(), False
            if (js := connected()) is not None:
                for name in sorted({member.group for member, _ in self._members.values()}):
                    soon |= await self._tick(js, name, clock(), may_write)
            pause = SOON_SECONDS if soon else TICK_SECONDS - (clock() - begin)
            await asyncio.sleep(max(0.0, pause))

    async def _tick(self, js: JetStream, name: str, now: float, may_write: Callable[[], bool]) -> bool:
        there = {m.pool: (m, demand()) for m, demand in self._members.values() if m.group == name}
        group = self._groups.setdefault(name, Group(name))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                soon = await group.tick(js, there, now, may_write=may_write)
        except Exception as exc:  # noqa: BLE001 - logged; the shares stay as they are, and the next tick tries again
            if name not in self._failing:
                log.warning("shared_failing", group=name, error=repr(exc))
            self._failing.add(name)
            return False
        if name in self._failing:
            self._failing.discard(name)
            log.info("shared_back", group=name)
        return soon
