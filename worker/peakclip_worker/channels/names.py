"""Names of hosts to addresses, in threads that may hang without holding up anybody else.

The loop's own look-ups share a handful of threads with whatever else connects by name, PostgreSQL and NATS among
them; a few receivers whose name servers do not answer would fill them for many seconds. And such a thread must not
keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

MOST_AT_ONCE: Final = 32

LookUp = Callable[..., list[Any]]  # as socket.getaddrinfo


class Names(AbstractResolver):
    """A resolver for aiohttp. `look_up` blocks; raises OSError when too many look-ups are under way."""

    def __init__(self, look_up: LookUp = socket.getaddrinfo, most: int = MOST_AT_ONCE) -> None:
        self._look_up = look_up
        self._free = threading.Semaphore(most)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if not self._free.acquire(blocking=False):
            raise OSError("too many names are being looked up")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def tell(found: list[Any] | OSError) -> None:
            if answer.done():  # cancelled meanwhile
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def run() -> None:
            try:
                found: list[Any] | OSError = self._look_up(host, port, family, socket.SOCK_STREAM)
            except OSError as exc:
                found = exc
            except UnicodeError as exc:  # a label that is too long
                found = OSError(str(exc))
            self._free.release()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=run, name="look-up", daemon=True).start()
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in await answer
        ]

    async def close(self) -> None:
        """Threads that still wait for an answer end by themselves."""
