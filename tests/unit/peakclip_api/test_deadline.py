from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from peakclip_api.deadline import within, without_end
from peakclip_api.problems import Problem


async def answer_of(handler: Any, seconds: float) -> Any:
    middleware: Any = within(seconds)
    return await middleware(make_mocked_request("GET", "/"), handler)


async def test_what_takes_too_long_may_come_again() -> None:
    ended: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")
        raise AssertionError

    with pytest.raises(Problem) as caught:
        await answer_of(handler, 0.0)
    assert (caught.value.status, caught.value.kind) == (503, "too-busy")
    assert caught.value.headers["Retry-After"]
    assert ended


async def test_a_time_out_of_the_handlers_own_is_its_own() -> None:
    async def handler(request: web.Request) -> web.Response:
        raise TimeoutError("of the database")

    with pytest.raises(TimeoutError, match="database"):
        await answer_of(handler, 60.0)


async def test_a_stream_may_last() -> None:
    async def handler(request: web.Request) -> web.Response:
        without_end(request)
        for _ in range(20):
            await asyncio.sleep(0)
        return web.Response()

    assert (await answer_of(handler, 0.0)).status == 200
