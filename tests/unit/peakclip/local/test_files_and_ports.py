"""Small files and ports."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from peakclip.local.files import read_json, write_json
from peakclip.local.ports import free_port, is_free, reserve


def test_a_private_file_is_closed_to_others_even_when_it_was_open(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_json(path, {"key": "value"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_json(path) == {"key": "value"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[1]", "7"])
def test_a_file_without_an_object_counts_as_missing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    assert read_json(path) is None
    assert read_json(tmp_path / "missing.json") is None


def test_the_preferred_port_is_kept_while_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not is_free(port)
        assert free_port(port) != port


def test_a_reserved_port_is_shared_with_those_who_ask_to_share_it() -> None:
    port = free_port()
    with reserve(port), socket.socket() as server:
        assert not is_free(port)
        with pytest.raises(OSError, match="taken"):
            reserve(port)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        for _ in range(20):  # the holder never gets a connection: all are accepted here
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                server.settimeout(1)
                server.accept()[0].close()


def test_a_port_can_be_reserved_again_right_after_its_server_closed_connections() -> None:
    port = free_port()
    with reserve(port), socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            server.accept()[0].close()  # closed by the server first: this end waits for a minute (TIME_WAIT)
            assert client.recv(1) == b""
    reserve(port).close()
