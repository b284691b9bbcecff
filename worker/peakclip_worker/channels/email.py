"""E-mail by SMTP: one connection and one message per attempt.

Before a server hears of this very mail, whatever goes wrong says nothing about it: worth another attempt, a refused
password too. From then on 4xx is worth another attempt, and 5xx is for good. If the connection breaks after the text
was handed over, nobody knows: the mail is sent again with the same Message-ID, which is all the idempotency that SMTP
has. The server is to be one that keeps a queue (a submission service): three attempts within seconds do not outlast
the patience that servers on the internet ask of strangers.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.message
import email.policy
import socket
import ssl
from email.headerregistry import Address
from typing import Final

import aiosmtplib

from peakclip_worker.channels.addresses import MailServer, mailbox, one_line, sender_of
from peakclip_worker.channels.port import Delivery, DeliveryFailedError, DeliveryRefusedError

TOTAL_SECONDS: Final = 10.0
GOODBYE_SECONDS: Final = 1.0
MOST_SUBJECT: Final = 200  # characters; nobody reads more, and some servers refuse lines that are too long
_POLICY: Final = email.policy.SMTP.clone(cte_type="7bit")


class EmailChannel:
    """Sends as `sender` (an address, with a name before it or without) through one server.

    `tls`: for a server whose certificate is not signed by an authority that this machine knows.
    """

    def __init__(
        self,
        server: MailServer,
        sender: str,
        *,
        total_seconds: float = TOTAL_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._sender = sender_of(sender)
        self._total = total_seconds
        self._tls = tls or ssl.create_default_context()

    async def send(self, delivery: Delivery) -> None:
        try:
            recipient = mailbox(delivery.address)
        except ValueError as exc:
            raise DeliveryRefusedError(str(exc)) from None
        text = message_of(delivery, self._sender, recipient).as_bytes(policy=_POLICY)
        client = aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            use_tls=self._server.implicit_tls,
            start_tls=None,  # if it is offered
            local_hostname=own_name(),
            timeout=self._total,
            tls_context=self._tls,
        )
        try:
            async with asyncio.timeout(self._total):
                await self._connect(client)
                await self._hand_over(client, recipient, text)
            # It is theirs now, whatever becomes of the farewell.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=GOODBYE_SECONDS)
        except TimeoutError as exc:
            raise DeliveryFailedError(f"no answer within {self._total:g} s") from exc
        except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
            raise DeliveryFailedError(f"no mail server: {exc}") from exc
        finally:
            client.close()

    async def _connect(self, client: aiosmtplib.SMTP) -> None:
        await client.connect()
        if self._server.user is None or self._server.password is None:
            return
        # Whoever can suppress STARTTLS on the way would otherwise read the password.
        if client.get_transport_info("sslcontext") is None and not self._server.is_local:
            raise aiosmtplib.SMTPException("it offers no encryption, and so gets no password")
        await client.login(self._server.user, self._server.password)

    async def _hand_over(self, client: aiosmtplib.SMTP, recipient: str, text: bytes) -> None:
        try:
            await client.mail(self._sender.addr_spec)
            await client.rcpt(recipient)
            await client.data(text)
        except aiosmtplib.SMTPResponseException as exc:
            said = f"answered {exc.code}: {exc.message}"
            if 500 <= exc.code < 600:
                raise DeliveryRefusedError(said) from exc
            raise DeliveryFailedError(said) from exc


def own_name() -> str:
    """What this machine calls itself in EHLO; not looked up anywhere, and never anything that SMTP cannot carry."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


def message_of(delivery: Delivery, sender: Address, recipient: str) -> email.message.EmailMessage:
    """The mail, the same at every attempt."""
    local, _, domain = recipient.rpartition("@")
    message = email.message.EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = Address(username=local, domain=domain)
    message["Subject"] = one_line(delivery.title)[:MOST_SUBJECT]
    message["Date"] = delivery.created_at
    message["Message-ID"] = f"<{delivery.delivery_id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"  # so that no automatic answer comes back
    message.set_content(delivery.body, charset="utf-8")
    return message
