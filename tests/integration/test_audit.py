"""The auditor against real servers: a sound system, then each kind of damage done to the data itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pools import effects_pool
from support import drain_batch

from peakclip import messages, topology
from peakclip.audit import RateLimit, audit_system, run_audit
from peakclip.audit.rest import look, under_way
from peakclip.cli.audit import command
from peakclip.jetstream import JetStream, OutMessage
from peakclip.limiter.pace import set_pace
from peakclip_worker.dead_letters import write_dead_letter
from peakclip_worker.outbox import Outbox

pytestmark = pytest.mark.integration

SALE = "sale-1"
RATE = RateLimit(100, 5)
IDS = {f"order-{n}": messages.order_id("t", f"key-{n}") for n in range(3)}


def order(name: str, quantity: int = 1) -> messages.Order:
    return messages.Order(IDS[name], "t", f"customer-{name}", SALE, quantity, "print", 1_800_000_000.0)


async def fill(js: JetStream, database: Any) -> None:
    """Ten units; three orders went from their frame through the queue into the table. A fence is there."""
    await js.publish(topology.stock_subject(SALE), b"", headers={"Nats-Incr": "+10"})
    await database.execute(
        "insert into sales (sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at,"
        " per_customer_limit, pay_within_seconds, fingerprint)"
        " values ($1, 't', 'p', 100, 10, 10, now(), now() + interval '1 day', 1, 900, 'print')",
        SALE,
    )
    fence = {topology.FRAME_ORDERS_HEADER: "0"}
    await js.publish(topology.frame_subject("f0"), b"", create_only=True, headers=fence)
    await accept(js, "f1", [order(name) for name in IDS])
    await relay(js, "f1", [order(name) for name in IDS])
    await write(js, database, [order(name) for name in IDS])
    for stream, consumer in (
        (topology.INTAKE, "relay"),
        (topology.SECKILL, topology.ORDERS_POOL),
        (topology.STOCK, "reconciler"),
    ):
        await finish(js, stream, consumer)


async def accept(js: JetStream, frame_id: str, orders: list[messages.Order]) -> None:
    units = sum(one.quantity for one in orders)
    await js.increment(topology.stock_subject(SALE), -units, message_id=f"g-{frame_id}")
    headers = {topology.FRAME_ORDERS_HEADER: str(len(orders))}
    await js.publish(
        topology.frame_subject(frame_id), messages.encode_frame(orders), create_only=True, headers=headers
    )


async def relay(js: JetStream, frame_id: str, orders: list[messages.Order]) -> None:
    await js.publish_batch(
        [
            OutMessage(
                topology.seckill_subject(SALE), messages.encode(one), {"Nats-Msg-Id": f"{frame_id}-{n}"}
            )
            for n, one in enumerate(orders)
        ]
    )


async def write(js: JetStream, database: Any, orders: list[messages.Order]) -> None:
    """As a worker, the outbox and the effects do: rows, events, and what they bring about."""
    await drain_batch(database, orders, "f1")
    await tell(js, database)


async def tell(js: JetStream, database: Any) -> None:
    outbox, effects = Outbox(js, database), effects_pool(js, database)
    while await outbox._publish_some():
        pass
    pull = js.pull(topology.EVENTS, topology.EFFECTS_POOL)
    while batch := await pull.fetch(100, 0.2):
        await effects.process(batch, 0.0)
        for message in batch:
            await message.ack()


async def finish(js: JetStream, stream: str, consumer: str) -> None:
    pull = js.pull(stream, consumer)
    while batch := await pull.fetch(100, 0.2):
        for message in batch:
            await message.ack()


def accepted() -> dict[str, int]:
    return dict.fromkeys(IDS.values(), 1)


async def test_a_sound_system_passes(js: JetStream, database: Any) -> None:
    await fill(js, database)
    result, reasons = await audit_system(database, js, accepted=accepted(), wait_seconds=5, rate=RATE)
    assert reasons == []
    assert result.at_rest
    assert result.violations == []
    assert "3 rows" in result.checks[0].detail


async def test_an_empty_system_passes(js: JetStream, database: Any) -> None:
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert result.violations == []


async def test_a_deleted_row_is_a_lost_order(js: JetStream, database: Any) -> None:
    await fill(js, database)
    await database.execute("delete from orders where order_id = $1", IDS["order-1"])
    result = await run_audit(database, js, accepted=set(accepted()), at_rest=True, rate=RATE)
    assert result.lost == 1
    assert result.violations[0].rows == [{"order_id": IDS["order-1"], "seen": "SECKILL 2"}]
    assert result.undersold == 1  # its unit is reserved for nobody


async def test_a_row_that_nobody_accepted_is_found(js: JetStream, database: Any) -> None:
    await fill(js, database)
    stranger = messages.order_id("t", "stranger")
    await database.execute("update orders set order_id = $2 where order_id = $1", IDS["order-1"], stranger)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    found = {violation.message: violation.rows for violation in result.violations}
    assert found["a row that no frame holds: never accepted"][0]["order_id"] == stranger
    assert result.lost == 1


async def test_purged_frames_are_not_held_against_their_rows(js: JetStream, database: Any) -> None:
    await fill(js, database)
    await js.purge_below(topology.INTAKE, 100)
    await js.purge_below(topology.SECKILL, 100)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert result.violations == []
    assert "judged in part" in result.checks[0].detail


@pytest.mark.parametrize(
    ("damage", "harm"),
    [
        ("update sales set initial = 11, available = available + 1", None),
        ("update orders set quantity = 9 where customer_id = 'customer-order-0'", "oversold"),
        ("update orders set status = 'cancelled' where customer_id = 'customer-order-0'", "undersold"),
        ("update sales set available = available + 1, reserved = reserved - 1", "duplicated"),
    ],
)
async def test_changed_stock_is_found(js: JetStream, database: Any, damage: str, harm: str | None) -> None:
    """The first is stock added to the database alone: nobody can buy it before the counter knows."""
    await fill(js, database)
    await database.execute(damage)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert 2 in {violation.invariant for violation in result.violations}
    assert getattr(result, harm or "undersold") > 0


@pytest.mark.parametrize(("delta", "undersold"), [(-2, 2), (+2, 0)])
async def test_a_counter_that_moved_alone_is_found(
    js: JetStream, database: Any, delta: int, undersold: int
) -> None:
    await fill(js, database)
    await js.increment(topology.stock_subject(SALE), delta)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert [violation.invariant for violation in result.violations] == [2]
    assert result.undersold == undersold


async def test_starts_above_the_rate_are_found(js: JetStream, database: Any) -> None:
    await fill(js, database)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RateLimit(1, 1))
    assert [violation.invariant for violation in result.violations] == [7]


async def test_without_a_given_rate_the_pace_in_force_is_the_bound(js: JetStream, database: Any) -> None:
    await fill(js, database)
    result = await run_audit(database, js, accepted=None, at_rest=True)
    assert result.checks[-1].not_checked is not None
    await set_pace(js, topology.ORDERS_POOL, limit_per_second=0.5, burst=2)
    await database.execute("update orders set started_at = now() + interval '1 hour'")
    result = await run_audit(database, js, accepted=None, at_rest=True)
    assert "3 starts" in result.checks[-1].detail
    assert [violation.invariant for violation in result.violations] == [7]
    await database.execute("update orders set started_at = '2020-01-01Z'")
    result = await run_audit(database, js, accepted=None, at_rest=True)
    assert "0 starts, since the rate in force began" in result.checks[-1].detail
    assert result.violations == []


async def test_poison_that_vanished_is_found(js: JetStream, database: Any) -> None:
    await fill(js, database)
    await js.publish(topology.seckill_subject(SALE), b"\xff not an order", message_id="f9-0")
    await finish(js, topology.SECKILL, topology.ORDERS_POOL)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert [violation.invariant for violation in result.violations] == [6]
    await database.execute(
        "insert into dead_letters (message_id, pool, subject, headers, payload, cause, attempts)"
        " values ('f9-0', 'orders', 's', '{}', 'x', 'not an order', 1)"
    )
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert result.violations == []


async def test_a_poisoned_frame_is_sought_under_the_name_that_dead_letters_have(
    js: JetStream, database: Any
) -> None:
    await fill(js, database)
    await js.publish(
        topology.frame_subject("f9"), b"not a frame", headers={topology.FRAME_ORDERS_HEADER: "1"}
    )
    (poison,) = await js.pull(topology.INTAKE, "relay").fetch(1, 1.0)
    await poison.ack()
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert [violation.invariant for violation in result.violations] == [6]
    await write_dead_letter(database, js, "relay", poison, "not a frame", 1)
    result = await run_audit(database, js, accepted=None, at_rest=True, rate=RATE)
    assert result.violations == []


async def test_orders_under_way_are_neither_lost_nor_at_rest(js: JetStream, database: Any) -> None:
    await fill(js, database)
    late = messages.Order(messages.order_id("t", "late"), "t", "late", SALE, 1, "print", 1_800_000_100.0)
    await accept(js, "f2", [late])
    known = {**accepted(), late.order_id: 1}
    result, reasons = await audit_system(database, js, accepted=known, wait_seconds=0, rate=RATE)
    assert result.violations == []
    assert not result.at_rest
    assert "INTAKE/relay: 1 not finished" in reasons
    await relay(js, "f2", [late])
    await finish(js, topology.INTAKE, "relay")
    result, reasons = await audit_system(database, js, accepted=known, wait_seconds=0, rate=RATE)
    assert result.violations == []
    assert "SECKILL/orders: 1 not finished" in reasons


async def test_rest_is_waited_for(js: JetStream, database: Any) -> None:
    await fill(js, database)
    late = messages.Order(messages.order_id("t", "late"), "t", "late", SALE, 1, "print", 1_800_000_100.0)
    await accept(js, "f2", [late])

    async def later() -> None:
        await asyncio.sleep(0.7)
        await relay(js, "f2", [late])
        await finish(js, topology.INTAKE, "relay")
        await write(js, database, [late])
        await finish(js, topology.SECKILL, topology.ORDERS_POOL)

    audit, _ = await asyncio.gather(
        audit_system(database, js, accepted={late.order_id: 1}, wait_seconds=20, rate=RATE), later()
    )
    result, reasons = audit
    assert reasons == []
    assert result.at_rest
    assert result.violations == []


async def test_an_outbox_row_means_not_at_rest(js: JetStream, database: Any) -> None:
    await fill(js, database)
    await database.execute("insert into outbox (message_id, subject, increment) values ('b-1', 'stock.s', 1)")
    assert under_way(await look(database, js)) == ["outbox: 1 rows not yet published"]


# -- the command -------------------------------------------------------------------------------------------


async def audit(*arguments: str) -> Result:
    """In a thread: the command runs a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, command, list(arguments))


