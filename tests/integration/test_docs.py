"""`/openapi.json` and `/docs` over HTTP. They need neither NATS nor PostgreSQL, and no credential."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import openapi
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from peakclip_api.routes import docs

pytestmark = pytest.mark.integration


@pytest.fixture
async def client() -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    docs.add_routes(app)
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def test_machines_get_the_description_as_it_is(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/openapi.json")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert await answer.json() == openapi.DOCUMENT
    again = await client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


async def test_the_page_is_strict_and_whole(client: TestClient[Any, Any]) -> None:
    page = await client.get("/docs")
    assert (page.status, page.content_type) == (200, "text/html")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert "data:" not in page.headers["Content-Security-Policy"]
    text = await page.text()
    assert re.findall(r"<script(?![^>]* src=)", text) == []
    assert re.findall(r"https?:", text) == []
    files = re.findall(r'(?:src|href)="(docs/[^"]+)"', text)
    assert len(files) >= 5
    for name in files:
        assert (await client.get(f"/{name}")).status == 200, name


async def test_the_images_of_the_page_are_files(client: TestClient[Any, Any]) -> None:
    """As `data:` the policy would refuse them."""
    for name, folder in (("swagger-ui.css", "/docs/"), ("swagger-ui-bundle.js", "/")):
        text = await (await client.get(f"/docs/{name}")).text()
        assert "data:image/svg" not in text
        images = re.findall(r'["(]((?:docs/)?swagger-ui-[a-z-]+\d\.svg)', text)
        assert images
        for image in images:
            answer = await client.get(folder + image)
            assert (answer.status, answer.content_type) == (200, "image/svg+xml"), image
            assert (await answer.text()).startswith("<svg")


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fkeys.py", "%2fetc%2fpasswd", "swagger-ui.js.map", "docs.css%00"]
)
async def test_nothing_else_is_served(client: TestClient[Any, Any], name: str) -> None:
    assert (await client.get(f"/docs/{name}")).status in (400, 404)
