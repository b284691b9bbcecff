"""Settings of workers and of the relay."""

from __future__ import annotations

import pydantic

from peakclip.settings import Settings
from peakclip_worker.channels.addresses import mail_server, sender_of
from peakclip_worker.channels.signature import keys_of


class WorkerSettings(Settings):
    """Read from PEAKCLIP_* variables."""

    pool: str = "orders"
    """Which pool this worker belongs to."""

    work_ms: float = pydantic.Field(default=0.0, ge=0, le=60_000)
    """Milliseconds of a stand-in third-party call per order; the calls of one batch run side by side."""

    most_at_once: int | None = pydantic.Field(default=None, ge=1, le=256)
    """Messages that are worked on together at most. Unset: as many as may start together, R/100; 1: one after the
    other, for a third party that takes no more."""

    webhook_secret: pydantic.SecretStr | None = None
    """`whsec_…`, from which each receiver's own secret is derived (`peakclip webhook-secret`). Without it no webhook
    is sent: nobody could tell who sent it. While receivers change to a new one: new and old, a space in between."""

    webhook_allow_private: bool = False
    """Webhooks may go to this machine and into private networks. Whoever may register a webhook could then use
    Peakclip to reach what only Peakclip's network can reach."""

    smtp_url: pydantic.SecretStr | None = None
    """Where e-mail is handed over: smtp://user:password@host:587 (STARTTLS when offered) or smtps://. Without it no
    e-mail is sent."""

    smtp_from: str | None = pydantic.Field(default=None, validate_default=True)
    """The sender of e-mails, for example `Shop <orders@shop.example>`."""

    @pydantic.field_validator("webhook_secret", "smtp_url", "smtp_from", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @pydantic.field_validator("webhook_secret")
    @classmethod
    def _has_keys(cls, value: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        if value is not None:
            keys_of(value.get_secret_value())
        return value

    @pydantic.field_validator("smtp_url")
    @classmethod
    def _is_a_mail_server(cls, value: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        if value is not None:
            mail_server(value.get_secret_value())
        return value

    @pydantic.field_validator("smtp_from")
    @classmethod
    def _is_a_sender(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        if value is not None:
            sender_of(value)
        elif info.data.get("smtp_url") is not None:
            raise ValueError("e-mails need a sender")
        return value


class RelaySettings(Settings):
    """Read from PEAKCLIP_* variables."""

    reconcile_after_seconds: float = pydantic.Field(default=15.0, ge=1)
    """Age at which a reservation without a frame is returned. An API process gives up a group after 5 s; three
    times that leaves room for a slow process, and the fence takes care of one that was slower still."""

    keep_seconds: float = pydantic.Field(default=86_400.0, ge=600)
    """How long finished frames and orders stay in their streams: a repeated key is recognised that long."""

    keep_bytes: int = pydantic.Field(default=400_000_000, ge=1_000_000)
    """Finished messages beyond this many bytes are removed earlier: a stream never fills up with them."""
