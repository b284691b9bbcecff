"""The dashboard in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import msgspec
import pytest
from browser.harness import Site
from browser.scenes import BURST, IDLE, Scene, last
from playwright.async_api import Page, expect

from peakclip.messages import PoolStatus

# One browser for all of them: starting it costs more than most tests.
pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

DRAINING = last(BURST, 600)


@contextlib.asynccontextmanager
async def spoken(site: Site, status: PoolStatus) -> AsyncIterator[None]:
    """A controller that says the same again and again."""
    speaking = asyncio.create_task(site.keep_publishing(status))
    try:
        yield
    finally:
        speaking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await speaking


async def text(page: Page, name: str) -> str:
    return (await page.locator(f"#{name}").inner_text()).strip()


async def test_numbers_of_a_burst_appear(page: Page, site: Site) -> None:
    status = msgspec.structs.replace(DRAINING, lag_ready=8415, lag_in_flight=5, eta_seconds=84.0)
    async with spoken(site, status):
        await page.goto(site.url)
        await expect(page.locator("#state")).to_have_text("Draining")
        await expect(page.locator("#verdict")).to_have_text("Fine")
        assert await text(page, "backlog") == "8,420"
        assert re.sub(r"\s+", " ", await text(page, "eta")) == "1 min 24 s"
        assert re.sub(r"\s+", " ", await text(page, "drain")) == "100.0 /s"
        assert "limit R 100/s" in await text(page, "drain-note")
        assert await text(page, "sliding") == "104"
        assert await text(page, "sliding-note") == "starts; 105 allowed"
        assert await text(page, "processed") == f"{status.processed_total:,}"
        assert "rate limit" in await text(page, "reason")
        assert "8,420" in await page.title()
        assert await page.locator("#pips .here").count() == status.workers_current
        await expect(page.locator("#announce")).to_contain_text("Draining. Fine.")


@pytest.mark.parametrize(
    ("changes", "word", "verdict"),
    [
        ({"lag_ready": 0, "lag_in_flight": 0, "arrival_per_second": 0.0, "eta_seconds": 0.0}, "Idle", "Fine"),
        (
            {"lag_ready": 3, "lag_in_flight": 5, "arrival_per_second": 40.0, "oldest_seconds": 0.2},
            "Keeping up",
            "Fine",
        ),
        ({"paused": True, "eta_seconds": None}, "Paused", "Look"),
        ({"lag_ready": None, "lag_in_flight": None, "eta_seconds": None}, "Unknown", "Act"),
        ({"arrival_per_second": 900.0, "eta_seconds": None}, "Draining", "Look"),
    ],
)
async def test_the_state_in_words(
    page: Page, site: Site, changes: dict[str, object], word: str, verdict: str
) -> None:
    async with spoken(site, msgspec.structs.replace(DRAINING, **changes)):
        await page.goto(site.url)
        await expect(page.locator("#state")).to_have_text(word)
        await expect(page.locator("#verdict")).to_have_text(verdict)


@pytest.mark.parametrize(
    ("changes", "value", "note"),
    [
        ({"arrival_per_second": 900.0, "eta_seconds": None}, "never", "at this rate: more arrives"),
        ({"arrival_per_second": None, "eta_seconds": None}, "unknown", "not enough measured yet"),
        ({"paused": True, "eta_seconds": None}, "never", "while the pool is paused"),
        ({"lag_ready": 0, "lag_in_flight": 0}, "empty", "nothing is waiting"),
    ],
)
async def test_time_to_empty_is_honest(
    page: Page, site: Site, changes: dict[str, object], value: str, note: str
) -> None:
    async with spoken(site, msgspec.structs.replace(DRAINING, **changes)):
        await page.goto(site.url)
        await expect(page.locator("#eta")).to_have_text(value)
        await expect(page.locator("#eta-note")).to_have_text(note)


async def test_unknown_is_said_in_words_and_never_as_zero(page: Page, site: Site) -> None:
    names = "lag_ready lag_in_flight arrival_per_second drain_per_second workers_ceiling eta_seconds burst"
    nothing: dict[str, object] = dict.fromkeys([*names.split(), "starts_max_sliding_second"])
    async with spoken(site, msgspec.structs.replace(DRAINING, **nothing)):
        await page.goto(site.url)
        for name in ("backlog", "eta", "drain", "arrivals", "sliding"):
            await expect(page.locator(f"#{name}")).to_have_text("unknown")


async def test_a_pool_that_finishes_nothing_is_stalled(page: Page, site: Site) -> None:
    async with spoken(site, site.remember(Scene(BURST.arrivals, stuck=lambda t: t > 570))):
        await page.goto(site.url)
        await expect(page.locator("#state")).to_have_text("Stalled")
        await expect(page.locator("#verdict")).to_have_text("Act")


async def test_a_breach_of_the_limit_is_reported_and_an_old_maximum_is_not(page: Page, site: Site) -> None:
    slowed = site.remember(Scene(BURST.arrivals, limit=lambda t: 100.0 if t < 580 else 50.0))
    async with spoken(site, slowed):
        await page.goto(site.url)
        await expect(page.locator("#sliding")).to_have_text("104")
        await expect(page.locator("#sliding-note")).to_have_text("starts; 55 allowed")
        await expect(page.locator("#verdict")).to_have_text("Fine")
    async with spoken(site, msgspec.structs.replace(slowed, starts_max_sliding_second=106)):
        await expect(page.locator("#verdict")).to_have_text("Act")
        await expect(page.locator("#sentence")).to_contain_text("The limit was exceeded at")


async def test_silence_of_the_controller_is_unknown_with_the_last_word(page: Page, site: Site) -> None:
    await page.goto(site.url)
    await expect(page.locator("#sentence")).to_have_text("No news from a controller yet.")
    async with spoken(site, DRAINING):
        await expect(page.locator("#state")).to_have_text("Draining")
    await expect(page.locator("#state")).to_have_text("Unknown", timeout=8000)
    await expect(page.locator("#verdict")).to_have_text("Act")
    await expect(page.locator("#sentence")).to_contain_text("No news from the controller for")
    await expect(page.locator("#sentence")).to_contain_text("Last known")
    assert await text(page, "backlog") == "unknown"
    assert await text(page, "link") == "No news"
    async with spoken(site, DRAINING):
        await expect(page.locator("#state")).to_have_text("Draining")


async def test_the_page_comes_back_when_the_server_does(page: Page, site: Site) -> None:
    async with spoken(site, DRAINING):
        await page.goto(site.url)
        await expect(page.locator("#link")).to_have_text("Live")
    await site.stop()
    await expect(page.locator("#link")).to_have_text("Connection lost")
    await expect(page.locator("#lost")).to_be_visible()
    await expect(page.locator("#state")).to_have_text("Unknown", timeout=8000)
    await expect(page.locator("#sentence")).to_contain_text("No connection to the server for")
    await site.start()
    async with spoken(site, DRAINING):
        await expect(page.locator("#link")).to_have_text("Live", timeout=8000)
        await expect(page.locator("#state")).to_have_text("Draining")
        await expect(page.locator("#lost")).to_be_hidden()
    # The refused connections are in the console, as they should be; nothing else is.
    assert all("ERR_" in line for line in page.complaints)  # type: ignore[attr-defined]
    page.complaints.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
async def test_nothing_scrolls_sideways(page: Page, site: Site, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 740})
    site.remember(BURST)
    large = {
        "lag_ready": 12_345_678,
        "lag_in_flight": 20_000,
        "eta_seconds": 123_456.0,
        "arrival_per_second": 1e5,
    }
    async with spoken(site, msgspec.structs.replace(DRAINING, **large)):
        await page.goto(site.url)
        await expect(page.locator("#backlog")).to_have_text("12,365,678")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        clipped = "elements => elements.filter(e => e.scrollWidth > e.clientWidth).map(e => e.id)"
        assert await page.locator(".value").evaluate_all(clipped) == []
        outside = """figures => figures.filter(figure => {
            const [a, b] = [figure, figure.querySelector("svg")].map(e => e.getBoundingClientRect());
            return b.left < a.left || b.right > a.right + 1 || b.width < a.width - 1 || b.height < 60;
        }).map(figure => figure.className)"""
        assert await page.locator("figure").evaluate_all(outside) == []


async def test_dark_is_dark_and_light_is_light(page: Page, site: Site) -> None:
    site.remember(IDLE)
    await page.goto(site.url)
    lightness: dict[str, float] = {}
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.wait_for_timeout(300)
        for place in ("html", ".cell", ".plate"):
            lightness[f"{scheme} {place}"] = await page.evaluate(
                """place => {
                    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
                    canvas.fillStyle = getComputedStyle(document.querySelector(place)).backgroundColor;
                    canvas.fillRect(0, 0, 1, 1);
                    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
                    return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
                }""",
                place,
            )
    assert all(value > 0.8 for name, value in lightness.items() if name.startswith("light")), lightness
    assert all(value < 0.25 for name, value in lightness.items() if name.startswith("dark")), lightness


async def test_the_reading_follows_the_arrow_keys_and_the_pointer(page: Page, site: Site) -> None:
    async with spoken(site, site.remember(BURST)):
        await page.goto(site.url)
        await expect(page.locator("#state")).to_have_text("Draining")
        charts = page.locator("#charts")
        await charts.focus()
        await page.keyboard.press("ArrowLeft")
        await expect(charts).to_have_attribute("aria-valuenow", "-5")
        await expect(charts).to_have_attribute("aria-valuetext", re.compile("backlog .+ workers "))
        await page.keyboard.press("Home")
        await expect(charts).to_have_attribute("aria-valuenow", "-600")
        box = await page.locator(".chart.backlog svg").bounding_box()
        assert box is not None
        five_minutes_ago = box["x"] + 46 + (box["width"] - 46) * 0.5  # long before the burst
        await page.mouse.move(five_minutes_ago, box["y"] + 10)
        await expect(page.locator(".chart.backlog output")).to_have_text(re.compile(r"^\d{1,3}$"))
        await expect(page.locator(".chart .cursor")).to_have_count(4)


@pytest.mark.parametrize(
    ("seconds", "span", "labels"),
    [
        (60.0, 120, ["−2 min", "−90 s", "−1 min", "−30 s", "now"]),
        (200.0, 300, ["−5 min", "−4 min", "−3 min", "−2 min", "−1 min", "now"]),
        (500.0, 600, ["−10 min", "−8 min", "−6 min", "−4 min", "−2 min", "now"]),
    ],
)
async def test_the_axis_reaches_as_far_back_as_there_is_something_to_see(
    page: Page, site: Site, seconds: float, span: int, labels: list[str]
) -> None:
    async with spoken(site, site.remember(BURST, seconds)):
        await page.goto(site.url)
        await expect(page.locator("#state")).to_have_text("Keeping up")
        await expect(page.locator("svg.axis text")).to_have_text(labels)
        await expect(page.locator("#charts")).to_have_attribute("aria-valuemin", f"-{span}")
        await expect(page.locator("#charts")).to_have_attribute(
            "aria-label", re.compile(f"^Last {span // 60} min")
        )
        await page.locator("#charts").focus()
        await page.keyboard.press("Home")
        await expect(page.locator("#charts")).to_have_attribute("aria-valuenow", f"-{span}")


async def test_a_silence_is_a_gap_in_the_charts(page: Page, site: Site) -> None:
    site.remember(BURST, silent_seconds=60)
    async with spoken(site, DRAINING):
        await page.goto(site.url)
        await expect(page.locator("#link")).to_have_text("Live")
        await expect(page.locator(".chart:has(.silence)")).to_have_count(4)


def of(pool: str, scene: Scene = IDLE, **changes: object) -> PoolStatus:
    return last(scene, 600, pool=pool, lag_delayed=0, **changes)


@contextlib.asynccontextmanager
async def all_spoken(site: Site, *statuses: PoolStatus) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for status in statuses:
            await stack.enter_async_context(spoken(site, status))
        yield


async def test_pools_can_be_chosen_and_stay_chosen(page: Page, site: Site) -> None:
    await page.goto(site.url)
    async with spoken(site, DRAINING):
        await expect(page.locator("#pool-name")).to_have_text("orders")
        await expect(page.locator("#pools")).to_be_hidden()
        async with all_spoken(site, of("reaper"), of("effects")):
            await expect(page.locator("#pools label > span")).to_have_text(["orders", "effects", "reaper"])
            await expect(page.get_by_role("radio", name="orders")).to_be_checked()
            await page.locator("#pools").get_by_text("reaper").click()
            await expect(page.locator("#state")).to_have_text("Idle")
            await page.reload()
            await expect(page.get_by_role("radio", name="reaper")).to_be_checked()
            await expect(page.locator("#state")).to_have_text("Idle")
            await page.keyboard.press("Tab")  # to the chosen one
            await page.keyboard.press("ArrowLeft")
            await expect(page.get_by_role("radio", name="effects")).to_be_checked()
            await page.goto(f"{site.url}#orders")
            await expect(page.locator("#state")).to_have_text("Draining")
            await page.goto(f"{site.url}#%")  # no pool at all
            await expect(page.get_by_role("radio", name="orders")).to_be_checked()


async def test_trouble_in_a_pool_is_seen_while_another_is_open(page: Page, site: Site) -> None:
    calm, paused = of("orders"), of("effects", paused=True, lag_ready=12, eta_seconds=None)
    async with all_spoken(site, calm, paused, of("reaper", lag_ready=None, lag_in_flight=None)):
        await page.goto(site.url)
        await expect(page.locator("#pools small")).to_have_text(["0", "Look", "Act"])
        await expect(page.locator("#state")).to_have_text("Idle")
        await expect(page.locator("#verdict")).to_have_text("Fine")
        await expect(page).to_have_title(re.compile("^! Idle"))
        await expect(page.locator("#announce")).to_contain_text(
            "effects: Paused. Look. reaper: Unknown. Act."
        )
    async with all_spoken(site, calm, of("effects", lag_ready=4_321), of("reaper")):
        await expect(page.locator("#pools small")).to_have_text(["0", "4.3K", "0"])
        await expect(page).to_have_title(re.compile("^Idle"))


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        ("orders", "1,200 orders left, empty in 12 s."),
        ("effects", "1,200 events left, empty in 12 s."),
        ("reaper", "1,200 unpaid orders left, empty in 12 s."),
        ("other", "1,200 messages left, empty in 12 s."),
    ],
)
async def test_a_pool_calls_what_it_works_on_by_its_name(
    page: Page, site: Site, pool: str, sentence: str
) -> None:
    async with spoken(site, of(pool, lag_ready=1_200, lag_in_flight=0, eta_seconds=12.0)):
        await page.goto(site.url)
        await expect(page.locator("#sentence")).to_have_text(sentence)


@pytest.mark.parametrize(
    ("delayed", "sentence", "note"),
    [
        (0, "Nothing is waiting and nothing arrives.", "none in last minute"),
        (1, "Nothing is waiting and nothing arrives. 1 event waits for another attempt.", "1 delayed"),
        (7, "Nothing is waiting and nothing arrives. 7 events wait for another attempt.", "7 delayed"),
        (None, "Nothing is waiting and nothing arrives.", "unknown delayed"),
    ],
)
async def test_what_waits_for_another_attempt_is_no_backlog(
    page: Page, site: Site, delayed: int | None, sentence: str, note: str
) -> None:
    async with spoken(site, msgspec.structs.replace(of("effects"), lag_delayed=delayed)):
        await page.goto(site.url)
        await expect(page.locator("#sentence")).to_have_text(sentence)
        await expect(page.locator("#backlog")).to_have_text("0")
        await expect(page.locator("#failed-note")).to_have_text(re.compile(f"{note}$"))


async def test_a_small_backlog_that_is_old_is_not_keeping_up(page: Page, site: Site) -> None:
    late = of(
        "effects", lag_ready=900, limit_per_second=500.0, effective_per_second=500.0, oldest_seconds=18.0
    )
    late = msgspec.structs.replace(late, arrival_per_second=30.0, drain_per_second=8.0, eta_seconds=None)
    async with spoken(site, late):
        await page.goto(site.url)
        await expect(page.locator("#state")).to_have_text("Draining")
        await expect(page.locator("#verdict")).to_have_text("Look")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_many_pools_fit(page: Page, site: Site, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 740})
    names = ["orders", "effects", "reaper", *(f"pool-{number}" for number in range(9))]
    async with all_spoken(site, *(of(name, lag_ready=12_345_678, eta_seconds=None) for name in names)):
        await page.goto(site.url)
        await expect(page.locator("#pools label")).to_have_count(12)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.locator("#pools").get_by_text("reaper").click()  # the last one, reached by scrolling
        await expect(page.get_by_role("radio", name="reaper")).to_be_checked()


async def test_nothing_is_loaded_from_elsewhere(page: Page, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(site.url)
    await expect(page.locator("#link")).not_to_have_text("Connecting")
    assert len(asked) >= 6
    assert all(address.startswith(site.url) for address in asked), asked
