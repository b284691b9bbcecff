"""`make soak`: the whole system under load and faults for as long as you like, and afterwards the full check.

Exit code 0: whatever was promised was kept. 1: it was not, and the report says what. 2: it could not be run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog
import uvloop
from faults.soak.options import parse
from faults.soak.soak import soak
from faults.soak.view import Display

from peakclip.errors import PeakclipError
from peakclip.local.folder import temporary


def main() -> int:
    options = parse()
    folder = Path(tempfile.mkdtemp(prefix="peakclip-soak-", dir=temporary()))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # PostgreSQL's account must be able to enter it
    if (free := shutil.disk_usage(folder).free) < options.disk_bytes:
        print(
            f"{free >> 30} GiB are free in {folder.parent}; this needs {options.disk_bytes >> 30}.",
            file=sys.stderr,
        )
        return 2
    ended: list[tuple[str, str]] = []
    display = Display(sys.stdout)
    with (folder / "soak.log").open("w") as log:
        _log_to(log, ended)
        print(f"{options.again}\nfolder {folder}", flush=True)
        try:
            with contextlib.redirect_stdout(log):  # what clients print would go through the picture
                report = uvloop.run(soak(options, folder, display, ended))
        except PeakclipError as exc:
            print(f"The soak could not be run: {exc} (see {folder})", file=sys.stderr)
            return 2
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report.to_json(), indent=2, default=str) + "\n")
    print(report.words())
    print(f"Report: {options.report}")
    if report.exit_code or options.keep:
        print(f"Data, logs and histories: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return report.exit_code


def _log_to(log: Any, ended: list[tuple[str, str]]) -> None:
    """What the stack says goes to a file; how its processes ended is kept."""

    def note(_: Any, __: str, said: dict[str, Any]) -> dict[str, Any]:
        if said.get("event") == "process_ended":
            ended.append((said["name"], said["ended"]))
        return said

    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            note,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=log),
    )
    logging.basicConfig(stream=log, level=logging.WARNING)


if __name__ == "__main__":
    raise SystemExit(main())
