"""Tables, figures and files that are made of kept results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import accept, results, tables
from benchmarks.chart import Bar, draw
from benchmarks.designs import ACCEPT
from benchmarks.errors import BenchmarkError
from benchmarks.load import Run

SVG = "{http://www.w3.org/2000/svg}"


def result(at: str = "2026-01-02T03:04:05+00:00") -> dict[str, Any]:
    cpu = {"api": 80.0, "nats": 10.0, "postgres": 0.0, "client": 30.0}
    rounds = [
        accept.Measured(number, design.name, Run(100, 1.0, 1_000.0 * rank * number, 3, 9, 20, 0, cpu))
        for number in (1, 2, 3)
        for rank, design in enumerate(ACCEPT, start=1)
    ]
    return {
        "version": 1,
        "kind": "accept",
        "at": at,
        "command": "make bench",
        "options": {"rounds": 3, "connections": 256, "processes": 2},
        "versions": dict.fromkeys(("nats-server", "postgresql", "python", "aiohttp", "asyncpg"), "1.2"),
        "machine": {
            "cpus": 2, "processor": "CPU", "memory_gib": 8.0, "system": "Linux", "file_system": "ext4",
            "fdatasync_ms": {"p50": 0.2, "p99": 1.0}, "load_average_before": [0.1, 0.2, 0.3],
        },
        "code": None,
        "sync_connections": 4,
        "sync_trials": {"1": 900.0, "4": 1_200.0},
        "rounds": [one.to_json() for one in rounds],
        **accept.summary(rounds),
        "half_load_rounds": [],
        **accept.half_load_summary({"peakclip": 100.0, "sync": 10.0}, rounds),
    }  # fmt: skip


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    written = results.write("accept", result(), tmp_path)
    assert [path.name for path in written] == ["2026-01-02-accept.json", "2026-01-02-accept.svg", "README.md"]
    kept = json.loads(written[0].read_text())
    assert kept == result()
    ElementTree.fromstring(written[1].read_text())
    page = written[2].read_text()
    assert "](2026-01-02-accept.svg)" in page
    assert "| d Peakclip / a One transaction per request | **6.00** | 6.00 to 6.00 |" in page
    assert "`make bench`" in page
    assert "4 connections in each process, the fastest of what was tried (1: 900/s, 4: 1,200/s)" in page
    assert "Draining" not in page.replace(results._HEAD, "")


def test_the_page_shows_the_newest_result(tmp_path: Path) -> None:
    results.write("accept", result("2026-03-01T00:00:00+00:00"), tmp_path)
    results.write("accept", result("2026-02-01T00:00:00+00:00"), tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "2026-03-01-accept.svg" in page
    assert "2026-02-01" not in page


def test_each_run_is_one_line_of_the_file() -> None:
    lines = results.to_text(result()).splitlines()
    assert sum('"p99_ms": 9' in line for line in lines) == 3 * len(ACCEPT)


def test_the_profile_page_keeps_its_words_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{results._BEGIN}\nold\n{results._END}\nafter\n")
    measured = {
        **result(),
        "foreign_order_us": 1.5,
        "profile": {
            "api_cpu_us": 80.0, "stages_us": {"cheap": 20.0, "dear": 60.0}, "system_us": 12.0,
            "garbage_collection_us": 0.5, "others_us": {"nats": 9.0, "client": 20.0},
            "waits_ms": {"reserve": 1.0, "publish": 2.0}, "orders_per_frame": 100.0, "watch_us": 8.0,
            "p50_ms": 20.0, "per_second": 9_000.0, "preempted_per_1000": 0.1,
        },
    }  # fmt: skip
    results.fill_profile_page(measured, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.index("| dear | 60.0 | 75% |") < text.index("| cheap | 20.0 | 25% |")
    results.fill_profile_page(measured, page)
    assert page.read_text() == text
    page.write_text("no place")
    with pytest.raises(BenchmarkError, match="no place"):
        results.fill_profile_page(measured, page)


def test_the_page_that_explains_the_profile_has_a_place_for_it() -> None:
    text = results.PROFILE_PAGE.read_text()
    assert text.index(results._BEGIN) < text.index(results._END)


def test_a_bar_ten_times_as_long_is_one_step_on_the_axis() -> None:
    bars = [
        Bar("a", 100.0, 100.0, 100.0, False),
        Bar("b", 1_000.0, 900.0, 1_100.0, False, "a note"),
        Bar("c", 1e4, 1e4, 1e4, True),
    ]
    root = ElementTree.fromstring(draw("Title & more", "sub", "per second", bars))
    widths = [
        float(one.attrib["width"])
        for one in root.iter(f"{SVG}rect")
        if one.attrib["class"] in ("refuse", "arrive")
    ]
    assert widths[2] == pytest.approx(2 * widths[1], abs=0.2)
    texts = ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
    assert {"100", "1,000", "10,000", "a note", "Title & more"} <= set(texts)
    assert sum(one.attrib["class"] == "whisker" for one in root.iter(f"{SVG}path")) == 1


def test_counted_words_have_their_plural() -> None:
    figure = tables.accept_figure(result())
    assert "256 clients, 2 processes each, 2 cores, CPU, median of 3 rounds" in figure
    single = {**result(), "options": {"rounds": 1, "connections": 1, "processes": 1}}
    assert "1 client, 1 process each, 2 cores, CPU, median of 1 round" in tables.accept_figure(single)
