"""`python -m benchmarks --quick` with real servers and processes: that it runs, never how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks.chaos.scenarios import SCENARIOS
from benchmarks.designs import ACCEPT, DRAIN

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def bench(folder: Path, kind: str, *, quiet: bool = True) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks", "--quick", "--results", str(folder), kind],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (quiet and done.stderr)
    (path,) = folder.glob(f"*-{kind}.json")
    result: dict[str, Any] = json.loads(path.read_text())
    assert result["machine"]["cpus"] >= 1
    assert f"[{path.name}]({path.name})" in (folder / "README.md").read_text()
    return result


def test_every_design_accepts_and_stores_its_orders(tmp_path: Path) -> None:
    """That as many orders are stored as were accepted is checked by the benchmark itself, in each run."""
    result = bench(tmp_path, "accept")
    assert [one["design"] for one in result["rounds"]] == [design.name for design in ACCEPT]
    assert [one["design"] for one in result["half_load_rounds"]] == ["peakclip", "sync"]
    assert all(one["per_second"] > 0 and one["retries"] == 0 for one in result["rounds"])
    (figure,) = tmp_path.glob("*-accept.svg")
    ElementTree.fromstring(figure.read_text())


def test_every_design_drains_its_orders(tmp_path: Path) -> None:
    result = bench(tmp_path, "drain")
    assert [one["design"] for one in result["rounds"]] == [design.name for design in DRAIN]
    assert all(one["seconds"] > 0 for one in result["rounds"])


def test_the_reaper_works_beside_accepting(tmp_path: Path) -> None:
    """That every unit has returned is checked by the benchmark itself."""
    result = bench(tmp_path, "expiry")
    assert [one["state"] for one in result["rounds"]] == ["paused", "reaping"]
    assert result["rounds"][0]["cancelled"] == 0
    assert result["rate"]["orders"] > 0


def test_the_profile_accounts_for_the_whole_accept(tmp_path: Path) -> None:
    profile = bench(tmp_path, "profile")["profile"]
    assert sum(profile["stages_us"].values()) == pytest.approx(profile["api_cpu_us"], rel=0.01)
    assert {
        name: us for name, us in profile["stages_us"].items() if us <= 0 and "Event loop" not in name
    } == {}


@pytest.mark.long
def test_every_scenario_is_survived(tmp_path: Path) -> None:
    result = bench(tmp_path, "chaos", quiet=False)
    assert [one["design"] for one in result["rounds"]] == list(SCENARIOS)
    assert all(one["first_success_seconds"] is not None for one in result["rounds"])
    judged = result["judged"]
    assert judged.pop("accepted") > 0
    assert judged == {"lost": 0, "duplicated": 0, "oversold": 0, "undersold": 0, "findings": 0}
