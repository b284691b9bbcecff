"""Three nats-servers on this machine, every stream on all of them: a burst goes on when one of them is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from processes import Processes
from support import SERVICE_KEY, store_keys, until

from peakclip import topology
from peakclip.audit import audit_system
from peakclip.cli.migrate import MigrationError, make_streams
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.load.outcome import LoadOptions, Progress
from peakclip.load.run import run_load
from peakclip.local import ports
from peakclip.local.nats import NatsServer

NODES = 3
ORDERS = 1_000
# A group whose answer died with the node holds its units until the relay returns them; meanwhile they cannot be sold.
SPARE = 500


class Cluster:
    """Prepared from the configuration of the embedded server: the same roles, one password for all nodes."""

    def __init__(self, folder: Path) -> None:
        routes = [ports.free_port() for _ in range(NODES)]
        self.nodes: list[NatsServer] = []
        kept = ""
        for number, port in enumerate(routes):
            node = folder / f"node-{number}"
            node.mkdir(parents=True)
            if kept:
                (node / "settings.json").write_text(kept)
            self.nodes.append(NatsServer(node).prepare())
            passwords = json.loads((node / "settings.json").read_text())["passwords"]
            kept = json.dumps({"passwords": passwords})
            others = ", ".join(f'"nats-route://route:secret1@{ports.LOOPBACK}:{one}"' for one in routes)
            conf = node / "nats.conf"
            conf.write_text(
                conf.read_text().replace("server_name: peakclip", f"server_name: node-{number}")
                + f'cluster {{name: peakclip, listen: "{ports.LOOPBACK}:{port}", routes: [{others}],\n'
                + 'authorization {user: route, password: "secret1"}}\n'
            )

    def url_of(self, user: str) -> str:
        return ",".join(node.url_of(user) for node in self.nodes)

    async def leader_of(self, js: JetStream, stream: str) -> NatsServer:
        answer = await js._api(f"STREAM.INFO.{stream}")
        return self.nodes[int(answer["cluster"]["leader"].removeprefix("node-"))]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path / "nats")
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    yield cluster
    await asyncio.gather(*(node.stop() for node in cluster.nodes))


async def test_a_burst_outlives_a_node(
    cluster: Cluster, tmp_path: Path, database: Any, fresh_database_url: str
) -> None:
    await make_streams(cluster.url_of("setup"), NODES)
    await make_streams(cluster.url_of("setup"))  # by hand, and without a word of copies: they stay
    processes = Processes(tmp_path, cluster.url_of, fresh_database_url)
    try:
        for name in ("api", "relay", "operator"):
            processes.start(name)
        async with await JetStream.connect(cluster.url_of("admin"), name="test", timeout_seconds=5.0) as js:
            await _is_on_all_nodes(js)
            await store_keys(database)
            await until(processes.all_ready, 60)
            sale = await processes.open_sale(ORDERS + SPARE)
            await set_pace(js, topology.ORDERS_POOL, limit_per_second=400)
            doomed = await cluster.leader_of(js, topology.INTAKE)
            result = await _burst(processes.port, sale, doomed)
            assert (result.accepted, result.refused, result.errors) == (ORDERS, {}, 0), result.error_causes
            assert not doomed.running
            rows = "select count(*) from orders where sale_id = $1"
            await until(lambda: _is(database, rows, sale, ORDERS), 60)
            audit, reasons = await audit_system(database, js, accepted=None, wait_seconds=60.0, rate=None)
            assert (audit.violations, reasons) == ([], [])
    finally:
        await asyncio.gather(*(child.stop() for child in processes.running.values()))


async def _is_on_all_nodes(js: JetStream) -> None:
    for name in topology.STREAMS:
        config = (await js.stream_state(name)).config
        assert config["num_replicas"] == NODES, name


async def _burst(port: int, sale: str, doomed: NatsServer) -> Any:
    killing: list[asyncio.Task[None]] = []

    def kill_in_the_middle(progress: Progress) -> None:
        if progress.accepted > ORDERS / 4 and not killing:
            killing.append(asyncio.create_task(doomed.kill()))

    url = f"http://{ports.LOOPBACK}:{port}"
    options = LoadOptions(url, sale, SERVICE_KEY, orders=ORDERS, connections=64)
    result = await run_load(options, progress=kill_in_the_middle, every=0.01)
    await asyncio.gather(*killing)
    return result


async def _is(database: Any, statement: str, argument: str, wanted: int) -> bool:
    return bool(await database.fetchval(statement, argument) == wanted)


async def test_more_copies_than_nodes_are_refused_in_a_sentence(nats_server: NatsServer) -> None:
    await nats_server.start()
    with pytest.raises(MigrationError, match=r"The streams were not made: replicas > 1 not supported"):
        await asyncio.wait_for(make_streams(nats_server.url_of("setup"), NODES), 30)
