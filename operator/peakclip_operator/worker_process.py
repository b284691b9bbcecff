"""What runs in a worker process that the operator forked: the command of the worker, and the end of an orphan.

Imported once by the fork server, so that a start in the middle of a burst is a fork and nothing else.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from multiprocessing.connection import wait
from types import ModuleType

from peakclip import topology
from peakclip.errors import SettingsError

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PR_SET_NAME = 15


def worker_entry_point() -> EntryPoint:
    """The command `peakclip worker`; raises SettingsError where the worker is not installed."""
    for found in entry_points(group="peakclip.commands", name="worker"):
        return found
    raise SettingsError("The command 'worker' is not installed.")


def _pools_package() -> ModuleType:
    """The worker's own package `pools`, found beside its command: the operator does not know the worker's code."""
    return importlib.import_module(f"{worker_entry_point().module.rpartition('.')[0]}.pools")


def served_pools() -> frozenset[str]:
    """Names of the pools that the installed worker can work for."""
    return frozenset(_pools_package().POOLS)


def worker_modules() -> list[str]:
    """What a worker of any pool imports: all of it is shared by all workers when it is there before the fork."""
    package = _pools_package()
    pools = [found.name for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    return [worker_entry_point().module, *pools]


def run_worker(pool: str) -> None:
    """`peakclip worker --pool POOL` in this process. Ends by SystemExit like any command."""
    sys.argv = ["peakclip", "worker", "--pool", pool]
    adapt_environment(pool, os.environ)
    worker_entry_point().load().main(args=sys.argv[2:], prog_name="peakclip worker")


def adapt_environment(pool: str, environ: MutableMapping[str, str]) -> None:
    """What a worker inherits from the operator, without what is not meant for it."""
    environ["PEAKCLIP_MANAGEMENT_PORT"] = "0"  # the inherited one is the operator's own
    if url := environ.get("PEAKCLIP_WORKER_NATS_URL"):
        environ["PEAKCLIP_NATS_URL"] = url
    if pool != topology.ORDERS_POOL:
        environ.pop("PEAKCLIP_WORK_MS", None)  # a third party of the orders: nobody else calls it


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
