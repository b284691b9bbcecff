"""The soak as it is run: a process of its own that is ended by Ctrl-C, with a report and an exit code.

That the system with all protections stands the same is shown by test_nemesis.py, and by `make soak`.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.system import environ

ROOT = Path(__file__).parents[2]
FAULTS = 12  # some of them between a message and its answer

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(600)]


async def soak(scratch: Path, faults: int, *options: str) -> tuple[int | None, dict[str, Any], str]:
    """Exit code, report, and what it said. Ctrl-C comes after so many faults."""
    report = scratch / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "faults.soak", "--report", str(report), *options,
        env=environ(PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}", TMPDIR=str(scratch)), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said, ended = "", False
    while line := (await process.stdout.readline()).decode():
        print(line, end="")
        said += line
        done = re.search(r"load and faults .* faults (\d+)", line)
        if done and int(done[1]) >= faults and not ended:
            ended = True
            process.send_signal(signal.SIGINT)
    return await process.wait(), json.loads(report.read_text()), said


async def test_a_protection_that_is_taken_out_is_found_and_told(scratch: Path) -> None:
    """The relay's messages have no ids: what it sends again when a connection has ended is there twice."""
    code, report, said = await soak(
        scratch, FAULTS, "--minutes", "5", "--rate", "200", "--faults", "30", "--seed", "3",
        "--among", "cut:relay-nats", "--plant", "no-dedupe", "--patience", "20",
    )  # fmt: skip
    assert code == 1
    twice = [one for one in report["broken"] if one["what"] == "duplicated"]
    assert twice, report["broken"]
    assert report["findings"] >= len(twice)
    assert twice[0]["subjects"][0] in said
    assert report["again"] == "make soak MINUTES=5 SEED=3 RATE=200 FAULTS=30"
    assert "The load ends; the system comes to rest and is judged." in said
