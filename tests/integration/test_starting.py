"""A process that waits for its servers can be told to stop: whoever moves a pod does not wait for them as well."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import psutil
import pytest
from support import until

from peakclip.local.ports import free_port

pytestmark = pytest.mark.integration


# `unshare` makes it the first process of its own, as in a container: no signal ends such a one without a handler.
@pytest.mark.skipif(os.geteuid() != 0, reason="a process is the first of a namespace only by root's hand")
@pytest.mark.parametrize(
    ("command", "code"), [("worker", 0), ("relay", 0), ("migrate", 128 + signal.SIGTERM)]
)
async def test_a_process_that_waits_ends_when_asked(command: str, code: int) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-P", "-m", "peakclip", command),
        env={
            **os.environ,
            "PEAKCLIP_NATS_URL": "nats://127.0.0.1:1",
            "PEAKCLIP_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/peakclip",
            "PEAKCLIP_MANAGEMENT_PORT": str(port),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        if command == "migrate":
            assert process.stderr is not None
            assert b"database_waiting" in await process.stderr.readline()
        else:
            await until(lambda: _answers(port))
        (waiting,) = psutil.Process(process.pid).children()
        waiting.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == code
    finally:
        if process.returncode is None:
            process.kill()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
