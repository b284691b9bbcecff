"""The shop window in a real browser against a whole stack: two tabs, a customer and a provider.

PEAKCLIP_PICTURES=DIR keeps pictures of what a person sees, on a desktop's and a phone's width, light and dark.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from faults.system import environ
from playwright.async_api import Browser, Page, expect

from peakclip.cli.shop import Links, open_shop
from peakclip.local.stack import Stack, StackOptions

PAY_WITHIN = 25
PATIENCE_MS = 30_000
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(server_directory: Path) -> AsyncIterator[Stack]:
    options = StackOptions(data=server_directory / "shop", rate=200, api_processes=1)
    async with Stack(options, environ()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def links(stack: Stack) -> Links:
    return await open_shop(dict(stack.credentials), "ada", stock=3, pay_within=PAY_WITHIN)


@pytest_asyncio.fixture(loop_scope="module")
async def second(browser: Browser) -> AsyncIterator[Page]:
    opened = await browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    await opened.close()


async def picture(page: Page, name: str) -> None:
    """Looks at the page in every size and colour: nothing sticks out; a picture if somebody wants it."""
    folder = os.environ.get("PEAKCLIP_PICTURES")
    for size, (width, height) in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}, {size}"
        for scheme in ("light", "dark") if folder else ():
            await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            await page.screenshot(path=f"{folder}/{name}-{size}-{scheme}.png", full_page=True)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 1280, "height": 900})


async def test_a_sale_by_hand_from_the_purchase_to_the_review(page: Page, second: Page, links: Links) -> None:
    await page.goto(links.customer)
    await expect(page.locator("#link")).to_have_text("Live")
    assert "pk_" not in page.url, "the key leaves the address bar"
    sale = page.locator(f"#sales [data-id='{links.sale_id}']")
    await expect(sale).to_contain_text("3 of 3 left")
    await picture(page, "sale")

    await sale.locator("[data-action=buy]").click()
    order = page.locator("#mine .order").first
    await expect(order).to_have_attribute("data-status", "pending_payment")
    await expect(order.locator("[data-left]")).to_contain_text("s")
    await expect(page.locator("#customer-feed li").first).to_be_visible()
    await picture(page, "pay")

    await second.goto(links.provider)
    await order.locator("[data-action=pay]").click()
    await expect(order).to_have_attribute("data-status", "paid")
    taken = second.locator("#open .order").first
    await expect(taken).to_be_visible()
    await picture(second, "provider")
    await taken.locator("[data-action=accept]").click()
    mine = second.locator("#taken .order").first
    await mine.locator("[data-action=start]").click()
    await mine.locator("[data-action=complete]").click()

    await expect(order).to_have_attribute("data-status", "completed")
    await order.locator("input[name=rating][value='5']").check(force=True)
    await order.locator("input[name=comment]").fill("Wonderful.")
    await picture(page, "review")
    await order.get_by_role("button", name="Review").click()
    await expect(order).to_contain_text("You gave 5 of 5.")
    await expect(second.locator("#provider-feed li").first).to_contain_text("5")


async def test_who_does_not_pay_loses_the_unit_and_it_is_on_sale_again(page: Page, stack: Stack) -> None:
    short = await open_shop(dict(stack.credentials), "eve", stock=1, pay_within=3)
    await page.goto(short.customer)
    sale = page.locator(f"#sales [data-id='{short.sale_id}']")
    await sale.locator("[data-action=buy]").click()
    order = page.locator("#mine .order").first
    await expect(order).to_have_attribute("data-status", "cancelled")
    await expect(order).to_contain_text("Not paid in time")
    await expect(sale).to_contain_text("1 of 1 left")
    await picture(page, "expired")


async def test_a_service_for_a_pet_is_booked_and_can_be_cancelled(page: Page, links: Links) -> None:
    await page.goto(links.customer)
    await page.locator("#services [data-action=book]").first.click()
    order = page.locator("#mine .order[data-status=created]").first
    await expect(order).to_contain_text("Waiting for a provider")
    number = await order.get_attribute("data-id")
    await order.locator("[data-action=cancel]").click()
    await expect(page.locator(f"#mine [data-id='{number}']")).to_have_attribute("data-status", "cancelled")


async def test_the_door_says_what_is_wrong_with_a_key(page: Page, stack: Stack) -> None:
    page.complaints.clear()  # type: ignore[attr-defined]
    await page.goto(f"{stack.credentials['url']}/shop")
    await picture(page, "gate")
    await page.locator("#key").fill("pk_nothing")
    await page.get_by_role("button", name="Come in").click()
    await expect(page.locator("#gate-error")).to_have_text("This key is not known or was revoked.")
    await page.locator("#key").fill(stack.credentials["service"])
    await page.get_by_role("button", name="Come in").click()
    await expect(page.locator("#gate-error")).to_have_text("Say who you are.")
    await page.locator("#customer-name").fill("grace")
    await page.get_by_role("button", name="Come in").click()
    await expect(page.locator("#link")).to_have_text("Live")
    page.complaints.clear()  # type: ignore[attr-defined]  # the browser complains of every 401, and of no record (404)


async def test_a_lost_answer_is_asked_for_again_and_buys_once(page: Page, stack: Stack) -> None:
    """The connection breaks after the order was accepted: the page repeats it with the same key."""
    shop = await open_shop(dict(stack.credentials), "bob", stock=2, pay_within=60)
    await page.goto(shop.customer)
    lost: list[str] = []

    async def lose_the_first(route) -> None:  # type: ignore[no-untyped-def]
        if lost:
            await route.continue_()
        else:
            lost.append(route.request.headers["idempotency-key"])
            await route.fetch()
            await route.abort()

    await page.route("**/v1/sales/*/orders", lose_the_first)
    await page.locator(f"#sales [data-id='{shop.sale_id}'] [data-action=buy]").click()
    await expect(page.locator("#mine .order").first).to_have_attribute("data-status", "pending_payment")
    assert await page.locator("#mine .order").count() == 1
    await expect(page.locator(f"#sales [data-id='{shop.sale_id}']")).to_contain_text("1 of 2 left")
    page.complaints.clear()  # type: ignore[attr-defined]  # the browser complains of the broken connection


async def test_what_is_chosen_stays_while_others_buy(page: Page, stack: Stack) -> None:
    """The card is not made anew for each unit that goes: quantity and keyboard focus stay where they are."""
    shop = await open_shop(dict(stack.credentials), "kim", stock=3, pay_within=60)
    await page.goto(shop.customer)
    sale = page.locator(f"#sales [data-id='{shop.sale_id}']")
    await expect(sale).to_contain_text("3 of 3 left")
    await sale.locator("select").select_option("2")
    await sale.locator("select").focus()
    headers = {
        "Authorization": f"Bearer {stack.credentials['service']}",
        "Peakclip-Customer": "somebody",
        "Idempotency-Key": shop.sale_id,
    }
    url = f"{stack.credentials['url']}/v1/sales/{shop.sale_id}/orders"
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as answer:
        assert answer.status == 202
    await expect(sale).to_contain_text("2 of 3 left")
    await expect(sale.locator("select")).to_have_value("2")
    await expect(sale.locator("select")).to_be_focused()


async def test_pay_that_is_pressed_twice_pays_once(page: Page, stack: Stack) -> None:
    shop = await open_shop(dict(stack.credentials), "lee", stock=1, pay_within=60)
    await page.goto(shop.customer)
    await page.locator(f"#sales [data-id='{shop.sale_id}'] [data-action=buy]").click()
    order = page.locator("#mine .order").first
    await expect(order).to_have_attribute("data-status", "pending_payment")
    asked: list[str] = []

    async def slowly(route) -> None:  # type: ignore[no-untyped-def]
        asked.append(route.request.headers["idempotency-key"])
        await asyncio.sleep(1)
        await route.continue_()

    await page.route("**/v1/orders/*/pay", slowly)
    pay = order.locator("[data-action=pay]")
    await pay.click()
    await page.wait_for_timeout(500)
    await pay.click(force=True)
    await expect(order).to_have_attribute("data-status", "paid")
    assert len(asked) == 1


async def test_buying_again_after_no_answer_at_all_buys_once(page: Page, stack: Stack) -> None:
    """All tries were lost, the first after it was accepted. Whoever presses the button again means the same order."""
    shop = await open_shop(dict(stack.credentials), "mia", stock=2, pay_within=60)
    await page.goto(shop.customer)
    buy = page.locator(f"#sales [data-id='{shop.sale_id}'] [data-action=buy]")
    tried: list[str] = []

    async def lose(route) -> None:  # type: ignore[no-untyped-def]
        tried.append(route.request.headers["idempotency-key"])
        await route.fetch()
        await route.abort()

    await page.route("**/v1/sales/*/orders", lose)
    await buy.click()
    await expect(page.locator("#toast")).to_have_text("The shop cannot be reached.")
    assert len(tried) > 1
    await page.unroute("**/v1/sales/*/orders")
    await expect(buy).to_have_text("Buy")
    await buy.click()
    await expect(page.locator("#mine .order").first).to_have_attribute("data-status", "pending_payment")
    await expect(page.locator(f"#sales [data-id='{shop.sale_id}']")).to_contain_text("1 of 2 left")
    assert await page.locator("#mine .order").count() == 1
    page.complaints.clear()  # type: ignore[attr-defined]  # the browser complains of the broken connections


async def test_a_key_that_no_header_can_carry_is_no_key(page: Page, stack: Stack) -> None:
    await page.goto(f"{stack.credentials['url']}/shop")
    await page.locator("#key").fill("pk_\u2026")
    await page.get_by_role("button", name="Come in").click()
    await expect(page.locator("#gate-error")).to_have_text(
        "This key is not known or was revoked.", timeout=3_000
    )
