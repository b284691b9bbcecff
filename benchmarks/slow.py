"""Clients that hold connections and hurry nowhere: `python -m benchmarks.slow < options.json`.

    head     a request's head, byte by byte
    body     a whole head, and then the body byte by byte
    read     many requests for large pages at once, and no answer is ever read
    stream   a stream of events that is never read

The first line on standard input says how many of each; `ready` is printed when all are open. Whoever is ended by the
server comes back at once. When standard input ends, what became of them is printed as JSON.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

KINDS: Final = ("head", "body", "read", "stream")
_TICKS: Final = 20  # a second
_LARGE: Final = "/openapi.json"
_ASKED_AT_ONCE: Final = 30
_RECEIVE_BUFFER: Final = (
    4_096  # the least that the kernel gives: an answer that is not read stays with the server
)
_ESTABLISHED: Final = 1  # of TCP_INFO


@dataclass
class Kind:
    """What became of the connections of one kind. Seconds from opening to the end by the server."""

    opened: int = 0
    refused: int = 0  # could not be opened
    ended: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)


class Client:
    """One connection. `text` is sent whole, and then `slowly` byte by byte."""

    def __init__(self, kind: str, place: tuple[str, int], text: bytes, slowly: bytes, found: Kind) -> None:
        self.kind = kind
        self._place = place
        self._text = text
        self._slowly = slowly
        self._found = found
        self._socket: socket.socket | None = None
        self._sent = 0
        self._began = 0.0

    def open(self) -> None:
        self._sent, self._began = 0, time.monotonic()
        one = socket.socket()
        try:
            if self.kind in ("read", "stream"):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            one.settimeout(5)
            one.connect(self._place)
            one.setblocking(False)
            if self._text:
                one.send(self._text)
        except OSError:
            one.close()
            self._found.refused += 1
            return
        self._socket = one
        self._found.opened += 1

    def tick(self) -> None:
        """Sends the next byte, and looks whether the server has ended it."""
        if self._socket is None:
            self.open()
            return
        try:
            if self._is_over(self._socket):
                raise ConnectionError
            if self._slowly:
                self._socket.send(self._slowly[self._sent : self._sent + 1])
                self._sent = min(self._sent + 1, len(self._slowly) - 1)
        except BlockingIOError:
            return
        except OSError:
            self._found.ended.append(round(time.monotonic() - self._began, 2))
            self.close()
            self.open()

    def _is_over(self, one: socket.socket) -> bool:
        if self.kind in ("read", "stream"):
            return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
        try:
            said = one.recv(65_536)
        except BlockingIOError:
            return False
        if said.startswith(b"HTTP/1.1 "):
            status = said[9:12].decode()
            self._found.statuses[status] = self._found.statuses.get(status, 0) + 1
            return False  # the end comes behind it
        return not said

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _clients(options: dict[str, Any], found: dict[str, Kind]) -> list[Client]:
    host, port = options["place"]
    head = f"Host: {host}\r\nAuthorization: Bearer {options['key']}\r\n"
    order = (
        f"POST /v1/sales/{options['sale']}/orders HTTP/1.1\r\n{head}Idempotency-Key: slow\r\n"
        "Peakclip-Customer: slow\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n"
    ).encode()
    large = f"GET {_LARGE} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * _ASKED_AT_ONCE
    stream = f"GET /v1/status/stream HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    said = {
        "head": (b"", order[:-2] + b"X-Long: " + b"x" * 2_000),
        "body": (order, b" " * 200),
        "read": (large, b""),
        "stream": (stream, b""),
    }
    return [
        Client(kind, (host, port), *said[kind], found[kind])
        for kind in KINDS
        for _ in range(options["counts"].get(kind, 0))
    ]


def run(options: dict[str, Any]) -> dict[str, Any]:
    found = {kind: Kind() for kind in KINDS}
    clients = _clients(options, found)
    for one in clients:
        one.open()
    print("ready", flush=True)
    turn = 0
    while not select.select([sys.stdin], [], [], 1 / _TICKS)[0]:
        for one in clients[turn::_TICKS]:
            with contextlib.suppress(OSError):
                one.tick()
        turn = (turn + 1) % _TICKS
    for one in clients:
        one.close()
    return {kind: vars(one) for kind, one in found.items()}


if __name__ == "__main__":
    json.dump(run(json.loads(sys.stdin.readline())), sys.stdout)
