"""Sends a burst by a process of its own: its CPU is the customers', and what measured also writes the report."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from peakclip.errors import PeakclipError
from peakclip.load import Progress


class BurstError(PeakclipError):
    """The burst could not be sent."""


async def send_burst(
    *, url: str, key: str, sale_id: str, orders: int, progress: Callable[[Progress], None]
) -> tuple[dict[str, Any], list[str]]:
    """Runs `peakclip load`; returns its report and the accepted order ids. Raises BurstError.

    The key goes by the environment: arguments are shown by `ps`.
    """
    with tempfile.TemporaryDirectory(prefix="peakclip-burst-") as folder:
        arguments = ["--url", url, "--sale", sale_id, "--orders", str(orders), "--progress", "json"]
        arguments += ["--report", f"{folder}/report.json", "--accepted", f"{folder}/accepted"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "peakclip", "load", *arguments),
            env={**os.environ, "PEAKCLIP_KEY": key},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us to pass on
        )
        try:
            said = await _follow(process, progress)
            await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        try:
            return _read(Path(folder))
        except OSError as exc:
            why = said or f"the load process ended with {process.returncode}"
            raise BurstError(f"The burst could not be sent: {why}") from exc


async def _follow(process: asyncio.subprocess.Process, progress: Callable[[Progress], None]) -> str:
    """Passes progress on; returns the last line that is something else, which is a complaint."""
    said = ""
    while process.stderr is not None and (line := await process.stderr.readline()):
        try:
            progress(Progress(**msgspec.json.decode(line)))
        except (msgspec.DecodeError, TypeError):
            said = line.decode(errors="replace").strip() or said
    return said


def _read(folder: Path) -> tuple[dict[str, Any], list[str]]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report, (folder / "accepted").read_text().split()
