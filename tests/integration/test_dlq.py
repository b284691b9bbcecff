"""`peakclip dlq` on real servers: what died is seen, sent back to work and done once, or given up on record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from pools import drain, effects_pool, orders_pool, reaper_pool, relay
from support import drain_batch, insert_sale, make_order, offer, on_offer, store_frame, unfinished, until

from peakclip import messages, topology
from peakclip.cli.dlq import command
from peakclip.dead_letters import Desk
from peakclip.errors import OutcomeUnknownError
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.messages import ExpiryDue, Order
from peakclip_worker.dead_letters import DeadLetterCounts, Gone, write_dead_letter

pytestmark = pytest.mark.integration


@pytest.fixture
async def system(js: JetStream, database: Any) -> JetStream:
    """A sale of ten units; pools may go fast."""
    await insert_sale(database, stock=10, limit=5)
    await offer(js, 10)
    for pool in topology.POOLS:
        await set_pace(js, pool, limit_per_second=5_000)
    return js


@pytest.fixture
async def dlq(nats_url: str, fresh_database_url: str) -> Callable[..., Any]:
    """The command, in a thread: it runs a loop of its own."""

    async def run(*arguments: str, **options: Any) -> Result:
        servers = ["--nats-url", nats_url, "--database-url", fresh_database_url]
        return await asyncio.to_thread(CliRunner().invoke, command, [*arguments, *servers], **options)

    return run


async def letters(database: Any) -> dict[str, Any]:
    return {row["message_id"]: row for row in await database.fetch("select * from dead_letters")}


async def dead(database: Any, count: int = 1) -> bool:
    return len(await letters(database)) == count


async def statuses(database: Any) -> dict[str, str]:
    rows = await database.fetch("select order_id, status from orders")
    return {str(row["order_id"]): row["status"] for row in rows}


@contextlib.asynccontextmanager
async def broken(database: Any, table: str, condition: str) -> AsyncIterator[None]:
    """A rule of the database that some rows break: nobody's message is at fault, and it can be repaired."""
    await database.execute(
        f"create function refuse() returns trigger language plpgsql as $$ begin"
        f" if {condition} then raise exception 'not today'; end if; return new; end $$;"
        f"create trigger refuse before insert or update on {table} for each row execute function refuse()"
    )
    yield
    await database.execute("drop function refuse cascade")


async def put_letter(
    js: JetStream, database: Any, message_id: str, order: Order, pool: str = "orders"
) -> None:
    """As if the order had failed three times."""
    headers = {"Nats-Msg-Id": message_id, topology.FRAME_HEADER: "f1", topology.ATTEMPT_HEADER: "3"}
    lost = Gone(topology.line_subject(order.sale_id), 1, messages.encode(order), headers)
    await write_dead_letter(database, js, pool, lost, "ValueError('broken')", 3)


# -- round trips -------------------------------------------------------------------------------------------


