"""Notifications as they are pushed: one subscription for each user that has streams here, shared by all of them.

The table is the truth. A push whose number follows the last one is sent as it is, which costs no look-up; anything else
(a gap, too many at once, silence) makes the reader read the table.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from nats.aio.msg import Msg

from peakclip import topology
from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.notifications import Audience, Notification, decode_notification
from peakclip_api.live import Reader

log = structlog.get_logger()

MOST_WAITING: Final = 64  # pushes that a slow reader has not taken yet; then it reads the table instead


class Inbox(NamedTuple):
    """Whose notifications. Customers and providers are different people even under the same id."""

    tenant: str
    audience: Audience
    user_id: str


class InboxReader(Reader):
    """A stream of one inbox."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self.inbox = inbox
        self._pushed: deque[Notification] = deque()

    def push(self, notification: Notification) -> None:
        if len(self._pushed) >= MOST_WAITING:
            self._pushed.clear()
            self.behind = True
        else:
            self._pushed.append(notification)
        self.wake()

    def take_after(self, number: int) -> list[Notification]:
        """What was pushed and follows `number` without a gap. After a gap the reader is behind."""
        found: list[Notification] = []
        while self._pushed:
            notification = self._pushed.popleft()
            if notification.number == number + 1:
                found.append(notification)
                number += 1
            elif notification.number > number:
                self._pushed.clear()
                self.behind = True
        return found


class _Subscription:
    def __init__(self, subscribing: asyncio.Task[Any]) -> None:
        self.subscribing = subscribing
        self.readers: set[InboxReader] = set()


class Inboxes:
    """Create one per process, after NATS is connected."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._subscriptions: dict[str, _Subscription] = {}  # by user id, which may be several people's
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def subscriptions(self) -> int:
        return len(self._subscriptions)

    @contextlib.asynccontextmanager
    async def opened(self, inbox: Inbox) -> AsyncIterator[InboxReader]:
        """Everything that is pushed from now on reaches the reader, if NATS is there; else it looks at the table."""
        user_id, reader = inbox.user_id, InboxReader(inbox)
        if user_id not in self._subscriptions:
            subscribing = asyncio.create_task(self._subscribe(user_id), name="subscribe")
            self._subscriptions[user_id] = _Subscription(subscribing)
        subscription = self._subscriptions[user_id]
        subscription.readers.add(reader)
        try:
            await asyncio.shield(subscription.subscribing)
            yield reader
        finally:
            subscription.readers.discard(reader)
            if not subscription.readers and self._subscriptions.get(user_id) is subscription:
                del self._subscriptions[user_id]
                leaving = asyncio.create_task(_leave(subscription), name="unsubscribe")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    async def _subscribe(self, user_id: str) -> Any:
        subscription = await self._js.subscribe_core(topology.push_subject(user_id), self._received)
        with contextlib.suppress(UnavailableError, OutcomeUnknownError):
            await self._js.round_trip()  # a push between this and the first look at the table is not missed
        return subscription

    async def _received(self, msg: Msg) -> None:
        try:
            notification = decode_notification(msg.data)
        except msgspec.DecodeError as exc:
            log.warning("push_unreadable", subject=msg.subject, error=str(exc))
            return
        subscription = self._subscriptions.get(notification.user_id)
        inbox = Inbox(notification.tenant, notification.audience, notification.user_id)
        for reader in subscription.readers if subscription is not None else ():
            if reader.inbox == inbox:
                reader.push(notification)


async def _leave(subscription: _Subscription) -> None:
    try:
        await (await subscription.subscribing).unsubscribe()
    except Exception as exc:  # noqa: BLE001 - the connection is gone, and every subscription with it
        log.debug("not_unsubscribed", error=repr(exc))
