"""Each role × each subject on a real nats-server: exactly what the model allows goes through, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from support import until

from peakclip import streams, topology
from peakclip.errors import ForbiddenError, RefusedError
from peakclip.grants import Role
from peakclip.jetstream import STREAM_NOT_FOUND, JetStream
from peakclip.local.nats import NatsServer
from peakclip.nats_client import RepairedClient
from peakclip.roles import ROLES

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLISH = [subject for role in ROLES.values() for subject in role.publish]
SUBSCRIBE = [subject for role in ROLES.values() for subject in role.subscribe]
STORED = [subject for config in topology.STREAMS.values() for subject in config["subjects"]]

_STREAM_CALLS = (
    *("CREATE", "UPDATE", "INFO", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN"),
    *("PEER.REMOVE",),
)  # fmt: skip
_CONSUMER_CALLS = (
    *("CREATE", "DURABLE.CREATE", "INFO", "DELETE", "MSG.NEXT", "PAUSE", "RESET", "UNPIN", "LEADER.STEPDOWN"),
)  # fmt: skip
# Nobody's, or not everybody's: calls of JetStream for each stream and consumer there is, and words of the server.
OTHERS = [
    *(f"$JS.API.STREAM.{call}.{stream}" for call in _STREAM_CALLS for stream in topology.STREAMS),
    *(f"$JS.API.DIRECT.GET.{stream}" for stream in topology.STREAMS),
    *(f"$JS.API.CONSUMER.CREATE.{stream}" for stream in topology.STREAMS),
    *(f"$JS.API.CONSUMER.{call}.{s}.{c}" for call in _CONSUMER_CALLS for s, c in topology.CONSUMERS),
    *(f"$JS.API.CONSUMER.CREATE.{s}.{c}.{s.lower()}" for s, c in topology.CONSUMERS),
    *(f"$JS.API.STREAM.{call}.OTHER" for call in _STREAM_CALLS),
    *("$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.ACCOUNT.PURGE.APP"),
    *("$JS.API.STREAM.TEMPLATE.CREATE.x", "$JS.API.SERVER.REMOVE", "$JS.ACK.OTHER.orders.1.1.1.1.1"),
    *("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.SECKILL.orders", "$JS.FC.SECKILL.x.y", "$KV.PACE.other"),
    *("$KV.MEMORY.other", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO"),
    "$SYS.REQ.SERVER.PING.JSZ",
    *("peakclip.telemetry.other.w", "peakclip.status.other", "dlq.other", "retry.other", "tk.other.1.1"),
    *("timer.due.expiry", "timer.due.retry.orders", "timer.retry.other.x", "order.other", "intake.a.b", "stock.a.b"),
    *("peakclip.orders.put", "$SRV.PING.other", "_INBOX.x", "_INBOX_other.x", "anything", "peakclip.other"),
]  # fmt: skip
TREES = [
    *(">", "*", "*.>", "*.*", "$JS.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>", "$KV.>", "$SRV.>", "$SYS.>"),
    *(
        "peakclip.>",
        "peakclip.*",
        "peakclip.*.get",
        "order.>",
        "intake.*",
        "stock.*",
        "tk.>",
        "timer.>",
        "dlq.>",
    ),
    *("_INBOX.>", "*.x", "notification.>", "peakclip.telemetry.>", "$JS.API.STREAM.INFO.*"),
]


def concrete(pattern: str) -> str:
    """One subject that the pattern stands for."""
    return re.sub(r">$", "u.v", pattern).replace("*", "w")


def covers(allowed: str, wanted: str) -> bool:
    """Whether everything that `wanted` stands for is among what `allowed` does. One thing more, as the server has it:
    a `*` at the end lets one subscribe to `>` there."""
    ours, theirs = allowed.split("."), wanted.split(".")
    for place, token in enumerate(theirs):
        if place >= len(ours):
            return False
        if ours[place] == ">":
            return True
        if ours[place] not in ("*", token):
            return False
    return len(ours) == len(theirs)


def within(allowed: Iterable[str], wanted: str) -> bool:
    return any(covers(one, wanted) for one in allowed)


class Plain(RepairedClient):
    """The repaired `flush` tells that the server has what was sent before; refusals go the client's own way."""

    _process_err = Client._process_err


class Person:
    """A plain connection of a role: nothing that knows of roles is between the test and the server."""

    def __init__(self, client: Client, refused: set[str]) -> None:
        self.client = client
        self._refused = refused

    async def refused(self) -> set[str]:
        """What the server has refused until now; it says so before it answers a ping."""
        await self.client.flush(10)
        found = set(self._refused)
        self._refused.clear()
        return found


