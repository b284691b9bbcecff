"""The reference pages name everything that there is, and nothing that is not."""

from __future__ import annotations

import re
from pathlib import Path

import openapi
import pytest
from prometheus_client.metrics import MetricWrapperBase

from peakclip import telemetry, topology
from peakclip_api.problems import TYPE_PREFIX

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
LETTERS = {"customer": "C", "provider": "P", "admin": "A", "service": "S"}


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def rows(text: str) -> dict[str, list[str]]:
    """Rows of tables whose first cell is one word in backticks: the word, and what stands beside it."""
    found = re.findall(r"^\| `([^`|]+)` \|(.*)\|$", text, re.MULTILINE)
    assert len({name for name, _ in found}) == len(found), "a row is there twice"
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def test_every_metric_is_described_with_its_labels() -> None:
    described = {name: cells[0] for name, cells in rows(page("metrics.md")).items()}
    registered = {
        one._name + ("_total" if one._type == "counter" else ""): one._labelnames
        for one in vars(telemetry).values()
        if isinstance(one, MetricWrapperBase)
    }
    assert described == {
        name: ", ".join(f"`{label}`" for label in labels) for name, labels in registered.items()
    }


def test_every_route_is_described_with_its_roles() -> None:
    described = {name: cells[0] for name, cells in rows(page("http.md")).items() if "/" in name}
    assert described == {
        f"{method} {path}": " ".join(letter for role, letter in LETTERS.items() if role in roles) or "–"
        for method, path, operation in openapi.operations()
        for roles in [operation.get("x-roles", ())]
    }


def test_every_kind_of_problem_is_described() -> None:
    types = openapi.DOCUMENT["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    kinds = {one.removeprefix(TYPE_PREFIX) for one in types}
    (table,) = re.findall(r"^## Kinds of problems\n(.*)", page("http.md"), re.MULTILINE | re.DOTALL)
    first_cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert {kind for cell in first_cells for kind in re.findall(r"`([^`]+)`", cell)} == kinds


def test_every_stream_and_its_subjects_are_described() -> None:
    described = rows(page("subjects-and-streams.md"))
    for name, config in topology.STREAMS.items():
        for subject in config["subjects"]:
            written = re.sub(r"(?<=CONSUMER\.)[A-Z_]+\.[A-Z]+\.\*", "<kind>.<stream>.*", subject)
            assert f"`{written}`" in described[name][0], (name, subject)


def test_every_consumer_is_described_with_what_it_filters() -> None:
    described = rows(page("subjects-and-streams.md"))
    for (stream, consumer), config in topology.CONSUMERS.items():
        cells = described[f"{stream}/{consumer}"]
        for subject in config.get("filter_subjects", ()):
            assert f"`{subject}`" in cells[0], (stream, consumer, subject)


@pytest.mark.parametrize(
    "subject",
    [
        f"{topology.WORKER_TELEMETRY}.<pool>.<worker>",
        f"{topology.POOL_STATUS}.<pool>",
        topology.dead_letter_subject("<pool>"),
        topology.TRAIL,
        "notification.push.<user>",
        "peakclip.orders.get",
        "peakclip.providers.get",
    ],
)
def test_what_is_said_on_core_nats_is_described(subject: str) -> None:
    assert f"`{subject}`" in page("subjects-and-streams.md")


def test_every_event_is_described() -> None:
    subjects = [one for one in topology.STREAMS[topology.EVENTS]["subjects"] if not one.startswith("retry.")]
    described = rows(page("events.md"))
    assert [name for name in described if re.match(r"(order|review)\.", name)] == subjects


def test_every_field_of_an_orders_event_is_described() -> None:
    fields = openapi.DOCUMENT["components"]["schemas"]["OrderEvent"]["properties"]
    described = rows(page("events.md"))
    assert fields.keys() - described.keys() == set()
