"""Becomes another program that does not outlive its parent. Run by path with `python -I -S`: no packages.

A small program of its own, and not a `preexec_fn`: code between fork and exec can deadlock in a process that
has threads. After `exec` the process id is still that of this script: the parent watches the right process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    death_signal, parent, uid, gid, nice = (int(text) for text in sys.argv[1:6])
    argv = sys.argv[6:]
    # Python ignores these two, and what is ignored stays so across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only; elsewhere an orderly stop must do
    with contextlib.suppress(OSError):
        os.nice(nice)
    if uid:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)  # after setuid, which would clear it
        if os.getppid() != parent:
            raise SystemExit(1)  # the parent died before prctl: no signal will ever come
    os.execv(argv[0], argv)  # noqa: S606 - argv comes from our own parent


if __name__ == "__main__":
    main()
