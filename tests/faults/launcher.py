"""`python -m faults.launcher peakclip relay`: a process of Peakclip with what a test has planted in it.

FAULTS_CLOCK=FILE          its clock on the wall (faults.clock); FAULTS_WORKER_CLOCK=FILE: of the workers that it forks
FAULTS_POINTS=FOLDER       points at which it can be held (faults.points)
FAULTS_SABOTAGE=NAME       a protection that is taken out (faults.sabotage)

The operator's workers are forked from a server that has imported their code already; multiprocessing runs this module
in each of them, too, under the name `__mp_main__`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Final

from peakclip.local.process import ProcessSpec

SERVERS: Final = ("nats", "postgres")
READY_SECONDS: Final = 240.0  # on a machine that has much else to do


def launched(spec: ProcessSpec, **env: str) -> ProcessSpec:
    """The same process by this module, with this in its environment. A server is left as it is."""
    if spec.name in SERVERS:
        return spec
    argv = ["faults.launcher" if word == "peakclip" else word for word in spec.argv]
    tests = str(Path(__file__).parents[1])
    env = {**spec.env, "PYTHONPATH": tests, **env}
    return dataclasses.replace(spec, argv=argv, env=env, ready_seconds=READY_SECONDS)


def plant_all() -> None:
    command = "worker" if __name__ == "__mp_main__" else sys.argv[1]
    if clock := os.environ.get("FAULTS_WORKER_CLOCK" if command == "worker" else "FAULTS_CLOCK"):
        from faults import clock as clocks

        clocks.plant(Path(clock))
    if os.environ.get("FAULTS_POINTS"):
        from faults import points

        points.plant(command)
    if sabotage := os.environ.get("FAULTS_SABOTAGE"):
        from faults.sabotage import SABOTAGES

        where, take_out = SABOTAGES[sabotage]
        if where == command:
            take_out()


if __name__ in ("__main__", "__mp_main__"):
    plant_all()

if __name__ == "__main__":
    from peakclip.cli.main import run

    run()
