"""What streams held, taken apart by chapters: read once, and kept in files when the streams forget it.

A message that is written twice, because whoever wrote it died before it noted how far it was, is read once.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from faults.history.facts import Event, Queued
from faults.history.fetch import event_of, is_first_attempt, queued_of
from faults.soak.chapter import chapter_of

from peakclip import topology
from peakclip.audit.fetch import read_stream
from peakclip.jetstream import JetStream, StoredMessage
from peakclip.messages import decode_order

T = TypeVar("T", Event, Queued)

NOBODY: Final = "nobody"  # the chapter of what is in none
_EVENTS, _LINE = "events.jsonl", "line.jsonl"


class _Customer(msgspec.Struct):
    customer_id: str = ""


class Position(msgspec.Struct, frozen=True):
    """Up to which message everything has been read."""

    events: int = 0
    line: int = 0
    complete: bool = True  # nothing had been purged before it was read


_customer: Final = msgspec.json.Decoder(_Customer).decode
_encoder: Final = msgspec.json.Encoder()


def position(folder: Path) -> Position:
    try:
        return msgspec.json.decode((folder / "position.json").read_bytes(), type=Position)
    except FileNotFoundError:
        return Position()


async def take(js: JetStream, folder: Path) -> Position:
    """All that has come since. Raises PeakclipError if NATS is away meanwhile: then it is as it was."""
    before = position(folder)

    def event(message: StoredMessage) -> tuple[str, Event] | None:
        if message.subject == topology.retry_subject(topology.EFFECTS_POOL):
            return None  # another attempt of Peakclip's own
        return _customer(message.payload).customer_id, event_of(message)

    def order(message: StoredMessage) -> tuple[str, Queued] | None:
        if not is_first_attempt(message):
            return None
        return decode_order(message.payload).customer_id, queued_of(message)

    events = await _read(js, topology.EVENTS, before.events, event)
    line = await _read(js, topology.SECKILL, before.line, order)
    for (_, _, found), name in ((events, _EVENTS), (line, _LINE)):
        for chapter, messages in found.items():
            here = folder / chapter
            here.mkdir(exist_ok=True)
            with (here / name).open("ab") as file:
                file.write(_encoder.encode_lines(messages))
    after = Position(events[0], line[0], before.complete and events[1] and line[1])
    unseen = folder / f"position-{os.getpid()}.json"
    unseen.write_bytes(_encoder.encode(after))
    os.replace(unseen, folder / "position.json")
    return after


async def _read(
    js: JetStream, stream: str, after: int, read: Callable[[StoredMessage], tuple[str, Any] | None]
) -> tuple[int, bool, dict[str, list[Any]]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    complete, expected = True, after + 1

    def note(message: StoredMessage) -> None:
        nonlocal complete, expected
        complete, expected = complete and message.seq == expected, message.seq + 1
        if (one := read(message)) is not None:
            found[chapter_of(one[0]) or NOBODY].append(one[1])

    last = await read_stream(js, stream, ">", after + 1, note)
    return max(last, after), complete and max(last, after) == expected - 1, found


def events_of(chapter: Path) -> tuple[Event, ...]:
    return _ordered(chapter / _EVENTS, Event)


def line_of(chapter: Path) -> tuple[Queued, ...]:
    return _ordered(chapter / _LINE, Queued)


def _ordered(path: Path, kind: type[T]) -> tuple[T, ...]:
    """In the order of the stream, each message once."""
    if not path.exists():
        return ()
    found = {one.seq: one for one in msgspec.json.Decoder(kind).decode_lines(path.read_bytes())}
    return tuple(found[seq] for seq in sorted(found))
