"""What a load asks for and what came of it. Pure: answers in, figures out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

SERIES_SECONDS: Final = 0.1  # width of a step of LoadResult.answers_series


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """One run. Times in seconds."""

    url: str
    sale: str
    key: str  # a credential with the role `service`: it may name the customer it acts for
    orders: int = 10_000
    connections: int = 256
    rate: float | None = None  # orders per second (open loop); None: as fast as answers come (closed loop)
    quantity: int = 1
    answer_timeout: float = 5.0  # then the connection is dropped and the order sent again, same key
    deadline: float = 60.0  # after the last order was due; what has no final answer then is an error
    retry_after_most: float = 2.0  # a longer Retry-After is shortened to this
    connect_within: float = 10.0  # all connections are open by then, or the run does not start


class Answer(NamedTuple):
    """The final answer to one order."""

    status: int
    body: bytes
    at: float  # seconds after the first byte was sent
    latency: float  # seconds since first sent, or since due when there is a rate; retries included


class Progress(NamedTuple):
    """How far a run is, for people who watch."""

    orders: int
    accepted: int
    refused: int
    waiting_for_retry: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the customers saw."""

    url: str
    sale: str
    orders: int
    connections: int
    rate: float | None
    started_at: float  # epoch seconds of the first byte
    accepted_ids: dict[str, int]  # order id -> quantity
    accepted: int  # answers 201 and 202; more than accepted_ids only if the server named two orders alike
    refused: dict[str, int]  # problem type -> answers
    errors: int  # orders without a final answer at the deadline
    error_causes: dict[str, int]  # why attempts were repeated; a bare status: a proxy's answer, not the API's
    retries: int
    accept_seconds: float | None  # first byte sent to last final answer; connections were open before
    accept_p50_ms: float | None
    accept_p99_ms: float | None
    accept_max_ms: float | None
    accepted_series: list[int]  # answers in each SERIES_SECONDS since the start
    refused_series: list[int]  # as long as the other one
    client_cpu_seconds: float

    def to_json(self) -> dict[str, Any]:
        """For files: everything but the order ids, which have a file of their own."""
        return {
            "url": self.url,
            "sale": self.sale,
            "orders": self.orders,
            "connections": self.connections,
            "connections_opened_before_the_clock": True,
            "rate": self.rate,
            "started_at": self.started_at,
            "accepted": self.accepted,
            "accepted_distinct": len(self.accepted_ids),
            "refused": self.refused,
            "errors": self.errors,
            "error_causes": self.error_causes,
            "retries": self.retries,
            "accept_seconds": _rounded(self.accept_seconds, 4),
            "accept_p50_ms": _rounded(self.accept_p50_ms, 2),
            "accept_p99_ms": _rounded(self.accept_p99_ms, 2),
            "accept_max_ms": _rounded(self.accept_max_ms, 2),
            "answers_series": {
                "step_seconds": SERIES_SECONDS,
                "accepted": self.accepted_series,
                "refused": self.refused_series,
            },
            "client_cpu_us_per_order": _rounded(self.client_cpu_seconds / max(1, self.orders) * 1e6, 1),
        }


class _Accepted(msgspec.Struct):
    order_id: str


class _Problem(msgspec.Struct):
    type: str = ""


_accepted = msgspec.json.Decoder(_Accepted)
_problem = msgspec.json.Decoder(_Problem)


def problem_name(status: int, body: bytes) -> str:
    """The last part of the problem's type ('sold-out'), else the status ('404')."""
    try:
        name = _problem.decode(body).type.rstrip("/").replace("#", "/").replace(":", "/").rsplit("/", 1)[-1]
    except (msgspec.DecodeError, UnicodeDecodeError):
        name = ""
    return name if name not in ("", "blank") else str(status)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value that `share` of all values do not exceed. None without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summarise(
    options: LoadOptions,
    answers: Sequence[Answer | None],
    *,
    started_at: float,
    causes: Counter[str],
    retries: int,
    cpu_seconds: float,
) -> LoadResult:
    """Reads the bodies now, when nobody waits. An accepted answer without an order id is an error."""
    ids: dict[str, int] = {}
    latencies: list[float] = []
    refused: Counter[str] = Counter()
    unreadable = 0
    final = [answer for answer in answers if answer is not None]
    for answer in final:
        if answer.status >= 300:
            refused[problem_name(answer.status, answer.body)] += 1
            continue
        try:
            ids[_accepted.decode(answer.body).order_id] = options.quantity
            latencies.append(answer.latency)
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable += 1
    latencies.sort()
    if unreadable:
        causes["accepted-without-order-id"] += unreadable
    return LoadResult(
        url=options.url,
        sale=options.sale,
        orders=options.orders,
        connections=min(options.connections, options.orders),
        rate=options.rate,
        started_at=started_at,
        accepted_ids=ids,
        accepted=len(latencies),
        refused=dict(refused.most_common()),
        errors=len(answers) - len(final) + unreadable,
        error_causes=dict(causes.most_common()),
        retries=retries,
        accept_seconds=max((answer.at for answer in final), default=None),
        accept_p50_ms=_milliseconds(percentile(latencies, 0.50)),
        accept_p99_ms=_milliseconds(percentile(latencies, 0.99)),
        accept_max_ms=_milliseconds(latencies[-1] if latencies else None),
        accepted_series=_series(final, refused=False),
        refused_series=_series(final, refused=True),
        client_cpu_seconds=cpu_seconds,
    )


def _series(final: Sequence[Answer], *, refused: bool) -> list[int]:
    steps = int(max((answer.at for answer in final), default=-1.0) / SERIES_SECONDS) + 1
    counts = Counter(int(answer.at / SERIES_SECONDS) for answer in final if (answer.status >= 300) is refused)
    return [counts[step] for step in range(steps)]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