@contextlib.asynccontextmanager
async def person(server: NatsServer, user: str) -> AsyncIterator[Person]:
    refused: set[str] = set()

    async def error(exc: Exception) -> None:
        found = re.search(r'permissions violation for \w+ to "([^"]*)"', str(exc))
        assert found, exc
        refused.add(found[1])

    client = Plain()
    await client.connect(server.url_of(user), error_cb=error, inbox_prefix=f"_INBOX_{user}")
    try:
        yield Person(client, refused)
    finally:
        await client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """With all streams, made by the role whose work that is."""
    server = NatsServer(tmp_path_factory.mktemp("roles"), owner=True).prepare()
    await server.start()
    async with await JetStream.connect(server.url_of("setup"), name="setup") as js:
        await streams.ensure(js)
    yield server
    await server.stop()


@pytest.mark.parametrize("role", ROLES.values(), ids=list(ROLES))
async def test_each_subject_published_by_each_role(server: NatsServer, role: Role) -> None:
    wanted = {concrete(one) for one in (*PUBLISH, *SUBSCRIBE, *STORED, *OTHERS)}
    allowed = {one for one in wanted if within(role.publish, one)}
    arrived: set[str] = set()

    async def note(message: Any) -> None:
        if message.data == b"tried by " + role.name.encode():
            arrived.add(message.subject)

    async with person(server, "peakclip") as owner, person(server, role.name) as someone:
        await owner.client.subscribe(">", cb=note)
        await owner.client.flush()
        for subject in sorted(wanted):
            await someone.client.publish(subject, b"tried by " + role.name.encode())
        assert await someone.refused() == {one.lower() for one in wanted - allowed}
        # What goes to the system's account leaves ours on the way: nobody here hears it.
        await until(lambda: {one for one in allowed if not one.startswith("$SYS.")} <= arrived)
    assert arrived <= allowed
    print(f"{role.name}: {len(wanted)} subjects published, {len(allowed)} allowed, the others refused")
    assert 15 < len(allowed) < len(wanted) / 2


@pytest.mark.parametrize("role", ROLES.values(), ids=list(ROLES))
async def test_each_subject_heard_by_each_role(server: NatsServer, role: Role) -> None:
    exact = (concrete(one) for one in (*SUBSCRIBE, *PUBLISH, *OTHERS))
    wanted = sorted({*SUBSCRIBE, *PUBLISH, *STORED, *TREES, *exact})
    allowed = {one for one in wanted if within(role.subscribe, one)}
    heard: set[str] = set()

    def noting(subject: str) -> Any:
        async def note(message: Any) -> None:
            if message.data == b"for all":
                heard.add(subject)

        return note

    async with person(server, "peakclip") as owner, person(server, role.name) as someone:
        for subject in wanted:
            await someone.client.subscribe(subject, cb=noting(subject))
        assert await someone.refused() == {one.lower() for one in wanted if one not in allowed}
        for subject in wanted:
            if not subject.startswith("$SYS"):
                await owner.client.publish(concrete(subject), b"for all")
        await owner.client.flush()
        await until(lambda: allowed <= heard)
        await someone.client.flush()
    assert heard == allowed
    print(f"{role.name}: {len(wanted)} subjects subscribed, {len(allowed)} allowed, the others refused")
    assert allowed


async def test_only_who_was_asked_may_answer_and_once(server: NatsServer) -> None:
    async with person(server, "peakclip") as owner, person(server, "api") as api:
        inbox = owner.client.new_inbox()
        asked = asyncio.Event()

        async def answer(message: Any) -> None:
            await api.client.publish(message.reply, b"yes")
            await api.client.publish(message.reply, b"and again")
            asked.set()

        heard = await owner.client.subscribe(inbox)
        await api.client.publish(inbox, b"unasked")
        assert await api.refused() == {inbox.lower()}
        await api.client.subscribe("peakclip.orders.get", cb=answer)
        await api.client.flush()
        await owner.client.publish("peakclip.orders.get", b"{}", reply=inbox)
        await asyncio.wait_for(asked.wait(), 10)
        assert await api.refused() == {inbox.lower()}
        await owner.client.flush()
        assert (await heard.next_msg()).data == b"yes"
        assert heard.pending_msgs == 0


