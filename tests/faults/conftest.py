"""Whole stacks of real processes, one for each test; nothing of them is left behind.

PEAKCLIP_FAULTS_KILLS=N    kills of each kind in the storm (10)
PEAKCLIP_FAULTS_SEED=N     the same random choices as in the run that printed this seed (moments still vary)
PEAKCLIP_FAULTS_IDLE=S     seconds of idleness before the burst that must not be let off too fast (10)
PEAKCLIP_FAULTS_CUTS=N     power cuts in a row (3)
PEAKCLIP_FAULTS_KEEP=1     leave the folders, with the logs of every process
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.disk.disk import why_not

from peakclip.local.folder import temporary


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Said aloud, by `-ra` and by `make test`, where a disk cannot be had."""
    if reason := why_not():
        for item in items:
            if item.get_closest_marker("power"):
                item.add_marker(pytest.mark.skip(reason=f"NOT TESTED: the power cut; {reason}"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder. Not pytest's own: PostgreSQL's account could not enter it when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="peakclip-faults-", dir=temporary()))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    print(f"folder {folder}")
    yield folder
    if not os.environ.get("PEAKCLIP_FAULTS_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data(scratch: Path) -> Path:
    """For a stack."""
    return scratch / "data"


@pytest.fixture
def chance() -> random.Random:
    """Seeded; pytest shows the seed with every failure."""
    seed = int(os.environ.get("PEAKCLIP_FAULTS_SEED") or secrets.randbelow(1_000_000))
    print(f"PEAKCLIP_FAULTS_SEED={seed}")
    return random.Random(seed)
