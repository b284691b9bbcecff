"""What a pool's decisions rest on, kept in the key-value bucket MEMORY: the next controller goes on from there.

One key per pool, its newest value only. Made of the dataclasses of the plan as they are, and read leniently: what
another version has added is passed over, and what it has not, or has in another form, has its default. Times are epoch
seconds, so they stay right; what is older than its window is dropped by the plan itself.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
import structlog

from peakclip import topology
from peakclip.errors import ForbiddenError, PeakclipError, RefusedError
from peakclip.jetstream import STREAM_NOT_FOUND, JetStream
from peakclip_operator.plan import Memory

log = structlog.get_logger()

VERSION: Final = 1  # another one is not read: raise it when a field gets another meaning
LONGEST_SECONDS: Final = 900.0  # nothing in a memory is about a longer time

_T = TypeVar("_T")


class UnusableMemoryError(PeakclipError):
    """A memory that is no use to this controller."""


class Record(msgspec.Struct, frozen=True):
    """What is stored."""

    version: int
    at: float  # epoch seconds
    of: str  # whose workers and whose messages: those of others say nothing of these
    memory: msgspec.Raw


def encode(memory: Memory, of: str, now: float) -> bytes:
    """Raises PeakclipError for what the bucket would not take."""
    body = msgspec.json.encode(Record(VERSION, now, of, msgspec.Raw(msgspec.json.encode(memory))))
    if len(body) > topology.MOST_MEMORY_BYTES:
        raise PeakclipError(f"The memory has {len(body):,} bytes, more than {topology.MOST_MEMORY_BYTES:,}.")
    return body


def decode(body: bytes, of: str, now: float) -> tuple[Memory, float]:
    """The memory and its age in seconds. Raises UnusableMemoryError with a sentence."""
    try:
        record = msgspec.json.decode(body, type=Record)
        found = msgspec.json.decode(record.memory)
    except msgspec.MsgspecError as exc:
        raise UnusableMemoryError(f"It cannot be read: {exc}") from exc
    if record.version != VERSION:
        raise UnusableMemoryError(f"It was written by another version ({record.version}, not {VERSION}).")
    if record.of != of:
        raise UnusableMemoryError(f"It is of {record.of}, not of {of}.")
    age = now - record.at
    if abs(age) > LONGEST_SECONDS:
        raise UnusableMemoryError(f"It is {age:.0f} s old, and of no use after {LONGEST_SECONDS:.0f} s.")
    try:
        return lenient(Memory, found), age
    except msgspec.ValidationError as exc:
        raise UnusableMemoryError(f"It cannot be read: {exc}") from exc


def lenient(kind: type[_T], found: object) -> _T:
    """A dataclass from what was decoded: a field that cannot be read has its default, at any depth of dataclasses.

    Raises msgspec.ValidationError where a field without a default cannot be read.
    """
    if not isinstance(found, dict):
        raise msgspec.ValidationError(f"no object for {kind.__name__}")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in found:
            continue
        try:
            values[field.name] = _read(hints[field.name], found[field.name])
        except (msgspec.ValidationError, ValueError, TypeError) as exc:
            log.warning("memory_field_unreadable", kind=kind.__name__, field=field.name, error=str(exc))
    try:
        return kind(**values)
    except TypeError as exc:
        raise msgspec.ValidationError(str(exc)) from exc


def _read(hint: Any, found: object) -> Any:
    """Of a field: a dataclass, possibly with None beside it, or whatever msgspec can read as a whole."""
    kinds = [one for one in typing.get_args(hint) or (hint,) if dataclasses.is_dataclass(one)]
    if len(kinds) == 1 and found is not None and typing.get_origin(hint) not in (tuple, dict, list):
        return lenient(typing.cast("type[Any]", kinds[0]), found)
    return msgspec.convert(found, hint)


class NatsMemory:
    """A `MemoryStore` for one pool. `of` names its messages and its workers."""

    def __init__(
        self, js: JetStream, pool: str, of: str, *, may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._js = js
        self._pool = pool
        self._of = of
        self._may_write = may_write

    async def load(self, now: float) -> Memory | None:
        """Raises PeakclipError while NATS does not answer."""
        try:
            found = await self._js.kv_get(topology.MEMORY, self._pool)
        except RefusedError as exc:
            if exc.code != STREAM_NOT_FOUND and not isinstance(exc, ForbiddenError):
                raise
            log.warning("memory_not_kept", pool=self._pool, error=str(exc), made_by="peakclip migrate")
            return None
        if found is None:
            log.info("memory_begins", pool=self._pool)
            return None
        try:
            memory, age = decode(found[0], self._of, now)
        except UnusableMemoryError as exc:
            log.warning("memory_begins_anew", pool=self._pool, error=str(exc))
            return None
        log.info("memory_recalled", pool=self._pool, age_seconds=round(age, 1), replicas=memory.replicas)
        return memory

    async def save(self, memory: Memory, now: float) -> None:
        """Raises PeakclipError. One that may not write leaves it to the one that may."""
        if self._may_write():
            await self._js.kv_put(topology.MEMORY, self._pool, encode(memory, self._of, now))
