"""The reading page of the API in a real browser: all of it, on a desktop and on a phone, from this process alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openapi
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, expect

from peakclip_api.routes import docs

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

OPERATIONS = [(method, path) for method, path, _ in openapi.operations()]
CREATE_SALE = "#operations-Flash_sales-createSale"


@pytest_asyncio.fixture(loop_scope="module")
async def url() -> AsyncIterator[str]:
    app = web.Application()
    docs.add_routes(app)
    async with TestServer(app) as server:
        yield str(server.make_url("/docs"))


async def scrolls_sideways(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@pytest.mark.parametrize("width", [1280, 390])
async def test_every_operation_is_listed_and_can_be_opened(page: Page, url: str, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.goto(url)
    await expect(page.locator(".opblock")).to_have_count(len(OPERATIONS))
    methods = await page.locator(".opblock-summary-method").all_inner_texts()
    paths = await page.locator(".opblock-summary-path").all_inner_texts()
    shown = [(method, path.replace("\u200b", "")) for method, path in zip(methods, paths, strict=True)]
    assert sorted(shown) == sorted(OPERATIONS)
    assert not await scrolls_sideways(page)
    await page.locator(f"{CREATE_SALE} .opblock-summary-control").click()
    opened = page.locator(f"{CREATE_SALE} .opblock-body")
    await expect(opened).to_contain_text("Roles: admin.")
    await expect(opened).to_contain_text("idempotency-key-required")
    await expect(opened).to_contain_text('"per_customer_limit"')
    assert not await scrolls_sideways(page)
    for part in (await opened.bounding_box(), await page.locator(CREATE_SALE).bounding_box()):
        assert part is not None
        assert part["x"] >= 0
        assert part["x"] + part["width"] <= width


async def test_nothing_is_asked_of_another_place(page: Page, url: str) -> None:
    """The page's policy would refuse it; this sees that nothing even tries."""
    origin, asked = url.removesuffix("/docs"), []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(url)
    await expect(page.locator(".opblock")).to_have_count(len(OPERATIONS))
    for number in (0, 4, -1):
        await page.locator(".opblock-summary-control").nth(number).click()
    await expect(page.locator(".opblock.is-open .opblock-body")).to_have_count(3)
    assert [address for address in asked if not address.startswith(f"{origin}/")] == []
    assert f"{origin}/docs/description.json" in asked


async def test_an_operation_can_be_tried(page: Page, url: str) -> None:
    await page.goto(url)
    block = page.locator("#operations-Pages-getDescription")
    await block.locator(".opblock-summary-control").click()
    await block.get_by_role("button", name="Try it out").click()
    await block.get_by_role("button", name="Execute").click()
    await expect(block.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
    await expect(block.locator(".live-responses-table")).to_contain_text("3.1.0")


async def test_a_credential_can_be_given(page: Page, url: str) -> None:
    sent: list[str | None] = []
    page.on("request", lambda request: sent.append(request.headers.get("authorization")))
    await page.goto(url)
    await page.get_by_role("button", name="Authorize").click()
    await page.locator(".modal-ux input").fill("pk_of_this_test")
    await page.locator(".modal-ux").locator("button.authorize").click()
    await page.locator(".modal-ux").locator("button.btn-done").click()
    block = page.locator("#operations-Flash_sales-listSales")
    await block.locator(".opblock-summary-control").click()
    await block.get_by_role("button", name="Try it out").click()
    await block.get_by_role("button", name="Execute").click()
    await expect(block.locator(".live-responses-table tbody .response-col_status")).to_contain_text("404")
    assert "Bearer pk_of_this_test" in sent
    page.complaints.clear()  # type: ignore[attr-defined]  # the 404: this small server has no sales
