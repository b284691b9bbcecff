"""PURE. Streams, consumers and subjects: declared once, created by `streams.ensure`, used by every process.

Everything an order depends on is stored in files on a server with `sync_interval: always`; only the tickets
of the limiter live in memory, since a lost ticket lowers the rate for a quarter of a second and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

INTAKE: Final = "INTAKE"  # frames: what API processes have accepted, many orders in one message
SECKILL: Final = (
    "SECKILL"  # one message per order that waits in line for the database, put there by the relay
)
STOCK: Final = "STOCK"  # admission counters, one subject per sale, with their whole history
TICKETS: Final = "TICKETS"  # the limiter's window counters
EVENTS: Final = "EVENTS"  # what has happened to orders and reviews, from the outbox
RELEASES: Final = "RELEASES"  # ids of orders that no longer count against their customers' limits
EXPIRY: Final = "EXPIRY"  # one message per unpaid order whose time is up, from the relay's sweep
TIMERS: Final = "TIMERS"  # schedules: retries that wait for their time, seconds in which orders expire
ADVISORIES: Final = "ADVISORIES"  # what the server gave up on, or was told to: a net under the dead letters
Consumer = tuple[str, str]  # its stream and its name
PACE: Final = "PACE"  # key-value bucket: one key per pool, the rate schedule
MEMORY: Final = "MEMORY"  # key-value bucket: one key per pool, what its controller's next decision rests on
MOST_MEMORY_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Pool:
    """A worker pool: the consumer has the name of the pool."""

    name: str
    stream: str
    subjects: tuple[str, ...]  # what it works on, its own retries apart
    default_limit_per_second: float


ORDERS_POOL: Final = "orders"
EFFECTS_POOL: Final = "effects"
REAPER_POOL: Final = "reaper"

ASYNC_ORDER_SUBJECT: Final = "order.async.created"  # an ordinary order that was accepted into the line
EXPIRY_SUBJECT: Final = "order.expiry.due"
RELEASED_SUBJECT: Final = "line.released"
_ORDER_EVENTS: Final = ("created", "rejected", "accepted", "started", "completed", "cancelled", "paid")
TIMER_DUE: Final = "timer.due"  # where schedules deliver: timer.due.expiry, timer.due.retry.<pool>

POOLS: Final = {
    pool.name: pool
    for pool in (
        # All that reaches the database through the line shares one R: that is what the database was sized for.
        Pool(ORDERS_POOL, SECKILL, ("order.seckill.created.*", ASYNC_ORDER_SUBJECT), 100.0),
        Pool(EFFECTS_POOL, EVENTS, ("order.*", "review.*"), 500.0),
        Pool(REAPER_POOL, EXPIRY, (EXPIRY_SUBJECT,), 100.0),
    )
}

# JetStream counts nanoseconds.
_SECOND: Final = 1_000_000_000
_GIB: Final = 1 << 30

MAX_ORDERS_PER_FRAME: Final = 256
ACK_WAIT_SECONDS: Final = 10.0  # a killed worker's orders come back after this long
# Then the server gives a message up, and the relay makes a dead letter of it. Far above what pools allow themselves.
MAX_DELIVER: Final = 50
RELAY: Final = "relay"  # its consumers, and the pool that frames which cannot be read are filed under
RECONCILER_ACK_WAIT_SECONDS: Final = 60.0

FRAME_HEADER: Final = "Peakclip-Frame"  # id of the frame an order or a stock movement belongs to
RESERVED_AT_HEADER: Final = "Peakclip-Reserved-At"  # on a return of stock: when its frame's units were taken
FRAME_ORDERS_HEADER: Final = "Peakclip-Orders"  # how many orders a frame holds; 0 marks a fence
ATTEMPT_HEADER: Final = "Peakclip-Attempt"  # on a message that comes again: which attempt this is, from 2 on
MESSAGE_ID_HEADER: Final = "Peakclip-Message-Id"  # and its first id,
SUBJECT_HEADER: Final = "Peakclip-Subject"  # and its first subject
REDRIVE_HEADER: Final = (
    "Peakclip-Redrive"  # on a dead letter that was sent back to work: for which time, from 1 on
)
WORKER_TELEMETRY: Final = "peakclip.telemetry"  # Core NATS: peakclip.telemetry.<pool>.<worker>
POOL_STATUS: Final = "peakclip.status"  # Core NATS: peakclip.status.<pool>, from the controller
GONE: Final = "gone."  # first part of the subject in a dead letter whose message nobody has any more
DEAD_LETTERS: Final = "dlq"  # Core NATS: dlq.<pool>, a word for each dead letter that was written
TRAIL: Final = "peakclip.trail"  # Core NATS: which transitions of which orders the audit trail holds now


# First part of the message ids on STOCK: what a movement is.
RESERVATION: Final = (
    "g"  # an API process takes units for a frame; it returns some by "o" (overdrawn) or "b" (back)
)
RECONCILED: Final = "r"  # the reconciler corrects what an API process left behind


def frame_subject(frame_id: str) -> str:
    """A frame's own subject: publishing with 'expected last sequence 0' makes it create-once."""
    return f"intake.{frame_id}"


