"""Which channels the settings switch on."""

from __future__ import annotations

import pydantic
import pytest

from peakclip_worker.channels.configured import open_channels
from peakclip_worker.settings import WorkerSettings

SECRET = pydantic.SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
MAIL = pydantic.SecretStr("smtp://ada:s3cret@mail.example:587")


@pytest.mark.parametrize(
    ("secret", "mail", "names"),
    [
        (None, None, []),
        (SECRET, None, ["webhook"]),
        (None, MAIL, ["email"]),
        (SECRET, MAIL, ["webhook", "email"]),
    ],
)
async def test_a_channel_is_on_when_it_is_set(
    secret: pydantic.SecretStr | None, mail: pydantic.SecretStr | None, names: list[str]
) -> None:
    settings = WorkerSettings(webhook_secret=secret, smtp_url=mail, smtp_from="orders@shop.example")
    async with open_channels(settings) as channels:
        assert list(channels) == names
