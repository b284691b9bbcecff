"""What runs in a worker process that the operator forked: the command of the worker, and the end of an orphan.

Imported once by the fork server, so that a start in the middle of a burst is a fork and nothing else.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from multiprocessing.connection import wait

from peakclip.errors import SettingsError

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PR_SET_NAME = 15


def worker_entry_point() -> EntryPoint:
    """The command `peakclip worker`; raises SettingsError where the worker is not installed."""
    for found in entry_points(group="peakclip.commands", name="worker"):
        return found
    raise SettingsError("The command 'worker' is not installed.")


def run_worker(pool: str) -> None:
    """`peakclip worker --pool POOL` in this process. Ends by SystemExit like any command."""
    sys.argv = ["peakclip", "worker", "--pool", pool]
    os.environ["PEAKCLIP_MANAGEMENT_PORT"] = "0"  # the inherited one is the operator's own
    worker_entry_point().load().main(args=sys.argv[2:], prog_name="peakclip worker")


def child(target: Callable[[str], None], pool: str, drain_seconds: float) -> None:
    """The whole life of the process: the target, under the eyes of a thread that waits for the operator's end."""
    _introduce()
    os.environ.pop("PEAKCLIP_MANAGEMENT_PORT", None)  # the operator's own; a worker takes a free one
    threading.Thread(
        target=_end_with_operator, args=(drain_seconds,), name="orphan-watch", daemon=True
    ).start()
    target(pool)


def _introduce() -> None:
    """On Linux: a name for `top` instead of `python`, and an end together with the fork server.

    Without its fork server the death of a worker would never be noticed.
    """
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_NAME, b"peakclip-worker")  # 15 bytes at most
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_with_operator(drain_seconds: float) -> None:
    """The pipe from the operator ends with it, however it died: drain then, and do not outlive the drain.

    The fork server is no help here: it lives as long as any worker, because workers hold its pipe too.
    """
    operator = multiprocessing.parent_process()
    if operator is None:
        return
    wait([operator.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
