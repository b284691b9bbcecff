"""Customers of ordinary orders, and what is done with orders of any kind after they were accepted.

By the load client's connections, as `faults.buyers`: cheap enough to share the machine with the system.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import msgspec
from faults.buyers import heard
from faults.drivers import AttentiveDriver
from faults.history.record import PLACES, History, Kind

from peakclip.load.outcome import Answer, LoadOptions
from peakclip.local.stack import TENANT
from peakclip.messages import order_id as named_by

_ANSWER_SECONDS: Final = 5.0
# Refusals that are an answer as good as any: what somebody else did first, or an order that stands in line still.
_FINE: Final = frozenset({"illegal-transition"})


@dataclass(frozen=True, slots=True)
class Wish:
    kind: Kind
    customer: str
    key: str
    order_id: str | None = None  # None: a new one
    body: bytes = b"{}"
    later: bool = False  # a new order that may wait in line

    @property
    def named(self) -> str:
        return self.order_id or named_by(TENANT, self.key)


@dataclass(slots=True)
class Owners:
    url: str
    key: str  # of the storefront
    history: History
    answered: Callable[[int], None]
    deadline: float  # seconds until a final answer must have come
    wrong: list[str] = field(default_factory=list)
    retries: int = 0
    causes: Counter[str] = field(default_factory=Counter)

    async def ask(self, wishes: Sequence[Wish], rate: float | None, connections: int) -> list[bool]:
        """Which of them were granted."""
        options = LoadOptions(
            url=self.url, sale="", key=self.key, orders=len(wishes), connections=connections, rate=rate,
            answer_timeout=_ANSWER_SECONDS, deadline=self.deadline, connect_within=self.deadline,
        )  # fmt: skip
        address = urlsplit(self.url)
        driver = AttentiveDriver(options, address, [self._request(wish, address.netloc) for wish in wishes])
        await driver.open()
        attempts = [
            self.history.invoke(wish.kind, order_id=wish.named, key=wish.key, customer=wish.customer)
            for wish in wishes
        ]
        await driver.run(heard(self.answered if wishes[0].kind in PLACES else None))
        self.retries += driver.retries
        self.causes += driver.causes
        return [
            self._record(
                wish, attempts[job], driver.answers[job], asked_again=driver.attempts[job] > 0,
                asked=driver.asked.get(job, 0.0), began=driver.started_at,
            )
            for job, wish in enumerate(wishes)
        ]  # fmt: skip

    def _record(
        self, wish: Wish, attempt: int, answer: Answer | None, *, asked_again: bool, asked: float = 0.0,
        began: float = 0.0,
    ) -> bool:  # fmt: skip
        """From the beginning of the wave to its end, within which it was asked for as often as the driver did.

        `asked`: when the request was sent whose answer this is; `began`: when the wave did.
        """
        if answer is None:
            self.history.unknown(attempt, "no final answer")
            self.wrong.append(f"{wish.kind} of {wish.named}: no final answer")
            return False
        body = msgspec.json.decode(answer.body)
        granted = answer.status < 300
        self.history.answered(
            attempt, answer.status, body, at=began + answer.at, asked=asked, again=asked_again
        )
        if not granted and str(body.get("type", "")).rpartition("/")[2] not in _FINE:
            self.wrong.append(f"{wish.kind} of {wish.named}: {answer.status} {body}")
        return granted

    def _request(self, wish: Wish, host: str) -> bytes:
        path = "/v1/orders" if wish.kind in PLACES else f"/v1/orders/{wish.order_id}/{wish.kind}"
        prefer = "Prefer: respond-async\r\n" if wish.later else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {self.key}\r\n{prefer}"
            f"Content-Type: application/json\r\nContent-Length: {len(wish.body)}\r\n"
            f"Peakclip-Customer: {wish.customer}\r\nIdempotency-Key: {wish.key}\r\n\r\n"
        )
        return head.encode() + wish.body


def booking(pet: str, package: str) -> bytes:
    return json.dumps(
        {"pet_id": pet, "service_package_id": package, "service_date": "2030-12-24T10:00:00Z"}
    ).encode()
