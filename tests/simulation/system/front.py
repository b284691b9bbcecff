"""Between clients and an API process: its real handlers, without sockets. Answers, refusals and what never comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import msgspec
from multidict import CIMultiDict
from simulation.system.hosts import Host, Running

from peakclip_api.auth import Credential
from peakclip_api.problems import problems
from peakclip_api.routes import orders, sales, transitions
from peakclip_operator.simulation.events.kernel import Kernel, Process

TENANT: Final = "t"
_PATIENCE_SECONDS: Final = 30.0
_HANDLERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "purchase": orders.create_seckill_order,
    "read": orders.get_order,
    "pay": transitions._route("pay"),
    "cancel": transitions._route("cancel"),
    "create sale": sales.create_sale,
    "change sale": sales.change_sale,
}


class StandingKeys:
    """Credentials are not what is looked at here: everybody comes through a shop's back end, or is its admin."""

    _KNOWN: Final = {role: Credential(TENANT, role, role) for role in ("service", "admin")}

    def remembered(self, header: str | None) -> Credential | None:
        return self._KNOWN[header or "service"]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int  # 0: none came
    body: Mapping[str, Any]


NO_ANSWER: Final = Answer(0, {})


class Front:
    """Clients are one process that nothing ever befalls; each call goes to an API process that listens, if any does."""

    def __init__(
        self, kernel: Kernel, chance: random.Random, clients: Process, hosts: Sequence[Host]
    ) -> None:
        self._kernel = kernel
        self._chance = chance
        self._clients = clients
        self._hosts = hosts
        self.express = 0.0

    async def call(
        self, what: str, *, customer: str = "", key: str | None = None, role: str = "service", body: bytes = b"",
        **match: str,
    ) -> Answer:  # fmt: skip
        serving = [
            one.running for one in self._hosts if one.running is not None and one.running.app is not None
        ]
        answered: asyncio.Future[Answer] = self._clients.create_future()
        if not serving:
            await asyncio.sleep(0.001)
            return NO_ANSWER
        running = self._chance.choice(serving)
        headers = CIMultiDict({"Authorization": role})
        if customer:
            headers["Peakclip-Customer"] = customer
        if key is not None:
            headers["Idempotency-Key"] = key
        answer = self._answering(running, answered)
        express = what == "purchase" and self._chance.random() < self.express
        begin = self._short_way if express else self._long_way
        self._kernel.at(
            self._in_a_moment(), running.process, begin, running, what, headers, match, body, answer
        )
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await answered
        except TimeoutError:
            return NO_ANSWER

    def _in_a_moment(self) -> float:
        return self._kernel.now + 0.0002 * (0.5 + self._chance.random())

    def _answering(self, running: Running, answered: asyncio.Future[Answer]) -> Callable[[Answer], None]:
        def told(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def gone() -> None:
            self._kernel.at(self._in_a_moment(), self._clients, told, NO_ANSWER)

        running.leaving.append(gone)
        return lambda answer: self._send(running, told, answer)

    def _send(self, running: Running, told: Callable[[Answer], None], answer: Answer) -> None:
        if running.process.alive:
            self._kernel.at(self._in_a_moment(), self._clients, told, answer)

    # -- in the API process --------------------------------------------------------------------------------

    def _long_way(
        self, running: Running, what: str, headers: Any, match: Mapping[str, str], body: bytes,
        answer: Callable[[Answer], None],
    ) -> None:  # fmt: skip
        async def handle() -> None:
            async def read() -> bytes:
                return body

            request: Any = SimpleNamespace(
                app=running.app, headers=headers, match_info=match, read=read, method="POST", path=what,
                transport=running,
            )  # fmt: skip
            response: Any = await problems(request, _HANDLERS[what])
            answer(_of(response.status, response.body))

        if running.app is None:
            return answer(NO_ANSWER)
        running.process.create_task(handle())

    def _short_way(
        self, running: Running, what: str, headers: Any, match: Mapping[str, str], body: bytes,
        answer: Callable[[Answer], None],
    ) -> None:  # fmt: skip
        """As a connection of the express lane: what is not for it goes the long way."""
        if running.app is None:
            return answer(NO_ANSWER)
        lane = running.app["express"]
        message: Any = SimpleNamespace(headers=headers, path=f"/v1/sales/{match['sale_id']}/orders")
        long_way = (running, what, headers, match, body, answer)

        def ended(outcome: Any) -> None:
            said = lane.answer(begun, outcome)
            if said is None:
                return self._long_way(*long_way)
            answer(_read(said))

        begun = lane.begin(message, body, ended)
        if begun is None:
            self._long_way(*long_way)
        elif isinstance(begun, bytes):
            answer(_read(begun))


def _read(said: bytes) -> Answer:
    head, _, text = said.partition(b"\r\n\r\n")
    return _of(int(head.split(b" ", 2)[1]), text)


def _of(status: int, body: Any) -> Answer:
    text = body if isinstance(body, bytes) else getattr(body, "_value", b"")
    return Answer(status, msgspec.json.decode(text) if text else {})
