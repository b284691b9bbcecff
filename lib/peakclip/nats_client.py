"""The client of NATS with defects repaired: two of its `flush`; a request for what is forbidden waits in vain, and so
does one whose connection is lost; who follows a stream notices by silence only that the server has forgotten it."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js import JetStreamContext

from peakclip.errors import ForbiddenError

log = structlog.get_logger()

# The server's words as the client hands them on, in lower case: the subject too.
_VIOLATION: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')

_REMEMBERED: Final = 1000  # refused subjects


class _Context(JetStreamContext):
    """As the client's, but remembers who follows a stream in order."""

    def __init__(self, client: RepairedClient, **options: Any) -> None:
        super().__init__(client, **options)
        self._followed = client.followed

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        subscription = await super().subscribe(*arguments, **options)
        if options.get("ordered_consumer"):
            state: Any = subscription._sub._jsi
            # One that is made anew before its first message would begin at 1.
            state._sseq = max(state._sseq, (options["config"].opt_start_seq or 1) - 1)
            self._followed.append(subscription)
        return subscription


class RepairedClient(Client):
    """As the client, but a `flush` may be given up, and tells that the server has what was sent before; and a request
    that the server does not allow raises ForbiddenError at once.

    `user` is for the words only.
    """

    def __init__(self, user: str = "") -> None:
        super().__init__()
        self._user = user
        # Subjects of requests without an answer, by their place in `_resp_map`.
        self._asked: dict[str, str] = {}
        self._deaf: str | None = None  # this connection may not hear its answers: on this subject
        self.followed: list[Any] = []  # ordered subscriptions
        self.refusals: dict[str, ForbiddenError] = {}  # since it last connected, by subject in lower case

    def jetstream(self, **options: Any) -> JetStreamContext:
        return _Context(self, **options)

    async def follow_again(self) -> None:
        """After a reconnect: makes the consumers of all who follow anew, each from the message after its last one.

        A server that restarts has forgotten them. The client looks every two heartbeats whether one came, so it would
        notice two to four of them later.
        """
        self.followed[:] = [one for one in self.followed if not one._closed]
        for subscription in self.followed:
            state = subscription._sub._jsi
            await state.reset_ordered_consumer(state._sseq + 1)
            state._active = True  # or it is made once more when the client looks the next time

    async def request(self, subject: str, *arguments: Any, **options: Any) -> Msg:
        if self._deaf is not None:
            # A new one each time: one that is raised again keeps the frames of all times before.
            raise ForbiddenError("subscribe to", self._deaf, self._user)
        return await super().request(subject, *arguments, **options)

    def lost(self) -> None:
        """The next connection may be allowed what this one was not.

        Every answer that is under way is lost, too: whoever waits for one hears of it now and not when their time is
        up, which may be long after the server is back.
        """
        self.refusals.clear()
        self._deaf = None
        for waiting in list(self._resp_map.values()):
            if not waiting.done():
                waiting.set_exception(ConnectionClosedError())
                waiting.exception()  # nobody waits for one that was never sent, and nobody needs to be told

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Any = None) -> None:
        """Of a request the client tells nobody which future waits for which subject; both pass here."""
        token = reply.rpartition(".")[2]
        waiting = self._resp_map.get(token) if token else None
        if waiting is not None:
            self._asked[token] = subject
            waiting.add_done_callback(lambda _: self._asked.pop(token, None))
        await super().publish(subject, payload, reply, headers)

    async def _process_err(self, err_msg: str) -> None:
        found = _VIOLATION.search(err_msg)
        if found is None:
            await super()._process_err(err_msg)
        elif found[1] == "publish":
            self._may_not_publish(found[2])
        else:
            self._may_not_subscribe(found[2])

    def _may_not_publish(self, lowered: str) -> None:
        waiting = {token: subject for token, subject in self._asked.items() if subject.lower() == lowered}
        subject = next(iter(waiting.values()), lowered)
        refusal = ForbiddenError("publish to", subject, self._user)
        for token in waiting:
            self._fail(token, refusal)
        self._note(refusal)

    def _may_not_subscribe(self, lowered: str) -> None:
        subjects = (one.subject for one in self._subs.values())
        subject = next((one for one in subjects if one.lower() == lowered), lowered)
        refusal = ForbiddenError("subscribe to", subject, self._user)
        if self._resp_sub_prefix and lowered == f"{self._resp_sub_prefix.decode()}*".lower():
            self._deaf = subject
            for token in list(self._asked):
                self._fail(token, refusal)
        self._note(refusal)

    def _note(self, refusal: ForbiddenError) -> None:
        """Said once for each subject: a worker would say it every second."""
        subject = refusal.subject.lower()
        if subject not in self.refusals:
            log.error("nats_forbidden", error=str(refusal))
        self.refusals[subject] = refusal
        if len(self.refusals) > _REMEMBERED:  # a subject may hold the name of a user
            del self.refusals[next(iter(self.refusals))]

    def _fail(self, token: str, refusal: ForbiddenError) -> None:
        waiting = self._resp_map.get(token)
        if waiting is not None and not waiting.done():
            waiting.set_exception(refusal)

    async def _process_pong(self) -> None:
        """A flush that timed out or was cancelled leaves its finished future in the list. When the server's PONG comes
        after all, the client sets it once more, fails by that, and never again reads from the connection."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """The client writes its PING past everything that waits to be written. The PONG then came before the server
        knew of a new subscription, or knew that an old one had ended: requests were refused, or got lost."""
        if self.is_connected and self._pending and self._transport is not None:
            waiting, self._pending = self._pending, []
            self._pending_data_size = 0
            self._transport.writelines(waiting)
        await super()._send_ping(future)
