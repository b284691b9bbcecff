from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from peakclip_api.problems import KIND, Problem, problems, retry_later


async def told(exc: Exception, *, left: bool = False) -> web.StreamResponse:
    request = make_mocked_request("POST", "/v1/orders")
    if left:
        request.protocol.transport = None

    async def handler(_: web.Request) -> web.Response:
        raise exc

    return await problems(request, handler)


async def test_a_database_that_is_away_is_a_503() -> None:
    response = await told(ConnectionResetError())
    assert (response.status, response[KIND], response.headers["Retry-After"]) == (
        503, "database-unavailable", "1",
    )  # fmt: skip


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_database() -> None:
    response = await told(ConnectionResetError(), left=True)
    assert response.status == 499
    assert KIND not in response


@pytest.mark.parametrize("problem", [retry_later("too-busy", "d"), Problem(413, "body-too-large", "d")])
def test_what_is_written_by_hand_is_what_aiohttp_would_write(problem: Problem) -> None:
    response: Any = problem.response()
    head, _, body = problem.raw(b"Date: today\r\n").partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first.startswith(f"HTTP/1.1 {response.status} ")
    assert headers.pop("Date") == "today"
    assert int(headers.pop("Content-Length")) == len(body)
    assert headers == dict(response.headers)
    assert msgspec.json.decode(body) == msgspec.json.decode(response.body)