def seckill_subject(sale_id: str) -> str:
    return f"order.seckill.created.{sale_id}"


def line_subject(sale_id: str) -> str:
    """Where an order waits in line: by its sale, or with all others that are of none."""
    return seckill_subject(sale_id) if sale_id else ASYNC_ORDER_SUBJECT


def stock_subject(sale_id: str) -> str:
    return f"stock.{sale_id}"


def expiry_timer_subject(epoch_second: int) -> str:
    """The schedule that wakes the sweep in this second; a second schedule for it replaces the first."""
    return f"timer.expiry.{epoch_second}"


def delayed_subject(pool: str, name: str) -> str:
    """Where a message waits for its next attempt, as a schedule: neither in flight nor ready. `name`: one token."""
    return f"timer.retry.{pool}.{name}"


def due_subject(pool: str) -> str:
    """Where the schedule delivers it when its time has come; the relay moves it to `retry_subject`."""
    return f"{TIMER_DUE}.retry.{pool}"


def retry_subject(pool: str) -> str:
    """Where a message comes back to its pool, in the pool's own stream."""
    return f"retry.{pool}"


def push_subject(user_id: str) -> str:
    """Core NATS: where a user's notifications are pushed, whatever the tenant. No two users have the same one."""
    # `quote` leaves these two as they are; a dot would make two tokens of one.
    token = quote(user_id, safe="").replace(".", "%2E").replace("~", "%7E")
    return f"notification.push.{token}"


def dead_letter_subject(pool: str) -> str:
    return f"{DEAD_LETTERS}.{pool}"


def gone_subject(stream: str, consumer: str) -> str:
    return f"{GONE}{stream}.{consumer}"


def pool_of(stream: str, consumer: str) -> str | None:
    """The pool whose work this consumer gives out; None: no pool's."""
    if (stream, consumer) == (INTAKE, RELAY):
        return RELAY
    return next((name for name, pool in POOLS.items() if (pool.stream, name) == (stream, consumer)), None)


def ticket_subject(pool: str, rate_milli: int, window: int) -> str:
    """The counter of one limiter window: `tk.<pool>.<rate in orders per 1000 s>.<window number>`."""
    return f"tk.{pool}.{rate_milli}.{window}"


