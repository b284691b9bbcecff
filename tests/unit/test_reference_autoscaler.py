"""The page of the autoscaler's features names a test for each of them, and the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/autoscaler.md"
ROWS = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]


def test_every_feature_has_a_row() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 29))


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_its_test_is_there(row: str) -> None:
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert tests
    for path, name in tests:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), (path, name)
