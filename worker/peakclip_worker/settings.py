"""Settings of workers and of the relay."""

from __future__ import annotations

import pydantic

from peakclip.settings import Settings


class WorkerSettings(Settings):
    """Read from PEAKCLIP_* variables."""

    pool: str = "orders"
    """Which pool this worker belongs to."""

    work_ms: float = pydantic.Field(default=0.0, ge=0, le=60_000)
    """Milliseconds of a stand-in third-party call per order; the calls of one batch run side by side."""


class RelaySettings(Settings):
    """Read from PEAKCLIP_* variables."""

    reconcile_after_seconds: float = pydantic.Field(default=15.0, ge=1)
    """Age at which a reservation without a frame is returned. An API process gives up a group after 5 s; three
    times that leaves room for a slow process, and the fence takes care of one that was slower still."""

    keep_seconds: float = pydantic.Field(default=86_400.0, ge=600)
    """How long finished frames and orders stay in their streams: a repeated key is recognised that long."""

    keep_bytes: int = pydantic.Field(default=400_000_000, ge=1_000_000)
    """Finished messages beyond this many bytes are removed earlier: a stream never fills up with them."""
