"""What clients asked for and what they were told: append-only, in the order in which it happened.

The position of an entry is the real-time order of a history, so a clock that jumps cannot forge one; `at` is there
to compare with clocks of others. One client process writes one history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from peakclip.errors import PeakclipError
from peakclip.messages import order_id as named_by


class HistoryError(PeakclipError):
    """This is not a history."""


class Kind(StrEnum):
    PURCHASE = "purchase"  # an order of a flash sale
    ORDER = "order"  # an ordinary order
    ACCEPT = "accept"
    START = "start"
    COMPLETE = "complete"
    CANCEL = "cancel"
    PAY = "pay"
    REVIEW = "review"
    REPLY = "reply"
    READ = "read"


_COME_AGAIN: Final = frozenset({408, 429})
PLACES: Final = frozenset({Kind.PURCHASE, Kind.ORDER})


class Invoked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="invoked"
):
    """An attempt begins. Attempts of the same kind, order and key are one operation."""

    attempt: int
    at: float
    kind: Kind
    order_id: str  # of a new order: what its key names
    key: str | None = None
    customer: str | None = None
    sale: str | None = None
    quantity: int = 1


class Ok(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="ok"):
    attempt: int
    at: float
    order_id: str  # as the answer names it
    status: str | None = None  # of the order, as the answer tells it
    review_id: str | None = None


class Refused(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="refused"
):
    """A definite no: this attempt has changed nothing, apart from a payment that lost and is given back."""

    attempt: int
    at: float
    problem: str
    refunded: bool = False
    asked: float = 0.0  # when it was sent, if that is known better than by `Invoked`


class Unknown(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="unknown"
):
    """No answer, or none that says what became of it: it may or may not have happened, or may still happen."""

    attempt: int
    at: float
    cause: str
    problem: str = ""  # what the last request was refused with, if one before it has no answer
    asked: float = 0.0  # when that one was sent


End: TypeAlias = Ok | Refused | Unknown
Entry: TypeAlias = Invoked | Ok | Refused | Unknown


class Refusal(NamedTuple):
    """A no to a single request, whatever became of those before it."""

    asked: float  # at the earliest
    at: float  # at the latest
    problem: str
    refunded: bool


def refusal(invoked: Invoked, end: End | None) -> Refusal | None:
    if isinstance(end, Refused):
        return Refusal(max(invoked.at, end.asked), end.at, end.problem, end.refunded)
    if isinstance(end, Unknown) and end.problem:
        return Refusal(max(invoked.at, end.asked), end.at, end.problem, False)
    return None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Entry)


@dataclass(slots=True)
class Operation:
    """What a client wanted once, however often it asked."""

    first: Invoked
    ends: list[End | None] = field(default_factory=list)  # one an attempt; None: never ended
    attempts: list[Invoked] = field(default_factory=list)

    @property
    def oks(self) -> list[Ok]:
        return [end for end in self.ends if isinstance(end, Ok)]

    @property
    def may_have_happened(self) -> bool:
        return not all(isinstance(end, Refused) for end in self.ends)

    @property
    def refusals(self) -> Iterator[Refusal]:
        for invoked, end in zip(self.attempts, self.ends, strict=True):
            if (no := refusal(invoked, end)) is not None:
                yield no

    @property
    def words(self) -> str:
        asked = self.first
        return f"{asked.kind} of {asked.order_id} (key {asked.key}): {', '.join(map(_said, self.ends))}"


def _said(end: End | None) -> str:
    match end:
        case None:
            return "never ended"
        case Ok():
            return f"ok {end.status or end.order_id} at {end.at:.3f}"
        case Refused():
            return f"refused {end.problem}{', refunded' if end.refunded else ''} at {end.at:.3f}"
        case Unknown():
            said = f", then {end.problem} to what was sent at {end.asked:.3f}" if end.problem else ""
            return f"unknown {end.cause}{said} at {end.at:.3f}"


class History:
    def __init__(self, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self._tenant = tenant
        self._clock = clock
        self._entries: list[Entry] = []
        self._open: set[int] = set()
        self._attempts = 0

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    def invoke(
        self, kind: Kind, *, order_id: str | None = None, key: str | None = None, customer: str | None = None,
        sale: str | None = None, quantity: int = 1, at: float | None = None,
    ) -> int:  # fmt: skip
        """The number of the attempt. A new order needs its key only, everything else the order's id."""
        if order_id is None:
            if key is None or kind not in PLACES:
                raise HistoryError(f"{kind} names neither an order nor a key that names one")
            order_id = named_by(self._tenant, key)
        self._attempts += 1
        self._take(
            Invoked(
                attempt=self._attempts, at=self._when(at), kind=kind, order_id=order_id, key=key,
                customer=customer, sale=sale, quantity=quantity,
            )
        )  # fmt: skip
        return self._attempts

    def ok(
        self, attempt: int, order_id: str, status: str | None = None, *, review_id: str | None = None,
        at: float | None = None,
    ) -> None:  # fmt: skip
        self._take(
            Ok(attempt=attempt, at=self._when(at), order_id=order_id, status=status, review_id=review_id)
        )

    def refused(
        self,
        attempt: int,
        problem: str,
        *,
        refunded: bool = False,
        at: float | None = None,
        asked: float = 0.0,
    ) -> None:
        self._take(
            Refused(attempt=attempt, at=self._when(at), problem=problem, refunded=refunded, asked=asked)
        )

    def unknown(
        self, attempt: int, cause: str, *, at: float | None = None, problem: str = "", asked: float = 0.0
    ) -> None:
        """`problem`: what the last request was refused with, which was sent at `asked`."""
        self._take(Unknown(attempt=attempt, at=self._when(at), cause=cause, problem=problem, asked=asked))

    def answered(
        self, attempt: int, status: int, body: Mapping[str, Any], *, at: float | None = None, asked: float = 0.0,
        again: bool = False,
    ) -> None:  # fmt: skip
        """As the API's answer says. Who is told to come again knows nothing yet.

        `again`: a request before this one has no answer. Then a no leaves open what became of that one, but for a
        payment: one that has lost stays lost.
        """
        if status in _COME_AGAIN or status >= 500:
            self.unknown(attempt, str(status), at=at)
            return
        if status < 300:
            self.ok(attempt, body["order_id"], body.get("status"), review_id=body.get("review_id"), at=at)
            return
        problem, refunded = str(body.get("type", status)).rpartition("/")[2], bool(body.get("refunded"))
        if again and not refunded:
            self.unknown(attempt, "refused when asked again", at=at, problem=problem, asked=asked)
        else:
            self.refused(attempt, problem, refunded=refunded, at=at, asked=asked)

    def _when(self, at: float | None) -> float:
        return self._clock() if at is None else at

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, Invoked):
            if entry.attempt in self._open or entry.attempt < self._attempts:
                raise HistoryError(f"attempt {entry.attempt} begins twice")
            self._attempts = entry.attempt
            self._open.add(entry.attempt)
        elif entry.attempt not in self._open:
            raise HistoryError(f"attempt {entry.attempt} ends and is not under way")
        else:
            self._open.remove(entry.attempt)
        self._entries.append(entry)

    def write(self, path: Path) -> None:
        path.write_bytes(_encoder.encode_lines(self._entries))

    @classmethod
    def read(cls, path: Path, tenant: str = "") -> History:
        """`tenant` is needed only to go on with it."""
        history = cls(tenant)
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                history._take(_decoder.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, HistoryError) as exc:
                raise HistoryError(f"{path}, line {number}: {exc}") from exc
        return history


def operations(entries: Iterable[Entry]) -> list[Operation]:
    """In the order in which they were first asked for. Each read is one of its own."""
    found: dict[tuple[object, ...], Operation] = {}
    place: dict[int, tuple[Operation, int]] = {}
    for entry in entries:
        if isinstance(entry, Invoked):
            one = entry.attempt if entry.kind is Kind.READ else entry.key
            operation = found.setdefault((entry.kind, entry.order_id, one), Operation(entry))
            place[entry.attempt] = operation, len(operation.ends)
            operation.ends.append(None)
            operation.attempts.append(entry)
        else:
            operation, number = place[entry.attempt]
            operation.ends[number] = entry
    return list(found.values())