async def test_an_order_that_died_is_sent_back_and_done_once(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    """It dies, is sent back too early, dies again within the seconds in which JetStream remembers ids, and is done."""
    bad, good = make_order(customer_id="bad"), make_order()
    subject = topology.seckill_subject("s1")
    async with (
        relay(system, database, ["timers"]),
        drain(system, orders_pool(system, database), topology.ORDERS_POOL),
    ):
        async with broken(database, "orders", "new.customer_id = 'bad'"):
            for number, order in enumerate([bad, good]):
                headers = {topology.FRAME_HEADER: "f1"}
                await system.publish(
                    subject, messages.encode(order), message_id=f"f1.{number}", headers=headers
                )
            await until(lambda: dead(database))
            first = (await letters(database))["f1.0"]
            assert (first["attempts"], first["subject"]) == (3, subject)
            result = await dlq("redrive", "f1.0")
            assert (result.exit_code, result.stdout) == (0, "1 sent back to work.\n")
            await until(lambda: dead(database))
            again = (await letters(database))["f1.0"]
            assert (again["attempts"], again["subject"]) == (3, subject)
            assert again["at"] > first["at"]
            assert msgspec.json.decode(again["headers"])[topology.REDRIVE_HEADER] == "1"
        assert (await dlq("redrive", "f1.0")).exit_code == 0
        await until(lambda: has_row(database, bad))
        await until(lambda: idle(system, topology.ORDERS_POOL))
    assert await letters(database) == {}
    assert await statuses(database) == {bad.order_id: "pending_payment", good.order_id: "pending_payment"}
    assert await database.fetchval("select frame_id from orders where order_id = $1", bad.order_id) == "f1"


async def has_row(database: Any, order: Order) -> bool:
    return order.order_id in await statuses(database)


async def idle(js: JetStream, pool: str) -> bool:
    return await unfinished(js, topology.POOLS[pool].stream, pool) == 0


async def test_an_event_that_died_is_sent_back_and_has_its_effects_once(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    """Nobody else who reads events sees it twice."""
    await drain_batch(database, [order := make_order()])
    event_id = f"{order.order_id}:1"
    async with (
        relay(system, database, ["outbox", "timers"]),
        drain(system, effects_pool(system, database), topology.EFFECTS_POOL),
    ):
        async with broken(database, "order_history", "true"):
            await until(lambda: dead(database))
        assert list(await letters(database)) == [event_id]
        assert (await dlq("redrive", "--pool", "effects")).exit_code == 0
        await until(lambda: idle(system, topology.EFFECTS_POOL))
        await until(lambda: has_history(database))
    assert await letters(database) == {}
    assert await system.count_messages(topology.EVENTS, "order.created") == 1
    effects = await database.fetch("select effect, attempts from audit_effects where event_id = $1", event_id)
    assert {row["effect"] for row in effects} == {"audit", "daily-figures", "notify-customer"}


async def has_history(database: Any) -> bool:
    return bool(await database.fetchval("select count(*) from order_history"))


async def test_an_expiry_that_died_is_sent_back(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    await drain_batch(database, [order := make_order(quantity=2)])
    await database.execute("update orders set expires_at = now() - interval '1 s'")
    due = ExpiryDue(order.order_id, 1.0)
    await system.publish(topology.EXPIRY_SUBJECT, messages.encode(due), message_id=f"{order.order_id}:due")
    async with (
        relay(system, database, ["timers"]),
        drain(system, reaper_pool(system, database), topology.REAPER_POOL),
    ):
        async with broken(database, "orders", "new.status = 'cancelled'"):
            await until(lambda: dead(database))
        assert (await dlq("redrive", f"{order.order_id}:due")).exit_code == 0
        await until(lambda: is_cancelled(database, order))
    assert await letters(database) == {}
    assert await database.fetchval("select available from sales") == 10


async def is_cancelled(database: Any, order: Order) -> bool:
    return (await statuses(database))[order.order_id] == "cancelled"


async def test_a_frame_that_can_be_read_by_now_is_sent_back_as_a_frame(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    """As when an older relay has met the frame of a newer API. The frame of the same name is still there."""
    orders = [make_order() for _ in range(7)]
    await store_frame(system, orders, "f7")
    (frame,) = await system.pull(topology.INTAKE, topology.RELAY).fetch(1, 2.0)
    await write_dead_letter(database, system, topology.RELAY, frame, "unreadable frame", 1)
    await frame.ack()
    assert (await dlq("redrive", "--all")).exit_code == 0
    assert await letters(database) == {}
    async with (
        relay(system, database, ["frames"]),
        drain(system, orders_pool(system, database), topology.ORDERS_POOL),
    ):
        await until(lambda: all_rows(database, orders))
    assert set(await statuses(database)) == {order.order_id for order in orders}


async def all_rows(database: Any, orders: list[Order]) -> bool:
    return len(await statuses(database)) == len(orders)


async def test_a_frame_that_cannot_be_read_stays(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    await system.publish(topology.frame_subject("f8"), b"\xff", headers={topology.FRAME_ORDERS_HEADER: "3"})
    async with relay(system, database, ["frames"]):
        await until(lambda: dead(database))
    (message_id,) = await letters(database)
    result = await dlq("redrive", message_id)
    assert (result.exit_code, result.stdout) == (1, "0 sent back to work.\n")
    assert f"{message_id} stays: this version cannot read the frame either" in result.stderr
    assert list(await letters(database)) == [message_id]
    shown = (await dlq("show", message_id)).stdout
    assert "00000000  ff" in shown
    assert "a frame of 3 orders that were accepted" in shown
    assert "redrive   not possible: this version cannot read" in shown


async def test_a_delivery_that_died_is_due_again_or_given_up(database: Any, dlq: Callable[..., Any]) -> None:
    sent, dropped = uuid.uuid4(), uuid.uuid4()
    for number, one in enumerate([sent, dropped]):
        await database.execute(
            "insert into deliveries (delivery_id, notification_id, tenant, user_id, channel, address, kind, title,"
            " body, state, attempts) values ($1, $2, 't', 'u', 'webhook', 'http://x/', 'k', 't', 'b', 'pending', 3)",
            one, number,
        )  # fmt: skip
    await database.execute(
        "select settle_deliveries($1, '{3,3}', '{dead,dead}', '{null,null}', '{answered 500,answered 500}', '{x,x}')",
        [sent, dropped],
    )
    assert await dead(database, 2)
    assert (await dlq("redrive", f"delivery:{sent}")).exit_code == 0
    assert (await dlq("drop", f"delivery:{dropped}", "--yes")).exit_code == 0
    assert await letters(database) == {}
    rows = await database.fetch("select delivery_id, state, attempts from deliveries")
    assert {row["delivery_id"]: (row["state"], row["attempts"]) for row in rows} == {
        sent: ("pending", 0), dropped: ("dropped", 3),
    }  # fmt: skip


async def test_what_is_gone_cannot_be_sent(system: JetStream, database: Any, dlq: Callable[..., Any]) -> None:
    gone = Gone(topology.gone_subject("SECKILL", "orders"), 7)
    await write_dead_letter(database, system, "orders", gone, "max-deliveries", 50)
    await put_letter(system, database, "of another system", make_order(), pool="elsewhere")
    result = await dlq("redrive", "--all", "--json")
    assert result.exit_code == 1
    problems = {one["message_id"]: one["problem"] for one in json.loads(result.stdout)["problems"]}
    assert problems.keys() == {"gone.SECKILL.orders:7", "of another system"}
    assert "there is nothing to send" in problems["gone.SECKILL.orders:7"]
    assert "there is no pool elsewhere" in problems["of another system"]
    assert await dead(database, 2)


# -- crashes and repeats -----------------------------------------------------------------------------------


class Deaf(JetStream):
    """Stores what it is given and never hears of it."""

    async def publish(self, subject: str, payload: bytes, **options: Any) -> Any:
        await super().publish(subject, payload, **options)
        raise OutcomeUnknownError


async def test_a_redrive_that_never_heard_back_is_repeated_and_counts_once(
    system: JetStream, database: Any, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps trying with the same id, gives up, leaves the letter; the next one finds the message stored."""
    monkeypatch.setattr("peakclip.dead_letters.desk._PATIENCE_SECONDS", 0.3)
    order = make_order()
    await put_letter(system, database, "m1", order)
    async with await Deaf.connect(nats_url, name="deaf") as deaf:
        (done,) = await Desk(database, deaf).redrive([*(await Desk(database).find(["m1"])).values()])
    assert "JetStream has not taken it" in str(done.problem)
    assert list(await letters(database)) == ["m1"]
    (done,) = await Desk(database, system).redrive([*(await Desk(database).find(["m1"])).values()])
    assert done.problem is None
    assert await letters(database) == {}
    assert await system.count_messages(topology.SECKILL, topology.retry_subject("orders")) == 1


async def test_a_letter_that_is_written_again_while_it_is_sent_stays(
    system: JetStream, database: Any
) -> None:
    """Sent, at once worked on, failed again before the row was removed: that row is a new one."""
    await put_letter(system, database, "m1", make_order())
    found = list((await Desk(database).find(["m1"])).values())
    await put_letter(system, database, "m1", make_order())
    for act in (Desk(database, system).redrive, Desk(database).drop):
        await act(found)
        assert list(await letters(database)) == ["m1"]


async def test_a_letter_is_worked_on_once_whoever_sends_it_twice(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    """Two people, the same moment, the same list."""
    orders = [make_order() for _ in range(8)]
    for number, order in enumerate(orders):
        await put_letter(system, database, f"m{number}", order)
    results = await asyncio.gather(dlq("redrive", "--all"), dlq("redrive", "--all"))
    assert [result.exit_code for result in results] == [0, 0]
    assert await system.count_messages(topology.SECKILL, topology.retry_subject("orders")) == 8


# -- the command -------------------------------------------------------------------------------------------


async def test_the_list_shows_the_newest_first_and_never_cuts_an_id(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    assert (await dlq("list")).stdout == "No dead letters.\n"
    long = "a-very-long-id-" * 20
    for message_id, pool in (("m1", "orders"), (long, "effects")):
        await put_letter(system, database, message_id, make_order(), pool=pool)
    await database.execute(
        "update dead_letters set cause = E'two\\nlines \\x1b[31m', at = at - interval '2 h' where message_id = 'm1'"
    )
    header, newest, oldest = (await dlq("list")).stdout.splitlines()
    assert header.split() == ["ID", "POOL", "ATTEMPTS", "AGE", "SUBJECT", "CAUSE"]
    assert newest.startswith(long)
    assert oldest.startswith("m1 ")
    only = (await dlq("list", "--pool", "orders")).stdout.splitlines()[1]
    assert only.split() == ["m1", "orders", "3", "2", "h", "order.seckill.created.s1", "two?lines", "?[31m"]
    answer = json.loads((await dlq("list", "--json", "--pool", "orders")).stdout)
    assert (answer["version"], answer["total"]) == (1, 1)
    assert answer["dead_letters"][0]["cause"] == "two\nlines \x1b[31m"


async def test_a_long_list_is_cut_unless_all_are_asked_for(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    for number in range(60):
        await put_letter(system, database, f"m{number}", make_order())
    lines = (await dlq("list")).stdout.splitlines()
    assert (len(lines), lines[-1]) == (52, "and 10 older ones (--all)")
    assert len((await dlq("list", "--all")).stdout.splitlines()) == 61


async def test_one_is_shown_with_all_that_is_known_of_it(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    order = make_order(customer_id="ada", quantity=2)
    await put_letter(system, database, "m1", order)
    result = await dlq("show", "m1", "m2")
    assert result.exit_code == 1
    assert result.stderr == "m2: there is no such dead letter\n"
    for said in (
        "cause     ValueError('broken')",
        f"{topology.FRAME_HEADER}: f1",
        f'      "order_id": "{order.order_id}"',
        "redrive   begins anew on retry.orders",
        f"drop      loses accepted orders (202) that never become rows: {order.order_id} of ada, 2 of sale s1",
    ):
        assert said in result.stdout
    shown = json.loads((await dlq("show", "m1", "--json")).stdout)
    assert messages.decode_order(shown["payload"].encode()) == order
    assert shown["headers"][topology.FRAME_HEADER] == "f1"


async def test_hundreds_are_sent_back_page_by_page(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    for number in range(250):
        await put_letter(
            system, database, f"m{number}", make_order(), pool="orders" if number % 2 else "effects"
        )
    result = await dlq("redrive", "--pool", "orders", "--json")
    assert json.loads(result.stdout) == {"version": 1, "redriven": 125, "problems": [], "unknown": []}
    assert await dead(database, 125)
    assert await system.count_messages(topology.SECKILL, topology.retry_subject("orders")) == 125


async def test_nothing_is_dropped_without_a_yes_and_what_is_stays_on_record(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    order = make_order()
    await put_letter(system, database, "m1", order)
    await put_letter(system, database, "m2", make_order())
    refused = await dlq("drop", "m1", input="n\n")
    assert refused.exit_code == 1
    assert f"m1: loses accepted orders (202) that never become rows: {order.order_id}" in refused.stderr
    assert (await dlq("drop", "--all", input="")).exit_code == 1
    assert await dead(database, 2)
    result = await dlq("drop", "m1", "nowhere", "--yes")
    assert (result.exit_code, result.stdout) == (1, "1 dropped.\n")
    assert "nowhere: there is no such dead letter" in result.stderr
    assert list(await letters(database)) == ["m2"]
    (kept,) = await database.fetch("select * from dropped_dead_letters")
    assert (kept["message_id"], kept["pool"], kept["attempts"]) == ("m1", "orders", 3)
    assert msgspec.json.decode(kept["order_ids"]) == [order.order_id]
    assert (await dlq("drop", "--all", input="y\n")).exit_code == 0
    assert await letters(database) == {}


async def test_units_of_an_order_that_is_given_up_go_back_on_offer_once(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    """Not those of an order that has its row, of a poison message, or of one that took none."""
    given_up, stored = make_order(quantity=3), make_order()
    await drain_batch(database, [stored])
    await database.execute("truncate outbox")
    strange = [make_order(order_id="not-a-uuid"), make_order(quantity=2**40), make_order(sale_id="nowhere")]
    for number, order in enumerate([given_up, stored, *strange]):
        await put_letter(system, database, f"m{number}", order)
    for _ in range(2):
        await dlq("drop", "--all", "--yes")
    rows = await database.fetch("select message_id, subject, increment from outbox")
    assert [tuple(row) for row in rows] == [(f"d-m0-{given_up.order_id}", "stock.s1", 3)]


@pytest.mark.parametrize("arguments", [("redrive",), ("drop",), ("redrive", "m1", "--all"), ("show",)])
async def test_it_must_be_said_which_letters(dlq: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    assert (await dlq(*arguments)).exit_code == 2


async def test_servers_that_are_away_are_one_sentence(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peakclip.cli.dlq._PATIENCE_SECONDS", 0.3)
    nowhere = ["--nats-url", nats_url, "--database-url", "postgresql://u:secret@127.0.0.1:1/x"]
    result = await asyncio.to_thread(CliRunner().invoke, command, ["list", *nowhere])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PostgreSQL at 127.0.0.1:1 did not answer within 0.3 s")
    assert "secret" not in result.output


# -- who hears of it ---------------------------------------------------------------------------------------


async def test_a_dead_letter_is_told_once_it_is_written(js: JetStream, database: Any) -> None:
    heard: list[Any] = []

    async def listen(message: Any) -> None:
        seen = await database.fetchval("select count(*) from dead_letters")
        heard.append((message.subject, msgspec.json.decode(message.data), seen))

    await js.subscribe_core("dlq.>", listen)
    await put_letter(js, database, "m1", make_order())
    await until(lambda: heard)
    ((subject, notice, seen),) = heard
    assert (subject, seen) == ("dlq.orders", 1)
    (row,) = (await letters(database)).values()
    assert notice == {
        "message_id": "m1", "pool": "orders", "cause": "ValueError('broken')", "attempts": 3,
        "at": row["at"].isoformat().replace("+00:00", "Z"),
    }  # fmt: skip


async def test_dead_letters_are_counted_for_every_pool(js: JetStream, database: Any) -> None:
    from peakclip import telemetry

    def gauge(pool: str) -> float:
        return telemetry.DEAD_LETTERS.labels(pool)._value.get()

    counts = DeadLetterCounts(database)
    await put_letter(js, database, "m1", make_order())
    await put_letter(js, database, "m2", make_order(), pool="elsewhere")
    await counts.count()
    assert [gauge(pool) for pool in ("orders", "effects", "reaper", "relay", "elsewhere")] == [1, 0, 0, 0, 1]
    await database.execute("delete from dead_letters where pool = 'elsewhere'")
    await counts.count()
    assert gauge("elsewhere") == 0
    await database.execute("alter table dead_letters rename to away")
    await counts.count()
    assert str(gauge("orders")) == "nan", "unknown, and not what it was"


async def test_units_on_offer_are_not_touched_by_a_redrive(
    system: JetStream, database: Any, dlq: Callable[..., Any]
) -> None:
    """The order's reservation still stands: the frame that made it is readable."""
    await put_letter(system, database, "m1", make_order())
    await dlq("redrive", "m1")
    async with drain(system, orders_pool(system, database), topology.ORDERS_POOL):
        await until(lambda: idle(system, topology.ORDERS_POOL))
    assert await on_offer(system) == 10
    assert await database.fetchval("select count(*) from outbox where increment is not null") == 0
