"""PURE. Who may say and hear what on NATS: a role for each kind of process, derived from the topology.

One model for the chart's server, for the embedded one and for the table in docs/reference/nats-roles.md. Subjects are
written out: streams, consumers and pools have names, and a wildcard stands only for what has none in advance (a sale,
a worker, a user, the numbers in an acknowledgement). Nothing is denied: what is not allowed is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peakclip import topology
from peakclip.grants import Grant, Role, consumer_calls, follow, once, stream_calls, take
from peakclip.topology import CONSUMERS, POOLS, RELAY, STREAMS, Consumer

API: Final = "api"
WORKER: Final = "worker"
OPERATOR: Final = "operator"
SETUP: Final = "setup"
ADMIN: Final = "admin"

_PACE: Final = f"KV_{topology.PACE}"
_MEMORY: Final = f"KV_{topology.MEMORY}"
_POOL_CONSUMERS: Final = tuple((pool.stream, name) for name, pool in POOLS.items())
_RELAY_CONSUMERS: Final = tuple(one for one in CONSUMERS if one not in _POOL_CONSUMERS)
_CLEANED: Final = (topology.INTAKE, *(pool.stream for pool in POOLS.values()))  # by the relay's janitor
_AUDITED: Final = (topology.INTAKE, topology.SECKILL, topology.EVENTS, topology.STOCK)
_EVENTS: Final = tuple(one for one in STREAMS[topology.EVENTS]["subjects"] if not one.startswith("retry."))
_REQUESTS: Final = ("peakclip.orders.get", "peakclip.providers.get")
_VERBS: Final = ("PING", "INFO", "STATS")  # of every micro service
_SERVICE: Final = "peakclip"


def _api() -> Role:
    streams = (topology.INTAKE, topology.SECKILL, topology.STOCK, topology.RELEASES)
    consumers = ((topology.INTAKE, RELAY), (topology.SECKILL, topology.ORDERS_POOL))
    verbs = tuple(f"$SRV.{verb}{name}" for verb in _VERBS for name in ("", f".{_SERVICE}", f".{_SERVICE}.*"))
    return Role(
        API,
        "API processes",
        (
            Grant("accept orders into frames", publish=(topology.frame_subject("*"),)),
            Grant("take units of a sale and give them back", publish=(topology.stock_subject("*"),)),
            Grant(
                "read the log of accepted orders, and what has left it",
                publish=(
                    *follow((topology.INTAKE, topology.RELEASES)),
                    *stream_calls("STREAM.MSG.GET", (topology.INTAKE,)),
                ),
            ),
            Grant("see that the streams are there", publish=stream_calls("STREAM.INFO", streams)),
            Grant("tell the place in line", publish=consumer_calls("INFO", consumers)),
            Grant("know that a subscription has arrived", publish=("$JS.API.INFO",)),
            Grant(
                "show what goes on, and wake those who watch",
                subscribe=(f"{topology.POOL_STATUS}.*", topology.TRAIL, "notification.push.*"),
            ),
            Grant("answer other back ends", subscribe=(*_REQUESTS, *verbs)),
        ),
        answers=True,
        streams=streams,
        consumers=consumers,
    )


def _worker() -> Role:
    streams = (*once(pool.stream for pool in POOLS.values()), topology.TIMERS, topology.TICKETS, _PACE)
    return Role(
        WORKER,
        "workers of every pool",
        (
            Grant("take and end its pool's messages", publish=take(_POOL_CONSUMERS)),
            Grant("keep to the rate: read it", publish=stream_calls("STREAM.MSG.GET", (_PACE,))),
            Grant(
                "keep to the rate: count starts",
                publish=tuple(f"tk.{pool}.*.*" for pool in POOLS),
            ),
            _tickets(),
            Grant(
                "see that streams and consumers are there, and the server's clock",
                publish=(*stream_calls("STREAM.INFO", streams), *consumer_calls("INFO", _POOL_CONSUMERS)),
            ),
            Grant("put off another attempt", publish=tuple(topology.delayed_subject(p, "*") for p in POOLS)),
            Grant(
                "say how it goes", publish=tuple(f"{topology.WORKER_TELEMETRY}.{pool}.*" for pool in POOLS)
            ),
            Grant("tell of a dead letter", publish=tuple(map(topology.dead_letter_subject, POOLS))),
            Grant(
                "push notifications, wake those who watch", publish=("notification.push.*", topology.TRAIL)
            ),
        ),
        streams=tuple(name for name in streams if name != topology.TICKETS),
        consumers=_POOL_CONSUMERS,
    )


def _relay() -> Role:
    streams = tuple(name for name in STREAMS if name not in (topology.TICKETS, _PACE, _MEMORY))
    return Role(
        RELAY,
        "the relay",
        (
            Grant("take and end what waits for the relay", publish=take(_RELAY_CONSUMERS)),
            Grant(
                "see how far everybody is",
                publish=(*stream_calls("STREAM.INFO", streams), *consumer_calls("INFO", CONSUMERS)),
            ),
            Grant(
                "look at single messages",
                publish=stream_calls("STREAM.MSG.GET", (*once(_CLEANED), topology.STOCK)),
            ),
            Grant(
                "remove what is finished",
                publish=stream_calls("STREAM.PURGE", (*once(_CLEANED), topology.TIMERS)),
            ),
            Grant("put orders and expiries in line", publish=_work()),
            Grant("bring back attempts that are due", publish=tuple(map(topology.retry_subject, POOLS))),
            Grant("publish what has happened", publish=(*_EVENTS, topology.RELEASED_SUBJECT)),
            Grant("move units that came back, or are on offer", publish=(topology.stock_subject("*"),)),
            Grant("close frames that never came", publish=(topology.frame_subject("*"),)),
            Grant("set the alarm for orders that expire", publish=("timer.expiry.*",)),
            Grant("ask whether the server syncs every write", publish=("$SYS.REQ.SERVER.PING.JSZ",)),
            Grant("tell of a dead letter", publish=tuple(map(topology.dead_letter_subject, (*POOLS, RELAY)))),
        ),
        streams=streams,
        consumers=tuple(CONSUMERS),
    )


def _operator(more: Sequence[Consumer]) -> Role:
    consumers = once((*_POOL_CONSUMERS, *more))
    streams, pools = once(stream for stream, _ in consumers), once(name for _, name in consumers)
    return Role(
        OPERATOR,
        "the operator",
        (
            Grant(
                # Of any consumer: one that does not exist is then said to be missing, and not to be forbidden.
                "read the lag",
                publish=(
                    *stream_calls("STREAM.INFO", streams),
                    *consumer_calls("INFO", ((stream, "*") for stream in streams)),
                    *stream_calls("STREAM.MSG.GET", streams),
                ),
            ),
            Grant(
                "count attempts that wait",
                publish=(
                    *stream_calls("DIRECT.GET", (topology.TIMERS,)),
                    *consumer_calls("INFO", ((topology.TIMERS, RELAY),)),
                ),
            ),
            *_set_pace(pools),
            Grant("divide a rate that pools share", publish=(f"$KV.{topology.PACE}.shared.*.*",)),
            Grant(
                "remember what its decisions rest on, for the one that takes over",
                publish=(
                    *stream_calls("STREAM.MSG.GET", (_MEMORY,)),
                    *(f"$KV.{topology.MEMORY}.{pool}" for pool in pools),
                ),
            ),
            Grant("tell what it decides", publish=tuple(f"{topology.POOL_STATUS}.{pool}" for pool in pools)),
            Grant(
                "hear the workers", subscribe=tuple(f"{topology.WORKER_TELEMETRY}.{pool}.*" for pool in pools)
            ),
            *_hold_others(more),
        ),
    )


def _hold_others(consumers: Sequence[Consumer]) -> tuple[Grant, ...]:
    """Workers that take no tickets: the server itself bounds what they have in hand, and pauses them."""
    if not consumers:
        return ()
    calls = (*consumer_calls("CREATE", consumers), *consumer_calls("PAUSE", consumers))
    return (Grant("bound and pause the consumers of others", publish=calls),)


def _setup() -> Role:
    return Role(
        SETUP,
        "`peakclip migrate`, before everybody else",
        (
            Grant(
                "make the streams and bring them up to date",
                publish=tuple(
                    subject
                    for call in ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO")
                    for subject in stream_calls(call, STREAMS)
                ),
            ),
            Grant("the same for the consumers", publish=consumer_calls("CREATE", CONSUMERS)),
            Grant("ask whether the server syncs every write", publish=("$SYS.REQ.SERVER.PING.JSZ",)),
        ),
    )


def _admin() -> Role:
    everywhere = ("STREAM.INFO", "STREAM.MSG.GET", "CONSUMER.LIST", "CONSUMER.NAMES")
    return Role(
        ADMIN,
        "people, with `peakclip pace`, `dlq`, `audit`, or `nats --inbox-prefix _INBOX_admin`",
        (
            Grant(
                "look at streams, consumers and messages",
                publish=(
                    *("$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES"),
                    *(subject for call in everywhere for subject in stream_calls(call, STREAMS)),
                    *consumer_calls("INFO", CONSUMERS),
                    *stream_calls("DIRECT.GET", (topology.TIMERS,)),
                ),
            ),
            Grant("audit", publish=follow(_AUDITED)),
            *_set_pace(tuple(POOLS)),
            Grant(
                "send dead letters back to work",
                publish=(
                    *map(topology.retry_subject, POOLS),
                    topology.frame_subject("*.redrive.*"),
                ),
            ),
            Grant("ask whether the server syncs every write", publish=("$SYS.REQ.SERVER.PING.JSZ",)),
            Grant(
                "ask the API",
                publish=(
                    *_REQUESTS,
                    *(f"$SRV.{verb}{name}" for verb in _VERBS for name in ("", f".{_SERVICE}")),
                ),
            ),
            Grant(
                "listen",
                subscribe=(
                    *(f"{topology.POOL_STATUS}.*", f"{topology.WORKER_TELEMETRY}.*.*"),
                    *(f"{topology.DEAD_LETTERS}.*", topology.TRAIL, "notification.push.*"),
                    *POOLS[topology.EFFECTS_POOL].subjects,
                ),
            ),
        ),
    )


def _work() -> tuple[str, ...]:
    """What pools work on, unless it is an event: `order.*` is the filter of a consumer, and no subject of ours."""
    return tuple(s for pool in POOLS.values() if pool.stream != topology.EVENTS for s in pool.subjects)


def _set_pace(pools: Sequence[str]) -> tuple[Grant, ...]:
    return (
        Grant(
            "read and set the rate, by the clock that starts go by",
            publish=(
                *stream_calls("STREAM.INFO", (topology.TICKETS,)),
                *stream_calls("STREAM.MSG.GET", (_PACE,)),
                *(f"$KV.{topology.PACE}.{pool}" for pool in pools),
            ),
        ),
        _tickets(),
    )


def _tickets() -> Grant:
    why = "make the counters anew: they live in memory, and a server that was alone forgets them when it restarts"
    return Grant(why, publish=stream_calls("STREAM.CREATE", (topology.TICKETS,)))


def roles(*, operator_consumers: Sequence[Consumer] = ()) -> dict[str, Role]:
    """By name. `operator_consumers`: (stream, consumer) of others than Peakclip, which the operator is to look after;
    the consumer's name is also the pool's."""
    found = (_api(), _worker(), _relay(), _operator(operator_consumers), _setup(), _admin())
    return {role.name: role for role in found}


ROLES: Final = roles()
