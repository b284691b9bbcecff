"""Peakclip's load client as a process of its own: options as JSON on stdin (they hold a key), result on stdout."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import uvloop

from peakclip.load import LoadOptions, run_load


async def run(options: dict[str, Any]) -> dict[str, Any]:
    cores = options.pop("cores", None)
    if cores:
        os.sched_setaffinity(0, cores)
    return (await run_load(LoadOptions(**options))).to_json()


if __name__ == "__main__":
    json.dump(uvloop.run(run(json.load(sys.stdin))), sys.stdout)
