"""The words on the wire: orders, frames of orders, worker telemetry, pool status.

All are JSON; msgspec validates while it decodes. Times are epoch seconds (float) inside messages and RFC 3339
at the HTTP edge. Counts and money are whole numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

EpochSeconds = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]  # up to the end of the year 9999


class Booking(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What an ordinary order asks for: a service for a pet at a time, perhaps somewhere."""

    pet_id: str
    service_package_id: str
    service_date: str  # RFC 3339
    address: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    note: str | None = None


class Order(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One order that was accepted into the line, as it travels from the API through INTAKE and SECKILL to a worker."""

    order_id: str  # UUID text, derived from tenant and idempotency key
    tenant: str
    customer_id: str
    sale_id: str  # empty: an ordinary order, with a booking
    quantity: int
    fingerprint: str  # of customer and request body: tells a retry from a reused key
    accepted_at: EpochSeconds  # the API's clock
    traceparent: str = ""  # W3C trace context of the request, if it had one
    booking: Booking | None = None


class ExpiryDue(msgspec.Struct, frozen=True, gc=False):
    """An unpaid order whose time is up, on `order.expiry.due`. The database decides whether that is still so."""

    order_id: str
    expires_at: EpochSeconds


# Upper bounds, in seconds, of the histogram in `DatabaseWord`: the same in all workers, so that theirs can be added up.
# From 0.2 s on, where trouble begins, each is at most a third above the one before: so exact is `maxP95` of a pool.
# Above the last one, which is when a worker gives up: one bucket more.
DATABASE_BOUNDS: Final = (
    *(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0),
    *(1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0),
)


class DatabaseWord(msgspec.Struct, frozen=True):
    """How the database answered a worker. Totals since its start."""

    calls: int  # statements, each a transaction of its own; not those for which nobody was there
    errors: int  # of these, what it did not do (unfit, too late); not what it refused for its content
    wait_seconds: float  # until there was a connection, or until it was clear that there is none
    took: tuple[
        int, ...
    ]  # answers, and waits for one in vain, by their time with a connection: DATABASE_BOUNDS


class WorkerTelemetry(msgspec.Struct, frozen=True):
    """What a worker says of itself once a second on `peakclip.telemetry.<pool>.<worker>`. Totals since its start.

    `at - since` is the worker's age, whatever its clock says: both are of one clock that goes on evenly.
    """

    worker: str
    pool: str
    pid: int
    at: float  # epoch seconds
    finished: int  # messages taken to an end: committed, rejected or recognised as a repeat
    failed: int  # attempts that ended in an error
    busy_seconds: float  # time spent on messages, the wait for the limiter excluded
    limiter_wait_seconds: float
    starts_max_sliding_second: int
    in_flight: int
    draining: bool = False
    # When how many messages started since the last word, on the server's clock: the controller merges them
    # into the most starts that the whole pool had in any sliding second.
    starts: tuple[tuple[float, int], ...] = ()
    most_at_once: int | None = (
        None  # it never starts more messages together; None: what the limiter lets start
    )
    since: float | None = (
        None  # when it began: another process of the same name and pid began at another time
    )
    batches: int | None = None  # how often it has started something; None: it does not tell
    number: int | None = None  # of the word, from 1 on: tells a late one and a repeat
    database: DatabaseWord | None = None  # None: this worker does not measure it


class PoolStatus(msgspec.Struct, frozen=True):
    """What the controller knows and decided for a pool, on `peakclip.status.<pool>` after each tick.

    `None` means unknown; it is never written as zero.
    """

    pool: str
    at: float
    limit_per_second: float
    effective_per_second: float
    paused: bool
    lag_ready: int | None
    lag_in_flight: int | None
    oldest_seconds: float | None
    arrival_per_second: float | None
    drain_per_second: float | None
    per_worker_per_second: float | None
    workers_current: int | None
    workers_desired: int | None
    workers_ceiling: int | None
    eta_seconds: float | None  # None: unknown, or never at this rate
    reason: str
    binding_constraint: str
    processed_total: int
    failed_total: int
    average_processing_seconds: float | None
    starts_max_sliding_second: int | None
    burst: int | None = None  # starts that a sliding second may have above the limit
    lag_delayed: int | None = (
        None  # failed, and waiting for the time of their next attempt; not in the lag above
    )
    lag_scheduled: int | None = None  # waiting for a time of their own; only of a pool that has such
    lag_redelivered: int | None = None  # of those in flight: delivered before
    rate_reason: str = ""  # why the rate in force is what it is
    formula: str = ""  # how the number of workers follows from the inputs, with their values in it
    bounds: tuple[tuple[str, int], ...] = ()  # each constraint that was looked at, and the workers after it
    unknown: dict[str, float] = {}  # signals that are unknown, and since when
    inputs: dict[str, float | None] = {}  # every number that was used


_encoder = msgspec.json.Encoder()
_order_decoder = msgspec.json.Decoder(Order)
_expiry_decoder = msgspec.json.Decoder(ExpiryDue)

encode = _encoder.encode


def encode_frame(orders: Iterable[Order]) -> bytes:
    """One order per line, so that the relay can take a frame apart without encoding anything again."""
    return _encoder.encode_lines(orders)


def split_frame(body: bytes) -> list[bytes]:
    """The encoded orders of a frame, in the order of acceptance."""
    return body.splitlines()


def decode_frame(body: bytes) -> list[Order]:
    """Raises msgspec.DecodeError or msgspec.ValidationError for anything that is not a frame."""
    return _order_decoder.decode_lines(body)


def decode_order(body: bytes) -> Order:
    """Raises msgspec.DecodeError or msgspec.ValidationError."""
    return _order_decoder.decode(body)


def decode_expiry(body: bytes) -> ExpiryDue:
    """Raises msgspec.DecodeError or msgspec.ValidationError."""
    return _expiry_decoder.decode(body)


def order_id(tenant: str, idempotency_key: str) -> str:
    """The same tenant and key always name the same order, so a retry needs no look-up."""
    digest = hashlib.blake2b(f"{tenant}\0{idempotency_key}".encode(), digest_size=16).hexdigest()
    # RFC 9562 version 8 (custom) and variant bits, so that every UUID parser takes it.
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:]}"
