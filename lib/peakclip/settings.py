"""Settings that every process has. Read from the environment, prefix PEAKCLIP_, validated at start."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from typing import NoReturn, Self
from urllib.parse import urlsplit

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One class per process derives from this; a wrong value ends the process with one sentence and exit 2."""

    model_config = SettingsConfigDict(
        env_prefix="PEAKCLIP_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS is, with user and password if it wants them."""

    database_url: str = "postgresql://127.0.0.1:5432/peakclip"
    """Where PostgreSQL is."""

    management_host: str = "127.0.0.1"
    """Address of /livez, /readyz and /metrics. Never routed to clients."""

    management_port: int = pydantic.Field(default=0, ge=0, le=65535)
    """Port of the management address; 0 takes a free one and logs it."""

    log_json: bool = True
    """JSON log lines; false for people at a terminal."""

    otel_enabled: bool | None = None
    """Spans by OpenTelemetry. Unset: if the extra `otel` is installed and OTEL_EXPORTER_OTLP_ENDPOINT is set."""

    @pydantic.field_validator("database_url")
    @classmethod
    def _of_postgresql(cls, url: str) -> str:
        """A server that is away is waited for, and so would be one that can never be."""
        if urlsplit(url).scheme not in ("postgresql", "postgres"):
            raise ValueError("an address of PostgreSQL begins with postgresql://")
        return url

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """From the environment; `overrides` that are not None win. Ends the process with exit 2 on a bad value."""
        try:
            return cls(**{key: value for key, value in overrides.items() if value is not None})  # type: ignore[arg-type]
        except pydantic.ValidationError as exc:
            refuse(exc, secret=cls._secrets())

    @classmethod
    def _secrets(cls) -> set[str]:
        return {name for name, one in cls.model_fields.items() if "SecretStr" in repr(one.annotation)}


def refuse(exc: pydantic.ValidationError, *, secret: Collection[str] = ()) -> NoReturn:
    """One sentence per wrong setting on stderr, then exit 2. A wrong secret is a secret too: it is not repeated."""
    for error in exc.errors():
        name = "PEAKCLIP_" + "_".join(str(part) for part in error["loc"]).upper()
        got = "" if {*error["loc"]} & {*secret} else f" (got {_shown(error['input'])})"
        print(f"{name}: {error['msg']}{got}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


def _shown(value: object) -> str:
    """The value as it was given, without the password of an address in it."""
    return re.sub(r"//\S*@", "//…@", repr(value))
