"""An API process that is asked to stop: nobody's request is cut off, and clients change over to other processes."""

from __future__ import annotations

import asyncio

import aiohttp
import asyncpg
import pytest
from support import Api, store_keys, until

from peakclip.jetstream import JetStream
from peakclip.local import ports
from peakclip.service import Service
from peakclip_api.main import serve
from peakclip_api.settings import ApiSettings


@pytest.mark.integration
@pytest.mark.parametrize("express_lane", [True, False])
async def test_answers_end_their_connections_before_the_process_ends(
    js: JetStream, nats_url: str, fresh_database_url: str, express_lane: bool
) -> None:
    async with asyncpg.create_pool(fresh_database_url, min_size=1, max_size=1) as database:
        await store_keys(database)
    port, service = ports.free_port(), Service()
    settings = ApiSettings(
        nats_url=nats_url,
        database_url=fresh_database_url,
        port=port,
        express_lane=express_lane,
        leave_seconds=3,
    )
    serving = asyncio.create_task(serve(settings, service))
    await until(lambda: not service.missing())
    # One connection, kept: what the client would use for its next request.
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(f"http://{ports.LOOPBACK}:{port}", connector=connector) as client:
        api = Api(client, None, service)  # type: ignore[arg-type]
        sale = await api.sale()
        answer = await api.order(sale)
        assert (answer.status, answer.headers.get("Connection")) == (202, None)

        service.stopping.set()
        for _ in range(2):  # the second on a new connection: proxies may not have heard yet
            answer = await api.order(sale)
            assert (answer.status, answer.headers.get("Connection")) == (202, "close")
        assert service.missing() == ["stopping"]

        await asyncio.wait_for(serving, 30)
        with pytest.raises(aiohttp.ClientConnectorError):
            await api.order(sale)
    await service.cancel_side_tasks()
    assert service.failure is None
