"""Webhooks: one signed POST per attempt (docs/reference/webhooks.md).

The body is a CloudEvent in JSON and the same at every attempt. What the answers mean:

- 2xx: the receiver has it.
- 408, 409, 425, 429 and 5xx: another attempt may do better. 409 is among them because it is what a receiver answers
  that is still busy with the same Idempotency-Key.
- Everything else, redirections too, is for good: the address or the request is wrong, and would be again. A redirection
  is not followed, since it could lead anywhere; the receiver's new address belongs into its profile.
"""

from __future__ import annotations

import email.utils
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver

from peakclip_worker.channels.addresses import is_public, webhook_url
from peakclip_worker.channels.names import Names
from peakclip_worker.channels.port import Delivery, DeliveryFailedError, DeliveryRefusedError
from peakclip_worker.channels.signature import receiver_key, sign

CONNECT_SECONDS: Final = 2.0
TOTAL_SECONDS: Final = 5.0
PER_HOST: Final = 4
KEEP_SECONDS: Final = 4.0  # less than common servers do: one that closes at the same moment costs an attempt
TRY_AGAIN: Final = frozenset({408, 409, 425, 429})
READ_BYTES: Final = 16_384  # of an answer, which nobody looks at; what is longer stays unread


class NotPublicError(OSError):
    """The address is not on the public internet."""


def public_socket(info: Any) -> socket.socket:
    """The socket of a connection to be made. Here, since this is the address that will be used: a name that is looked
    up again may lead elsewhere, and an address in a URL is not looked up at all."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise NotPublicError(NotPublicError.__doc__)
    return socket.socket(family, kind, protocol)


class WebhookChannel:
    """Signs for each receiver with keys derived from `keys`. An asynchronous context manager.

    `allow_private` lets webhooks go into private networks and to this machine.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        allow_private: bool = False,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = tuple(keys)
        self._allow_private = allow_private
        self._timeout = aiohttp.ClientTimeout(total=total_seconds, sock_connect=connect_seconds)
        self._resolver = resolver or Names()
        self._clock = clock

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,  # the sender's own limits hold
            limit_per_host=PER_HOST,
            resolver=self._resolver,
            keepalive_timeout=KEEP_SECONDS,
            socket_factory=None if self._allow_private else public_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, delivery: Delivery) -> None:
        try:
            url = webhook_url(delivery.address)
        except ValueError as exc:
            raise DeliveryRefusedError(str(exc)) from None
        body = envelope(delivery)
        try:
            response = await self._session.post(
                url, data=body, headers=self._headers(delivery, body), allow_redirects=False
            )
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, NotPublicError):
                raise DeliveryRefusedError(str(exc.os_error)) from exc
            raise DeliveryFailedError(f"no connection: {exc.os_error}") from exc
        except aiohttp.InvalidURL as exc:
            raise DeliveryRefusedError("the address is no URL") from exc
        except TimeoutError as exc:
            raise DeliveryFailedError(f"no answer within {self._timeout.total:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise DeliveryFailedError(f"the connection broke: {exc!r}") from exc
        # Not read: a connection whose answer has come completely is kept, one that goes on talking is closed.
        response.release()
        judge(response.status, response.headers.get("Retry-After"), self._clock())

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        now = int(self._clock())
        keys = [receiver_key(key, delivery.tenant, delivery.user_id) for key in self._keys]
        return {
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            "User-Agent": "Peakclip",
            "Accept-Encoding": "identity",
            "Idempotency-Key": delivery.delivery_id,
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(keys, delivery.delivery_id, now, body),
        }


def envelope(delivery: Delivery) -> bytes:
    """A CloudEvent 1.0 in structured mode. Nothing in it depends on the attempt."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": delivery.delivery_id,
            "source": "/peakclip/notifications",
            "type": delivery.kind,
            "subject": delivery.user_id,
            "time": delivery.created_at.astimezone(UTC),
            "datacontenttype": "application/json",
            "tenant": delivery.tenant,
            "data": {
                "notification_id": delivery.notification_id,
                "title": delivery.title,
                "body": delivery.body,
                "data": delivery.data,
            },
        }
    )


def judge(status: int, retry_after: str | None, now: float) -> None:
    """Raises unless the status says that the receiver has taken it over."""
    if 200 <= status < 300:
        return
    if status in TRY_AGAIN or status >= 500:
        raise DeliveryFailedError(f"answered {status}", retry_after_seconds=seconds_of(retry_after, now))
    raise DeliveryRefusedError(f"answered {status}")


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """Reads Retry-After, seconds or a date; None if it says nothing.

    >>> seconds_of("120", 0), seconds_of("Thu, 01 Jan 1970 00:01:00 GMT", 50.0), seconds_of("soon", 0)
    (120.0, 10.0, None)
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second: a day or a year beyond C's integers
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now, UTC)).total_seconds())