async def test_the_command_reports_and_exits_0_or_1(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str, tmp_path: Path
) -> None:
    await fill(js, database)
    servers = {"nats_url": nats_url, "database_url": fresh_database_url}
    (tmp_path / "credentials.json").write_text(json.dumps(servers))
    ids = tmp_path / "accepted"
    ids.write_text("".join(f"{order_id} 1\n" for order_id in IDS.values()))
    arguments = ("--data", str(tmp_path), "--accepted", str(ids), "--rate", "100", "--wait", "5")
    result = await audit(*arguments)
    assert result.exit_code == 0, result.output
    assert "1  accepted orders        holds" in result.output
    assert (
        "4  payment against expiry holds        0 payments, 0 refunds, 0 orders that were paid"
        in result.output
    )
    assert (
        "5  effects happen once    holds        9 effects of 3 events, 0 events not finished" in result.output
    )
    assert "lost 0, duplicated 0, oversold 0, undersold 0" in result.output

    await database.execute("delete from orders where order_id = $1", IDS["order-1"])
    result = await audit(*arguments)
    assert result.exit_code == 1, result.output
    assert IDS["order-1"] in result.output
    result = await audit(*arguments, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["lost"] == 1


async def test_the_command_exits_2_when_rest_does_not_come(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    await fill(js, database)
    await accept(js, "f2", [messages.Order(messages.order_id("t", "x"), "t", "x", SALE, 1, "p", 1.8e9)])
    result = await audit(
        "--nats-url", nats_url, "--database-url", fresh_database_url, "--rate", "100", "--wait", "0.5"
    )
    assert result.exit_code == 2, result.output
    assert "did not come to rest within 0.5 s" in result.output
    assert "2  admission counters     not checked" in result.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "say where the servers are"),
        (("--data", "/nonexistent"), "credentials.json does not exist"),
    ],
)
async def test_the_command_exits_2_without_servers(arguments: tuple[str, ...], why: str) -> None:
    result = await audit(*arguments)
    assert result.exit_code == 2
    assert why in result.output


async def test_the_command_exits_2_at_a_line_that_is_no_order(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("\nnonsense\n")
    result = await audit("--nats-url", "n", "--database-url", "d", "--accepted", str(tmp_path / "ids"))
    assert result.exit_code == 2
    assert "line 2" in result.output
