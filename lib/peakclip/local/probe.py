"""Asks a process over HTTP whether it is ready. One small request: it is asked often during the start."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

_SECONDS: Final = 1.0


async def get(url: str) -> tuple[int, bytes] | None:
    """Status and body of a GET, or None if there was no whole answer within a second."""
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode())
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body
    except (OSError, TimeoutError, IndexError, ValueError):
        return None


async def not_ready(management_url: str) -> list[str]:
    """What a process says is missing; empty when it is ready."""
    answer = await get(f"{management_url}/readyz")
    if answer is None:
        return ["no answer"]
    status, body = answer
    return [] if status == 200 else _missing(body) or [f"status {status}"]


def _missing(body: bytes) -> list[str]:
    try:
        value: Any = json.loads(body)
    except ValueError:
        return []
    found = value.get("missing") if isinstance(value, dict) else None
    return [str(item) for item in found] if isinstance(found, list) else []