# Limits retention everywhere: a work-queue acknowledgement is a delete, and each delete is an fsync.
# `discard: new`: a full stream refuses (503 to the client), it never drops an unfinished order.
STREAMS: Final[dict[str, dict[str, Any]]] = {
    INTAKE: {
        "subjects": ["intake.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_bytes": 1 * _GIB,
        "allow_direct": True,
    },
    SECKILL: {
        "subjects": ["order.seckill.created.*", ASYNC_ORDER_SUBJECT, f"retry.{ORDERS_POOL}"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_bytes": 4 * _GIB,
        "allow_atomic": True,
        "duplicate_window": 120 * _SECOND,
        "allow_direct": True,
    },
    STOCK: {
        "subjects": ["stock.*"],
        "storage": "file",
        "retention": "limits",
        "allow_msg_counter": True,
        # Longer than an outbox row may stay claimed: a repeated give-back must not count twice.
        "duplicate_window": 3600 * _SECOND,
        "allow_direct": True,
    },
    TICKETS: {
        "subjects": ["tk.>"],
        "storage": "memory",
        "retention": "limits",
        "allow_msg_counter": True,
        "max_msgs_per_subject": 1,
        "max_age": 20 * _SECOND,
        "duplicate_window": 20 * _SECOND,  # may not exceed max_age
        "allow_direct": True,
    },
    EVENTS: {
        "subjects": [
            *(f"order.{done}" for done in _ORDER_EVENTS),
            *("review.created", "review.replied", f"retry.{EFFECTS_POOL}"),
        ],
        "storage": "file",
        "retention": "limits",
        # Effects hang on every event: a full stream makes the outbox wait, it forgets nothing.
        "discard": "new",
        "max_bytes": 2 * _GIB,
        "allow_atomic": True,
        "duplicate_window": 120 * _SECOND,
        "allow_direct": True,
    },
    # Every API process reads these: only ids, a batch of the outbox in one message. No age: it outlives INTAKE.
    RELEASES: {
        "subjects": [RELEASED_SUBJECT],
        "storage": "file",
        "retention": "limits",
        "max_bytes": 256 << 20,
        "allow_direct": True,
    },
    # PostgreSQL knows what is due, and the sweep finds what is lost here. Synced all the same: with `persist_mode:
    # async` a power cut may take the definitions of stream and consumer, or leave one over which none can be made.
    EXPIRY: {
        "subjects": [EXPIRY_SUBJECT, f"retry.{REAPER_POOL}"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_bytes": 1 * _GIB,
        "allow_atomic": True,
        "duplicate_window": 120 * _SECOND,
        "allow_direct": True,
    },
    # A stream with schedules cannot refuse when it is full (10052), so it has no limit: nothing may be dropped here.
    TIMERS: {
        "subjects": ["timer.>"],
        "storage": "file",
        "retention": "limits",
        "allow_msg_schedules": True,
        "duplicate_window": 120 * _SECOND,
        "allow_direct": True,
    },
    ADVISORIES: {
        # Consumers that work is lost with; the others are never given up.
        "subjects": [
            f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{stream}.*"
            for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
            for stream in (INTAKE, *(pool.stream for pool in POOLS.values()))
        ],
        "storage": "file",
        "retention": "limits",
        "max_bytes": 64 << 20,
        "allow_direct": True,
    },
    f"KV_{PACE}": {
        "subjects": [f"$KV.{PACE}.>"],
        "storage": "file",
        "retention": "limits",
        "max_msgs_per_subject": 16,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "discard": "new",
        "allow_direct": True,
    },
    # Written every few seconds, and no loss: a controller without it begins anew.
    f"KV_{MEMORY}": {
        "subjects": [f"$KV.{MEMORY}.>"],
        "storage": "file",
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "max_msg_size": MOST_MEMORY_BYTES,
        "max_bytes": 16 << 20,
        "max_age": 24 * 3600 * _SECOND,  # pools that are gone
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
    },
}

CONSUMERS: Final[dict[Consumer, dict[str, Any]]] = {
    (INTAKE, RELAY): {"max_ack_pending": 256, "ack_wait": 30 * _SECOND, "max_deliver": MAX_DELIVER},
    (ADVISORIES, RELAY): {"max_ack_pending": 256, "ack_wait": 30 * _SECOND},
    (TIMERS, RELAY): {
        "filter_subjects": [f"{TIMER_DUE}.>"],
        "max_ack_pending": 20_000,
        "ack_wait": 30 * _SECOND,
    },
    (STOCK, "reconciler"): {
        "max_ack_pending": 20_000,
        "ack_wait": int(RECONCILER_ACK_WAIT_SECONDS * _SECOND),
    },
    **{
        (pool.stream, pool.name): {
            "filter_subjects": [*pool.subjects, retry_subject(pool.name)],
            "max_ack_pending": 20_000,
            "ack_wait": int(ACK_WAIT_SECONDS * _SECOND),
            "max_deliver": MAX_DELIVER,
        }
        for pool in POOLS.values()
    },
}
