"""E-mail against a real SMTP server: what arrives, and what refusals and silences mean."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiosmtpd.smtp import SMTP
from receivers import Certificate, MailReceiver, certificate, mail_receiver

from peakclip_worker.channels.addresses import MailServer
from peakclip_worker.channels.email import EmailChannel
from peakclip_worker.channels.port import Delivery, DeliveryFailedError, DeliveryRefusedError

pytestmark = pytest.mark.integration

ID = "0b0f6e52-7c5c-4a3c-9c5a-0a2a7f3a1d11"


def make_delivery(**changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "delivery_id": ID, "notification_id": 7, "tenant": "t1", "user_id": "ada", "channel": "email",
        "address": "ada@mail.example", "kind": "order.paid", "title": "Bezahlt ✓ 已付款",
        "body": "Danke schön.\n.\nEnde", "data": msgspec.Raw(b"{}"), "created_at": datetime.now(UTC), "attempt": 1,
    }  # fmt: skip
    return Delivery(**{**values, **changes})


def channel_to(there: MailReceiver, *, host: str = "127.0.0.1", **options: Any) -> EmailChannel:
    server = {key: options.pop(key) for key in ("user", "password", "implicit_tls") if key in options}
    return EmailChannel(
        MailServer(host, there.port, **{"implicit_tls": False, **server}),
        "Shop <orders@shop.example>",
        **options,
    )


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def there() -> AsyncIterator[MailReceiver]:
    async with mail_receiver() as receiver:
        yield receiver


async def test_a_mail_arrives(there: MailReceiver) -> None:
    await channel_to(there).send(make_delivery())
    (mail,) = there.mails
    assert there.recipients == ["ada@mail.example"]
    assert (mail["From"], mail["To"]) == ("Shop <orders@shop.example>", "ada@mail.example")
    assert mail["Subject"] == "Bezahlt ✓ 已付款"
    assert mail["Message-ID"] == f"<{ID}@shop.example>"
    assert mail.get_content().split() == ["Danke", "schön.", ".", "Ende"]
    assert there.raw[0].isascii()


async def test_another_attempt_carries_the_same_message_id(there: MailReceiver) -> None:
    delivery = make_delivery()
    for attempt in (1, 2):
        await channel_to(there).send(make_delivery(attempt=attempt, created_at=delivery.created_at))
    first, second = there.raw
    assert first == second


async def test_a_title_cannot_add_a_header_nor_a_recipient(there: MailReceiver) -> None:
    title = "Paid\r\nBcc: eve@example.org\r\n\r\nsurprise"
    await channel_to(there).send(make_delivery(title=title, body="a\r\n.\r\nRCPT TO:<eve@example.org>\r\n"))
    assert there.recipients == ["ada@mail.example"]
    assert there.mails[0]["Bcc"] is None
    assert there.mails[0]["Subject"] == "Paid Bcc: eve@example.org surprise"
    assert len(there.mails) == 1


@pytest.mark.parametrize(
    "address",
    [
        "ada@mail.example>\r\nRCPT TO:<eve@mail.example",
        "ada@mail.example, eve@mail.example",
        "ada",
        "ä@x.example",
    ],
)
async def test_an_address_that_is_none_is_refused_and_never_sent(there: MailReceiver, address: str) -> None:
    with pytest.raises(DeliveryRefusedError, match="not one e-mail address"):
        await channel_to(there).send(make_delivery(address=address))
    assert there.recipients == []


@pytest.mark.parametrize("place", ["on_rcpt", "on_data"])
async def test_4xx_is_worth_another_attempt(there: MailReceiver, place: str) -> None:
    setattr(there, place, "451 4.3.0 later, please")
    with pytest.raises(DeliveryFailedError, match=r"451.*later, please"):
        await channel_to(there).send(make_delivery())
    setattr(there, place, "250 OK")
    await channel_to(there).send(make_delivery())
    assert len(there.mails) == 1


@pytest.mark.parametrize("place", ["on_rcpt", "on_data"])
async def test_5xx_is_for_good(there: MailReceiver, place: str) -> None:
    setattr(there, place, "550 5.1.1 no such user")
    with pytest.raises(DeliveryRefusedError, match=r"550.*no such user"):
        await channel_to(there).send(make_delivery())
    assert there.mails == []


async def silence() -> str:
    await asyncio.sleep(60)
    raise AssertionError


@pytest.mark.parametrize("place", ["on_rcpt", "on_data"])
async def test_a_server_that_hangs_costs_its_time_and_no_more(there: MailReceiver, place: str) -> None:
    setattr(there, place, silence)
    began = time.monotonic()
    with pytest.raises(DeliveryFailedError, match=r"no answer within 0\.3 s"):
        await channel_to(there, total_seconds=0.3).send(make_delivery())
    assert time.monotonic() - began < 2


class DropsAfterData(SMTP):
    async def push(self, status: Any) -> None:
        if self.event_handler.mails:
            self.transport.abort()  # it has the mail, and nobody is told
        else:
            await super().push(status)


async def test_a_connection_that_ends_after_the_text_leaves_the_outcome_unknown() -> None:
    async with mail_receiver(smtp=DropsAfterData) as there:
        with pytest.raises(DeliveryFailedError):
            await channel_to(there).send(make_delivery())
        assert len(there.mails) == 1


class NeverSaysGoodbye(SMTP):
    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        await asyncio.sleep(60)


async def test_what_was_accepted_is_sent_even_if_the_farewell_hangs() -> None:
    async with mail_receiver(smtp=NeverSaysGoodbye) as there:
        await channel_to(there, total_seconds=0.5).send(make_delivery())
        assert len(there.mails) == 1


async def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        channel = channel_to(MailReceiver(port=held.getsockname()[1]))
        with pytest.raises(DeliveryFailedError, match="connect"):
            await channel.send(make_delivery())


# -- encryption --------------------------------------------------------------------------------------------


async def test_starttls_is_used_when_it_is_offered(own_certificate: Certificate) -> None:
    async with mail_receiver(own_certificate.server) as there:
        await channel_to(there, tls=own_certificate.client).send(make_delivery())
        assert there.encrypted == [True]
    async with mail_receiver() as there:
        await channel_to(there, tls=own_certificate.client).send(make_delivery())
        assert there.encrypted == [False]


async def test_tls_from_the_first_byte(own_certificate: Certificate) -> None:
    async with mail_receiver(own_certificate.server, implicit=True) as there:
        await channel_to(there, implicit_tls=True, tls=own_certificate.client).send(make_delivery())
        assert len(there.mails) == 1


@pytest.mark.parametrize("implicit", [False, True])
async def test_a_server_that_cannot_prove_its_name_gets_no_mail(
    own_certificate: Certificate, implicit: bool
) -> None:
    async with mail_receiver(own_certificate.server, implicit=implicit) as there:
        with pytest.raises(DeliveryFailedError, match="certificate"):
            await channel_to(there, implicit_tls=implicit).send(make_delivery())
        assert there.mails == []


async def test_a_login_over_tls(own_certificate: Certificate) -> None:
    async with mail_receiver(own_certificate.server) as there:
        channel = channel_to(there, tls=own_certificate.client, user="shop", password="s3cret")
        await channel.send(make_delivery())
        assert (there.logins, len(there.mails)) == ([(b"shop", b"s3cret")], 1)


async def test_a_refused_password_says_nothing_about_the_mail(there: MailReceiver) -> None:
    channel = channel_to(there, user="shop", password="wrong-s3cret")
    with pytest.raises(DeliveryFailedError, match="535") as failed:
        await channel.send(make_delivery())
    assert "wrong-s3cret" not in f"{failed.value!r} {channel._server!r}"


async def test_no_password_goes_over_the_network_in_the_clear(there: MailReceiver) -> None:
    """`127.1` is this machine for whoever connects, and no address of it for whoever reads the setting."""
    with pytest.raises(DeliveryFailedError, match="no encryption"):
        await channel_to(there, host="127.1", user="shop", password="s3cret").send(make_delivery())
    assert there.logins == []
    await channel_to(there, user="shop", password="s3cret").send(make_delivery())
    assert there.logins == [(b"shop", b"s3cret")]
