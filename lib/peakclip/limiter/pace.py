"""The rate of a pool as all workers agree on it: steps in the key-value bucket PACE, key = pool.

`limit_per_second` is what the people who run the system asked for. The steps hold the effective rate, which
a controller may lower below the limit, and which is 0 while the pool is paused. A change never rewrites the
past: it adds a step at a fence ahead, far enough that every worker has either seen it by then or has
stopped, because its last look is too old. So two rates are never in force at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

import msgspec

from peakclip import topology
from peakclip.errors import (
    OutcomeUnknownError,
    PeakclipError,
    RefusedError,
    SettingsError,
    UnavailableError,
)
from peakclip.jetstream import STREAM_NOT_FOUND, WRONG_LAST_SEQUENCE, JetStream
from peakclip.limiter import grid
from peakclip.streams import ensure_tickets

STALE_SECONDS: Final = 1.0  # a worker whose last look at the pace is older starts nothing
FENCE_SECONDS: Final = 1.3  # from writing a change to its being in force
_SETTLE_SECONDS: Final = 1.2  # from the server storing it, at least; above STALE_SECONDS
_KEEP_SECONDS: Final = 5.0  # a step that has been out of force for so long is forgotten
_ABSURD_SECONDS: Final = 60.0  # a step so far ahead was written before the server's clock was set back
_ATTEMPTS: Final = 20


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """From this moment on, this rate."""

    from_time: float  # epoch seconds, the server's clock
    rate_per_second: float  # 0: nothing starts
    burst: int | None = None  # the burst in force with it; None: that of the pace


class Share(msgspec.Struct, frozen=True):
    """What a pool may have of the rate that it shares with others: no change makes the effective rate larger."""

    group: str
    per_second: float  # 0: nothing starts


class Pace(msgspec.Struct, frozen=True, omit_defaults=True):
    limit_per_second: float
    burst: int  # starts above the rate that any sliding second may hold
    paused: bool
    steps: tuple[Step, ...]  # ascending; the last one is the newest word
    share: Share | None = None  # None: the limit is the pool's own

    @property
    def effective_per_second(self) -> float:
        """The rate that is in force or will be at the fence; 0 while paused."""
        return self.steps[-1].rate_per_second if self.steps else 0.0

    @property
    def most_per_second(self) -> float:
        """The highest rate that the next change may bring: the limit, and no more than the share."""
        return (
            self.limit_per_second if self.share is None else min(self.limit_per_second, self.share.per_second)
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time with one rate."""

    from_time: float
    until: float  # exclusive; infinity for the last
    rate: int  # milli-orders per second
    burst: int


@dataclass(frozen=True, slots=True)
class Change:
    """What to change; None leaves it as it is. Raises SettingsError for nonsense."""

    limit_per_second: float | None = None
    effective_per_second: float | None = None
    burst: int | None = None
    paused: bool | None = None
    share: Share | None = None
    alone: bool = False
    """The pool shares its rate with nobody any more."""
    again: bool = False
    """Writes even if there is nothing to change: a write of somebody else that is on its way then comes to nothing."""

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share.per_second <= grid.GREATEST_RATE:
            raise SettingsError(f"A share is 0 to {grid.GREATEST_RATE:,.0f} per second.")
        for rate in (self.limit_per_second, self.effective_per_second):
            if rate is not None and not grid.LEAST_RATE <= rate <= grid.GREATEST_RATE:
                raise SettingsError(
                    f"A rate is {grid.LEAST_RATE:g} to {grid.GREATEST_RATE:,.0f} per second, not {rate:g}."
                )
        if self.burst is not None and self.limit_per_second is not None:
            _refuse_small_burst(self.limit_per_second, self.burst)


def _refuse_small_burst(limit: float, burst: int) -> None:
    least = grid.least_burst(limit)
    if burst < least:
        raise SettingsError(
            f"At {limit:g}/s the burst is at least {least}, not {burst}: starts can be milliseconds late."
        )


def segments(pace: Pace) -> tuple[Segment, ...]:
    """The schedule as stretches without gaps; before the first nothing may start."""
    ends = [step.from_time for step in pace.steps[1:]] + [inf]
    return tuple(
        Segment(
            step.from_time,
            end,
            grid.rate_milli(step.rate_per_second),
            pace.burst if step.burst is None else step.burst,
        )
        for step, end in zip(pace.steps, ends, strict=False)  # without a step there is no end either
        if step.from_time < end
    )


def segment_at(schedule: tuple[Segment, ...], time: float) -> Segment | None:
    """The stretch in force at a moment; None before the first."""
    return next((segment for segment in schedule if segment.from_time <= time < segment.until), None)


def most_from(pace: Pace, time: float) -> float:
    """The highest rate in force at this moment or later, as long as nobody changes anything."""
    return max((segment.rate / 1000 for segment in segments(pace) if segment.until > time), default=0.0)


def rate_at(pace: Pace, time: float) -> float | None:
    """Orders per second in force at a moment; None where nothing was ever said."""
    segment = segment_at(segments(pace), time)
    return None if segment is None else segment.rate / 1000


def appended(steps: tuple[Step, ...], rate_per_second: float, burst: int, now: float) -> tuple[Step, ...]:
    """The steps with a new one at the fence, old ones compacted. The very first step needs no fence."""
    if not steps:
        return (Step(round(now, 3), rate_per_second, burst),)
    sane = [step for step in steps if step.from_time < now + _ABSURD_SECONDS]
    fence = max([round(now + FENCE_SECONDS, 3)] + [step.from_time for step in sane])
    return (*compacted(tuple(sane), now), Step(fence, rate_per_second, burst))


