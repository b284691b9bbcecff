"""What a role on NATS is made of: grants, each with its reason; and how the server is told.

Which role has which is in `peakclip.roles`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from peakclip.nats_wire import inbox_of
from peakclip.topology import Consumer

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Grant:
    """Subjects with one reason."""

    why: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """`streams` and `consumers` must exist before its processes can work; those that they make themselves apart."""

    name: str
    who: str
    grants: tuple[Grant, ...]
    answers: bool = False  # may publish once to the reply subject of a request that it received
    streams: tuple[str, ...] = ()
    consumers: tuple[Consumer, ...] = ()

    @property
    def publish(self) -> tuple[str, ...]:
        return once(subject for grant in self.grants for subject in grant.publish)

    @property
    def subscribe(self) -> tuple[str, ...]:
        return (inbox_of(self.name) + ".>", *once(s for grant in self.grants for s in grant.subscribe))


# -- calls of JetStream ----------------------------------------------------------------------------------------


def stream_calls(call: str, streams: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"$JS.API.{call}.{stream}" for stream in streams)


def consumer_calls(call: str, consumers: Iterable[Consumer]) -> tuple[str, ...]:
    return tuple(f"$JS.API.CONSUMER.{call}.{stream}.{consumer}" for stream, consumer in consumers)


def take(consumers: Sequence[Consumer]) -> tuple[str, ...]:
    """Pull and end messages. The longer form of an acknowledgement names domain and account first: servers with the
    feature flag `js_ack_fc_v2` ask for it."""
    acks = (
        ack
        for stream, consumer in consumers
        for ack in (f"$JS.ACK.{stream}.{consumer}.*.*.*.*.*", f"$JS.ACK.*.*.{stream}.{consumer}.*.*.*.*.>")
    )
    return (*consumer_calls("MSG.NEXT", consumers), *acks)


def follow(streams: Sequence[str]) -> tuple[str, ...]:
    """Read a stream by a consumer of one's own that lives as long as the connection, and slow it down."""
    slow = (reply for stream in streams for reply in (f"$JS.FC.{stream}.*.*", f"$JS.FC.*.*.{stream}.*.*"))
    return (*stream_calls("CONSUMER.CREATE", streams), *slow)


# -- for the server --------------------------------------------------------------------------------------------


def permissions_conf(roles: Iterable[Role]) -> str:
    """Variables of a nats-server's configuration, PERMISSIONS_<ROLE>, for `permissions: $PERMISSIONS_API` of a user."""
    return "\n".join(map(_block, roles))


def _block(role: Role) -> str:
    inboxes = Grant("hear answers", subscribe=(inbox_of(role.name) + ".>",))
    lines = [
        f"# {role.who}",
        f"PERMISSIONS_{role.name.upper()} = {{",
        *_allow("publish", role.grants),
        *_allow("subscribe", (inboxes, *role.grants)),
        *(["  allow_responses: true"] if role.answers else []),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _allow(direction: str, grants: Sequence[Grant]) -> list[str]:
    lines = [f"  {direction}: {{allow: ["]
    written: set[str] = set()
    for grant in grants:
        fresh = [one for one in getattr(grant, direction) if one not in written]
        written.update(fresh)
        lines += [f"    # {grant.why}"] * bool(fresh) + [f'    "{one}"' for one in fresh]
    return [*lines, "  ]}"]


def once(items: Iterable[_T]) -> tuple[_T, ...]:
    """Without repeats, in order."""
    return tuple(dict.fromkeys(items))
