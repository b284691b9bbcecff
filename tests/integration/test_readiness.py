"""What `/readyz` says, and to whom."""

from __future__ import annotations

import aiohttp
import pytest

from peakclip.service import Service, _management
from peakclip.settings import Settings


@pytest.fixture
def service() -> Service:
    service = Service()
    service.check("nats", lambda: False)
    return service


async def asked(service: Service, query: str = "") -> tuple[int, list[str]]:
    async with _management(service, Settings()), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{service.management_port}/readyz{query}"
        async with session.get(url) as answer:
            return answer.status, (await answer.json())["missing"]


async def test_a_check_that_is_left_out_does_not_count(service: Service) -> None:
    service.ready()
    assert await asked(service) == (503, ["nats"])
    assert await asked(service, "?exclude=nats") == (200, [])
    assert await asked(service, "?exclude=schema") == (503, ["nats"])


async def test_the_start_and_the_end_always_count(service: Service) -> None:
    assert await asked(service, "?exclude=nats") == (503, ["starting"])
    service.ready()
    service.stopping.set()
    assert await asked(service, "?exclude=nats") == (503, ["stopping"])