def compacted(steps: tuple[Step, ...], now: float) -> tuple[Step, ...]:
    """Without the steps that have been out of force for `_KEEP_SECONDS`; the one in force always stays."""
    past = [number for number, step in enumerate(steps) if step.from_time <= now - _KEEP_SECONDS]
    return steps[past[-1] :] if past else steps


def settled(pace: Pace, stored_at: float) -> Pace:
    """The pace with its newest step no sooner than `_SETTLE_SECONDS` after the server stored it.

    The writer chose the fence by the time before it wrote. Had its write been held up (a starved process, a
    slow disk), workers that looked just before would still start at the old rate when others start at the
    new one. The server's own time stamp is the same for every reader, so all of them move the fence alike.
    """
    if len(pace.steps) < 2:
        return pace
    last = pace.steps[-1]
    earliest = round(stored_at + _SETTLE_SECONDS, 3)
    if last.from_time >= earliest:
        return pace
    return msgspec.structs.replace(
        pace, steps=(*pace.steps[:-1], msgspec.structs.replace(last, from_time=earliest))
    )


def changed(pace: Pace | None, change: Change, now: float) -> Pace:
    """The pace after the change: the same object if there is nothing to change. Raises SettingsError.

    A new limit is in force as it stands, whatever the controller had lowered it to; so is the limit after a
    pause; but never more than the share. A new limit brings its default burst unless one is given. Every write
    adds a step, also when the rate stays: `settled` takes the last step for the one that was written last.
    """
    if pace is None and change.limit_per_second is None:
        raise SettingsError("The pool has no rate yet: set one first.")
    old = pace or Pace(0.0, 0, False, ())
    limit = old.limit_per_second if change.limit_per_second is None else change.limit_per_second
    if change.burst is not None:
        burst = change.burst
    else:
        burst = old.burst if limit == old.limit_per_second else grid.default_burst(limit)
    paused = old.paused if change.paused is None else change.paused
    _refuse_small_burst(limit, burst)
    share = None if change.alone else change.share or old.share
    most = limit if share is None else min(limit, share.per_second)
    rate = 0.0 if paused else _effective(old, change, most)
    if pace is not None and pace.steps and not change.again:
        last = pace.steps[-1]
        same = (limit, burst, paused, share, rate, burst) == (
            *(pace.limit_per_second, pace.burst, pace.paused, pace.share),
            *(last.rate_per_second, last.burst),
        )
        if same:
            return pace
    return Pace(limit, burst, paused, appended(old.steps, rate, burst, now), share)


def _effective(old: Pace, change: Change, most: float) -> float:
    if change.effective_per_second is not None:
        return min(most, change.effective_per_second)
    bound = (change.share is not None or change.alone) and old.effective_per_second >= old.most_per_second
    if change.limit_per_second is not None or old.paused or bound:
        return most
    return min(most, old.effective_per_second)


_decoder = msgspec.json.Decoder(Pace)


async def read_pace(js: JetStream, pool: str) -> tuple[Pace, int] | None:
    """The pace and its revision; None if none was ever set.

    Raises RefusedError if the bucket is missing, msgspec.DecodeError if it holds something else, and what a
    request raises. Reads the message and not just its value, since the time it was stored counts
    (`settled`).
    """
    found = await js.last_message(f"KV_{topology.PACE}", f"$KV.{topology.PACE}.{pool}")
    if found is None or found.headers.get("KV-Operation"):
        return None
    return settled(_decoder.decode(found.payload), found.at), found.seq


async def set_pace(
    js: JetStream,
    pool: str,
    *,
    limit_per_second: float | None = None,
    effective_per_second: float | None = None,
    burst: int | None = None,
    paused: bool | None = None,
    share: Share | None = None,
    alone: bool = False,
) -> Pace:
    """Changes the pace by compare-and-set and returns it, in force FENCE_SECONDS from now.

    Says nothing new, writes nothing: safe to repeat, and to call on every tick. Raises SettingsError for
    nonsense.
    """
    change = Change(limit_per_second, effective_per_second, burst, paused, share, alone)
    looked_for_tickets = False
    for _ in range(_ATTEMPTS):
        try:
            return await _set_once(js, pool, change)
        except OutcomeUnknownError:
            continue  # read again: if it was written, there is nothing left to change
        except RefusedError as exc:
            if exc.code == STREAM_NOT_FOUND:
                if looked_for_tickets:
                    raise UnavailableError(
                        "There are no streams yet: `peakclip migrate` makes them."
                    ) from exc
                looked_for_tickets = True
                await ensure_tickets(js)
            elif exc.code != WRONG_LAST_SEQUENCE:
                raise
    raise PeakclipError(f"The pace of {pool} could not be written: others keep changing it, or NATS is slow.")


async def _set_once(js: JetStream, pool: str, change: Change) -> Pace:
    # The tickets' leader, since it is the clock that starts go by.
    now = (await js.stream_state(topology.TICKETS)).server_time
    found = await read_pace(js, pool)
    pace, revision = found or (None, 0)
    wanted = changed(pace, change, now)
    if wanted is not pace:
        await js.kv_put(topology.PACE, pool, msgspec.json.encode(wanted), revision=revision)
    return wanted


async def set_share(js: JetStream, pool: str, pace: Pace, revision: int, share: Share) -> Pace:
    """Once: RefusedError(WRONG_LAST_SEQUENCE) if `pace` is not the newest any more. Writes whatever was there, so that
    every other write that began from this revision comes to nothing."""
    now = (await js.stream_state(topology.TICKETS)).server_time
    wanted = changed(pace, Change(share=share, again=True), now)
    await js.kv_put(topology.PACE, pool, msgspec.json.encode(wanted), revision=revision)
    return wanted
