"""TCP ports of this machine."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"

# Below the range from which outgoing connections get theirs. There, a client that tries again and again while
# the server restarts can be given the server's own port: it connects to itself, and the server cannot bind.
_FIRST, _LAST = 20_000, 29_999
_TRIES: Final = 200


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True if a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(preferred: int | None = None, host: str = LOOPBACK) -> int:
    """`preferred` if it is free, else any free port."""
    if preferred and is_free(preferred, host):
        return preferred
    for _ in range(_TRIES):
        port = random.randint(_FIRST, _LAST)
        if is_free(port, host):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def reserve(port: int, host: str = LOOPBACK) -> socket.socket:
    """Holds a port for servers that share it (SO_REUSEPORT): it stays ours when all of them restart.

    The socket never listens, so no connection ends here. It has no SO_REUSEADDR, or a server that does not
    share could take the port from under it. Raises OSError if the port is taken.
    """
    if not is_free(port, host):
        raise OSError(f"port {port} is taken")
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(holder.close)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
        undo.pop_all()
    return holder
