"""A real headless chromium. Without one the tests fail with a sentence; `-m "not browser"` leaves them out."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browser.harness import Site
from playwright.async_api import Browser, Page, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium_path() -> str:
    for name in (os.environ.get("PEAKCLIP_CHROMIUM", ""), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    pytest.fail(
        "The browser tests need chromium: install it (Debian: apt-get install chromium), name its path in "
        'PEAKCLIP_CHROMIUM, or leave them out with -m "not browser".',
        pytrace=False,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # No sandbox: it needs user namespaces, which containers and root do not have; only our own page is loaded.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        launched = await playwright.chromium.launch(executable_path=chromium_path(), args=arguments)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """1280 × 800, light. What the page complains about is collected, and fails the test that does not expect it."""
    complaints: list[str] = []
    opened = await browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None
    )
    opened.complaints = complaints  # type: ignore[attr-defined]
    yield opened
    await opened.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="module")
async def site(page: Page, nats_url: str) -> AsyncIterator[Site]:
    served = await Site(nats_url).start()
    yield served
    await page.goto("about:blank")  # or it would complain of the connection that ends
    await served.stop()
