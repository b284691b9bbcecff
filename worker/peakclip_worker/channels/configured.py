"""The channels that the settings switch on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import structlog

from peakclip_worker.channels.addresses import mail_server
from peakclip_worker.channels.email import EmailChannel
from peakclip_worker.channels.port import Channel
from peakclip_worker.channels.signature import keys_of
from peakclip_worker.channels.webhook import WebhookChannel
from peakclip_worker.settings import WorkerSettings

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def open_channels(settings: WorkerSettings) -> AsyncIterator[dict[str, Channel]]:
    """By name, as in the column `deliveries.channel`. Deliveries of a channel that is off wait until it is on."""
    channels: dict[str, Channel] = {}
    async with contextlib.AsyncExitStack() as stack:
        if settings.webhook_secret is None:
            log.warning("channel_off", channel="webhook", missing="PEAKCLIP_WEBHOOK_SECRET")
        else:
            channels["webhook"] = await stack.enter_async_context(
                WebhookChannel(
                    keys_of(settings.webhook_secret.get_secret_value()),
                    allow_private=settings.webhook_allow_private,
                )
            )
        if settings.smtp_url is None or settings.smtp_from is None:
            log.warning("channel_off", channel="email", missing="PEAKCLIP_SMTP_URL")
        else:
            server = mail_server(settings.smtp_url.get_secret_value())
            channels["email"] = EmailChannel(server, settings.smtp_from)
        yield channels
