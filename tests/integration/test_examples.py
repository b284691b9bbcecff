"""Every example, run against a whole stack as its reader would run it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from faults.system import environ

from peakclip.local.stack import Stack, StackOptions

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh"))
SHARED = {"client.py", "common.sh"}
# The last words of each: what its reader should see.
ENDS = {
    "order.py": "is created",
    "order.sh": '"status":"completed"',
    "seckill.py": "left: 0",
    "seckill.sh": "sold-out",
    "review.py": "answer: The next walk is on me.",
    "review.sh": '"rating_count":1',
    "day_in_the_life.py": "Everything happened once.",
}

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def data(server_directory: Path) -> AsyncIterator[Path]:
    folder = server_directory / "examples"
    async with Stack(StackOptions(data=folder, rate=200, api_processes=1), environ()):
        yield folder


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in SHARED])
async def test_an_example_does_what_it_says(data: Path, name: str) -> None:
    program = [sys.executable] if name.endswith(".py") else []
    # As at a reader's terminal: the Makefile's PYTHONSAFEPATH would hide `client.py` from its neighbours.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = await asyncio.to_thread(
        subprocess.run,
        [*program, str(EXAMPLES / name), str(data)],
        env={**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ENDS[name].replace(" ", "") in done.stdout.splitlines()[-1].replace(" ", ""), done.stdout


async def test_every_example_is_named_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert not [name for name in SCRIPTS if name not in SHARED and f"({name})" not in text]
