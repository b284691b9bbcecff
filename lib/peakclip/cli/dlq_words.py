"""Dead letters as text for people and as objects for machines."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from peakclip.dead_letters import CannotRedriveError, Letter, redriven, what_is_lost

PAYLOAD_LINES: Final = 64
LEAST_CAUSE: Final = 40  # characters, however little room the others leave
_HEX_COLUMNS: Final = 16


def one_line(text: str) -> str:
    """What came from outside moves no cursor and colours no terminal.

    >>> one_line("a\\x1b[31m\\nb")
    'a?[31m?b'
    """
    return "".join("?" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)


def age(seconds: float) -> str:
    """The largest unit that fits: `4 s`, `7 min`, `3 h`, `12 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def table(letters: Sequence[Letter], now: datetime, width: int) -> list[str]:
    """A line a letter. Ids are never cut, since they are what the other commands want; the cause is."""
    rows = [("ID", "POOL", "ATTEMPTS", "AGE", "SUBJECT", "CAUSE")]
    for one in letters:
        since = age((now - one.at).total_seconds())
        rows.append((one.message_id, one.pool, str(one.attempts), since, one.subject, one.cause))
    rows = [tuple(one_line(cell) for cell in row) for row in rows]  # type: ignore[misc]
    sizes = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(sizes[0]),
            row[1].ljust(sizes[1]),
            row[2].rjust(sizes[2]),
            row[3].rjust(sizes[3]),
        ]
        line = "  ".join([*cells, row[4].ljust(sizes[4]), ""])
        lines.append((line + row[5][: max(LEAST_CAUSE, width - len(line))]).rstrip())
    return lines


def shown(letter: Letter, now: datetime) -> list[str]:
    """Everything about one letter."""
    headers = [one_line(f"{key}: {value}") for key, value in sorted(letter.headers.items())]
    died = f"{letter.at.isoformat(timespec='seconds')} ({age((now - letter.at).total_seconds())} ago)"
    kind, payload = _payload(letter.payload)
    left = len(payload) - PAYLOAD_LINES
    return [
        one_line(letter.message_id),
        f"  pool      {one_line(letter.pool)}",
        f"  subject   {one_line(letter.subject)}",
        f"  died      {died}, attempts: {letter.attempts}",
        f"  cause     {one_line(letter.cause)}",
        *(f"  {'headers' if number == 0 else '':<8}  {line}" for number, line in enumerate(headers)),
        f"  payload   {len(letter.payload):,} bytes, {kind}",
        *(f"    {line}" for line in payload[:PAYLOAD_LINES]),
        *([f"    … and {left:,} lines more (all with --json)"] if left > 0 else []),
        f"  redrive   {_redrive(letter)}",
        f"  drop      loses {one_line(what_is_lost(letter))}",
    ]


def _redrive(letter: Letter) -> str:
    if letter.is_delivery:
        return "makes the delivery due now, with all its attempts"
    try:
        return f"begins anew on {one_line(redriven(letter).subject)}"
    except CannotRedriveError as exc:
        return f"not possible: {exc}"


def _payload(body: bytes) -> tuple[str, list[str]]:
    """JSON, or JSON line by line as in a frame, or bytes."""
    try:
        values = msgspec.json.Decoder().decode_lines(body)
        pretty = [msgspec.json.format(msgspec.json.encode(value), indent=2).decode() for value in values]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "not JSON", _hex_dump(body)
    kind = "JSON" if len(values) == 1 else f"JSON in {len(values)} lines"
    return kind, [one_line(line) for text in pretty for line in text.splitlines()]


def _hex_dump(body: bytes) -> list[str]:
    lines = []
    for first in range(0, len(body), _HEX_COLUMNS):
        part = body[first : first + _HEX_COLUMNS]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{first:08x}  {part.hex(' '):<{_HEX_COLUMNS * 3 - 1}}  {text}")
    return lines


def listed(letter: Letter) -> dict[str, Any]:
    """For machines, without the message."""
    return {
        "message_id": letter.message_id,
        "pool": letter.pool,
        "subject": letter.subject,
        "attempts": letter.attempts,
        "cause": letter.cause,
        "at": letter.at.isoformat(),
    }


def as_object(letter: Letter) -> Mapping[str, Any]:
    """For machines, all of it: `payload` as text, or `payload_base64` where it is none."""
    try:
        payload = {"payload": letter.payload.decode()}
    except UnicodeDecodeError:
        payload = {"payload_base64": base64.b64encode(letter.payload).decode()}
    return {**listed(letter), "headers": letter.headers, **payload, "lost_if_dropped": what_is_lost(letter)}
