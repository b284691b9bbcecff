"""`peakclip demo` from nothing to its report, small: the whole chain with real servers and real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def demo(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    report = folder / "r.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "peakclip", "demo", "--exit", "--report", str(report), *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert report.exists(), done.stderr
    return done, json.loads(report.read_text())


def test_more_orders_than_stock(tmp_path: Path) -> None:
    done, report = demo(tmp_path, "--orders", "400", "--stock", "150", "--rate", "200", "--work-ms", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["accepted"] == report["drained"] == 150
    assert report["refused"] == {"sold-out": 250}
    assert report["durable"] is True
    assert [report[harm] for harm in ("lost", "duplicated", "oversold", "undersold")] == [0, 0, 0, 0]
    assert report["audit"]["at_rest"] is True
    assert report["rate"]["max_sliding_second"] <= report["rate"]["allowed_sliding_second"]
    assert report["workers"]["min"] == 1
    ElementTree.fromstring((tmp_path / "r.svg").read_text())
    assert "150 of 400 orders accepted durably" in done.stdout
    assert "\x1b" not in done.stdout, "no control characters without a terminal"
    assert not done.stderr


def test_what_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "peakclip",
            "demo",
            "--exit",
            "--report",
            str(tmp_path / "no" / "r.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "r.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
