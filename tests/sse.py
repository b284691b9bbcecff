"""Reading server-sent events, one by one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp


class Events:
    """Reads server-sent events one by one; a comment is given as its text."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, seconds: float = 15.0) -> dict[str, str] | str | None:
        """None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(seconds):
            while line := (await self._response.content.readline()).decode():
                if line == "\n":
                    if fields:
                        return fields
                elif line.startswith(":"):
                    return line[1:].strip()
                else:
                    name, _, value = line.rstrip("\n").partition(": ")
                    fields[name] = value
        return None

    async def expect(self, event: str) -> tuple[int, Any]:
        """The next event, which has this name: its id and its data."""
        got = await self.next()
        assert isinstance(got, dict)
        assert got["event"] == event
        return int(got["id"]), json.loads(got["data"])

    async def begun(self) -> Events:
        """Reads the first frame, which says only how long to wait before coming back."""
        got = await self.next()
        assert isinstance(got, dict)
        assert got.keys() == {"retry"}
        return self

    async def events(self, number: int) -> list[tuple[int, str, Any]]:
        """The next ones: id, name and data. Comments are passed over."""
        found: list[tuple[int, str, Any]] = []
        while len(found) < number:
            got = await self.next()
            assert got is not None, f"the stream ended after {found}"
            if isinstance(got, dict):
                found.append((int(got["id"]), got["event"], json.loads(got["data"])))
        return found

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for so long."""
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False
