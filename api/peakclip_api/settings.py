"""Settings of the API process."""

from __future__ import annotations

import pydantic

from peakclip.settings import Settings


class ApiSettings(Settings):
    """Read from PEAKCLIP_* variables."""

    host: str = "127.0.0.1"
    """Address for clients."""

    port: int = pydantic.Field(default=8080, ge=0, le=65535)
    """Port for clients. Several processes on one machine share it (SO_REUSEPORT)."""

    max_body_bytes: int = pydantic.Field(default=16_384, ge=256)
    """Larger requests are refused with 413. An order is some 20 bytes; 16 KiB leaves room for every route."""

    express_lane: bool = True
    """Accept ordinary orders without aiohttp's request handling (peakclip_api/express.py)."""

    remembered_orders: int = pydantic.Field(default=200_000, ge=1_000)
    """Orders kept in memory for repeats and places in line, beyond those still queued. About 0.5 KB each."""
