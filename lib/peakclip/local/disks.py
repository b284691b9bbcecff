"""On which file systems the embedded servers keep what they have acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peakclip.durability import FileSystem, file_system
from peakclip.local.files import read_json


def file_systems(directory: Path, environ: Mapping[str, str]) -> list[FileSystem | None]:
    """Of the stack in this folder. Those of servers that were given cannot be seen from here: an empty list."""
    found = []
    if not environ.get("PEAKCLIP_NATS_URL"):
        found.append(file_system(directory / "nats"))
    if not environ.get("PEAKCLIP_DATABASE_URL"):
        postgres = directory / "postgres"
        # Elsewhere, if this is a closed folder.
        home = (read_json(postgres / "settings.json") or {}).get("home")
        found.append(file_system(Path(home) if home else postgres))
    return found
