"""A NATS micro service: request-reply that others find and count by the standard verbs ($SRV.PING, INFO, STATS).

Create one with `JetStream.add_service`. What the client's own service does not do by itself, and this one does:

* requests are worked on side by side, up to a bound: the client's subscription takes the next one only when the
  last is answered, so one look-up in a hanging database would hold up everybody;
* `stop` first answers what has been received: the client's own throws it away, and who asked waits for nothing;
* an unexpected error is logged here, and nobody else is told more than that there was one;
* a start that failed halfway, because the server went away, leaves nothing behind and can be repeated.

All subscriptions come back by themselves after a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro import service as micro
from nats.micro.request import Request, ServiceError

from peakclip.errors import PeakclipError, UnavailableError

log = structlog.get_logger()

MOST_AT_ONCE: Final = 8  # requests of one endpoint in one process; what is more waits in the subscription
START_SECONDS: Final = 2.0  # until the server has taken all subscriptions
STOP_SECONDS: Final = 5.0  # for requests that were received before the stop
_LOST: Final = (nats.errors.Error, OSError)  # the connection went, and whoever asked will ask again

Handler = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]  # (payload, headers) -> payload


class RequestError(PeakclipError):
    """The request cannot be answered; `code` says why, in HTTP's numbers."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`handler` returns the answer, or raises RequestError: it becomes the headers Nats-Service-Error and -Code."""

    name: str  # no dots: `orders-get`
    subject: str
    handler: Handler
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    name: str
    version: str  # semantic version
    description: str
    queue_group: str  # a request goes to one member of the group: several processes share the load


class MicroService:
    """A running service. `stop` it before the connection is closed."""

    def __init__(self, nc: Client, described: ServiceDescription) -> None:
        self._nc = nc
        self._service = micro.Service(
            nc,
            micro.ServiceConfig(
                name=described.name,
                version=described.version,
                description=described.description,
                queue_group=described.queue_group,
            ),
        )
        self._queue_group = described.queue_group
        self._endpoints: list[_SideBySide] = []

    @property
    def instance_id(self) -> str:
        return self._service.id

    async def start(self, endpoints: Sequence[Endpoint]) -> None:
        """Returns when the server knows of the service. Raises UnavailableError, and then nothing is left of it."""
        try:
            async with asyncio.timeout(
                START_SECONDS
            ):  # the client's own wait is 10 s, and in vain after a reconnect
                for endpoint in endpoints:
                    await self._add(endpoint)
                await self._service.start()
        except (*_LOST, TimeoutError) as exc:
            await self._unsubscribe()
            raise UnavailableError from exc

    async def _add(self, endpoint: Endpoint) -> None:
        config = micro.EndpointConfig(
            name=endpoint.name,
            handler=_answering(endpoint),
            queue_group=self._queue_group,
            subject=endpoint.subject,
            metadata=dict(endpoint.metadata),
        )
        added = _SideBySide(self._service, config)
        self._endpoints.append(added)
        self._service._endpoints.append(added)
        await added._start()

    async def stop(self) -> None:
        """Takes no more requests, answers those that have been received, then is gone from $SRV."""
        if self._nc.is_connected:
            with contextlib.suppress(*_LOST, TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await asyncio.gather(*(endpoint.drain() for endpoint in self._endpoints))
        await self._unsubscribe()

    async def _unsubscribe(self) -> None:
        subscriptions = [
            *(endpoint._subscription for endpoint in self._endpoints),
            *self._service._subscriptions.values(),
        ]
        for endpoint in self._endpoints:
            endpoint.cancel()
        for subscription in subscriptions:
            if subscription is not None:
                with contextlib.suppress(*_LOST):  # drained, or the connection is closed
                    await subscription.unsubscribe()
        self._endpoints.clear()
        self._service._endpoints = []
        self._service._subscriptions = {}


class _SideBySide(micro.Endpoint):
    """The client's endpoint, with its counters; its requests are tasks, `MOST_AT_ONCE` at a time."""

    def __init__(self, service: micro.Service, config: micro.EndpointConfig) -> None:
        super().__init__(service, config)
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._answering: set[asyncio.Task[None]] = set()

    async def _handle_request(self, msg: Msg) -> None:
        if not msg.reply:
            return  # a plain publication: nobody waits for an answer
        await self._places.acquire()
        task = asyncio.create_task(self._answer(msg), name=f"answer-{self._name}")
        self._answering.add(task)
        task.add_done_callback(self._answered)

    async def _answer(self, msg: Msg) -> None:
        try:
            await super()._handle_request(msg)
        except _LOST as exc:
            log.debug("answer_not_sent", endpoint=self._name, error=repr(exc))

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._places.release()

    async def drain(self) -> None:
        """Returns when everything that the server has handed to us is answered."""
        if self._subscription is not None:
            await self._subscription.drain()  # type: ignore[no-untyped-call]
        while self._answering:
            await asyncio.wait(self._answering)

    def cancel(self) -> None:
        for task in self._answering:
            task.cancel()


def _answering(endpoint: Endpoint) -> Callable[[Request], Awaitable[None]]:
    async def answer(request: Request) -> None:
        try:
            body = await endpoint.handler(request.data, request.headers or {})
        except RequestError as exc:
            raise ServiceError(str(exc.code), str(exc)) from None
        except Exception as exc:
            log.exception("request_failed", subject=request.subject)
            raise ServiceError("500", "Something is wrong on our side.") from exc
        await request.respond(body)

    return answer