@pytest.mark.parametrize("form", ["", "feature_flags {js_ack_fc_v2: true}\n"], ids=["plain", "with-account"])
async def test_messages_are_taken_acknowledged_and_followed_in_both_forms(tmp_path: Path, form: str) -> None:
    server = NatsServer(tmp_path).prepare()
    conf = tmp_path / "nats.conf"
    conf.write_text(conf.read_text() + form)
    await server.start()
    async with contextlib.AsyncExitStack() as stack:
        js = {
            name: await stack.enter_async_context(await JetStream.connect(server.url_of(name), name=name))
            for name in ROLES
        }
        stack.push_async_callback(server.stop)
        await streams.ensure(js["setup"])
        for name, role in ROLES.items():
            await asyncio.wait_for(streams.until_there(js[name], role), 10)
        followed: list[int] = []

        async def note(message: Any) -> None:
            followed.append(message.seq)

        if not form:  # the client cannot follow a stream that names the account: it fails to read the reply
            await js["api"].follow(topology.INTAKE, 1, note, subject="intake.>")
        for number in range(300):  # flow control asks in between
            await js["api"].publish(f"intake.f{number}", bytes(10_000), create_only=True)
        (frame,) = await js["relay"].pull(topology.INTAKE, "relay").fetch(1, 5.0)
        assert len(frame._msg.reply.split(".")) == (11 if form else 9)
        await frame.ack()
        await js["relay"].publish("order.async.created", b"x", message_id="1")
        (order,) = await js["worker"].pull(topology.SECKILL, "orders").fetch(1, 5.0)
        await order.in_progress()
        await order.ack()
        assert (await js["operator"].consumer_state(topology.SECKILL, "orders")).ack_floor_seq == 1
        await until(lambda: form or len(followed) == 300)
        for name in ("relay", "setup", "admin"):  # whoever tells people whether orders are safe
            await js[name]._sys_report()
        assert js["api"]._nc.refusals == js["relay"]._nc.refusals == js["worker"]._nc.refusals == {}


async def test_what_is_not_allowed_fails_at_once_and_says_so(server: NatsServer) -> None:
    async with (
        await JetStream.connect(server.url_of("worker"), name="test", timeout_seconds=60.0) as js,
        asyncio.timeout(30),
    ):
        with pytest.raises(ForbiddenError, match=r"^NATS does not allow worker to publish to stock\.s1$"):
            await js.increment("stock.s1", 1)
        with pytest.raises(ForbiddenError, match=r"publish to \$JS\.API\.STREAM\.INFO\.INTAKE$"):
            await js.stream_state(topology.INTAKE)
        with pytest.raises(ForbiddenError, match=r"\$JS\.API\.CONSUMER\.CREATE\.INTAKE$"):
            await js.follow(topology.INTAKE, 1, lambda _: asyncio.sleep(0))
        pull = js.pull(topology.INTAKE, "relay")
        for _ in range(2):
            with pytest.raises(ForbiddenError, match=r"\$JS\.API\.CONSUMER\.MSG\.NEXT\.INTAKE\.relay$"):
                await pull.fetch(1, 20.0)
        assert (await js.stream_state(topology.TICKETS)).messages >= 0  # the connection is as good as before


async def test_a_connection_that_cannot_hear_its_answers_says_so(server: NatsServer) -> None:
    """As with a user whose permissions were written by hand, for the client's usual inbox."""
    async with await JetStream.connect(server.url_of("worker"), name="test", timeout_seconds=60.0) as js:
        js._nc._inbox_prefix = bytearray(b"_INBOX")
        for _ in range(2):
            with pytest.raises(ForbiddenError, match=r"does not allow worker to subscribe to _INBOX\."):
                await asyncio.wait_for(js.stream_state(topology.TICKETS), 30)


async def test_who_could_not_hear_answers_hears_them_when_the_server_allows_it(tmp_path: Path) -> None:
    server = NatsServer(tmp_path).prepare()
    conf = tmp_path / "nats.conf"
    right = conf.read_text()
    conf.write_text(right.replace('"_INBOX_worker.>"', '"_INBOX_other.>"'))
    await server.start()
    try:
        async with (
            await JetStream.connect(server.url_of("worker"), name="test", timeout_seconds=10.0) as js,
            asyncio.timeout(60),
        ):
            for _ in range(2):
                with pytest.raises(
                    ForbiddenError, match=r"does not allow worker to subscribe to _INBOX_worker\."
                ):
                    await js.consumer_state(topology.SECKILL, "orders")
            before = js.generation
            conf.write_text(right)
            await server.restart()
            await until(lambda: js.connected and js.generation > before)
            with pytest.raises(RefusedError) as answer:
                await js.consumer_state(topology.SECKILL, "orders")
            assert answer.value.code == STREAM_NOT_FOUND
    finally:
        await server.stop()
