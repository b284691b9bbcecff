"""A stand-in behind our port to the API server: objects in memory, versions as the server counts them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec

from peakclip_operator.kubernetes.api import ApiRefusedError


class FakeApi:
    """`objects` by path. `fails(verb, resource)` may return an exception to raise. `calls` is what was asked."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, str, Any]] = []
        self.fails: Callable[[str, str], Exception | None] = lambda verb, resource: None
        self._version = 0

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        kept = copy.deepcopy(body)
        kept.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = kept
        return copy.deepcopy(kept)

    def asked(self, verb: str) -> list[tuple[str, Any]]:
        return [(resource, body) for one, resource, _, body in self.calls if one == verb]

    async def call(
        self, verb: str, resource: str, path: str, *, query: Any = None, body: Any = None
    ) -> dict[str, Any]:
        self.calls.append((verb, resource, path, copy.deepcopy(body)))
        if (failure := self.fails(verb, resource)) is not None:
            raise failure
        if verb == "create":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise ApiRefusedError(409, verb, resource, "already exists")
            return self.put(path, body)
        if path not in self.objects:
            raise ApiRefusedError(404, verb, resource, "not found")
        now = self.objects[path]
        if verb == "update":
            if body["metadata"].get("resourceVersion") not in (None, now["metadata"]["resourceVersion"]):
                raise ApiRefusedError(409, verb, resource, "the object has been modified")
            return self.put(path, body)
        if verb == "patch":
            return self.put(path, merged(now, body))
        return copy.deepcopy(now)

    async def raw(self, verb: str, resource: str, path: str, *, query: Any = None, body: Any = None) -> bytes:
        return msgspec.json.encode(await self.call(verb, resource, path, query=query, body=body))


def merged(before: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    after = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = merged(after.get(key), value)
    return after
