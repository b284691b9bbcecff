"""What the cluster looks like while something happens, through one `kubectl proxy`: a kubectl every second would take
from the machine what is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from e2e.shell import CommandError, Kubectl
from e2e.wait import wait_for

_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
_AWAY: Final = (aiohttp.ClientError, TimeoutError, OSError)


class Api:
    """The API server's answers as values."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, *, table: bool = False) -> Any:
        async with self._session.get(path, headers={"Accept": _TABLE} if table else {}) as response:
            if response.status != 200:
                raise CommandError(f"GET {path}: {response.status} {(await response.text())[:500]}")
            return await response.json()

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Any]]:
        """(ADDED, MODIFIED or DELETED, the object), until the server ends it."""
        limits = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with self._session.get(path, params={"watch": "1", **query}, timeout=limits) as response:
            async for line in response.content:
                event = json.loads(line)
                yield event["type"], event["object"]


@contextlib.asynccontextmanager
async def api_of(kubectl: Kubectl) -> AsyncIterator[Api]:
    """Connections to the API server by `kubectl proxy`, which knows every way to log in."""
    async with kubectl.proxy() as port:
        limits = aiohttp.ClientTimeout(total=15)
        # Events of large objects come in one line.
        base = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(base, timeout=limits, read_bufsize=2**22) as session:
            yield Api(session)


@dataclass
class Story:
    """`kubectl get wp`, once a second: the table that the API server makes for kubectl."""

    name: str
    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    rows: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    def note(self, table: Any) -> None:
        columns = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
        for row in table["rows"]:
            if row["object"]["metadata"]["name"] != self.name:
                continue
            seen = {
                column["name"]: "" if cell is None else str(cell)
                for column, cell in zip(table["columnDefinitions"], row["cells"], strict=True)
            }
            at = time.monotonic() - self.began
            if not self.rows:
                self._say("   SECOND  " + _line(columns))
            self.rows.append((at, seen))
            self._say(f"{at:9.1f}  " + _line([seen[name] for name in columns]))

    def say(self, what: str) -> None:
        self._say(f"{time.monotonic() - self.began:9.1f}  -- {what}")

    async def until(self, holds: Callable[[Mapping[str, str]], bool], seconds: float) -> None:
        """Until the newest row tells that."""

        async def newest() -> Mapping[str, str]:
            return self.rows[-1][1]

        await wait_for("the row of the pool", newest, holds, seconds)

    def column(self, name: str) -> list[str]:
        """What stood in a column, moment by moment, without repetitions."""
        values: list[str] = []
        for _, row in self.rows:
            if not values or values[-1] != row[name]:
                values.append(row[name])
        return values

    def _say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)


def _line(cells: list[str]) -> str:
    return " ".join(f"{cell:<9.28}" for cell in cells).rstrip()


@contextlib.asynccontextmanager
async def told(api: Api, namespace: str, name: str) -> AsyncIterator[Story]:
    """Records while the block runs. A second in which the API server does not answer is left out."""
    story = Story(name)
    path = f"/apis/peakclip.dev/v1alpha1/namespaces/{namespace}/workerpools"

    async def record() -> None:
        while True:
            with contextlib.suppress(CommandError, *_AWAY):
                story.note(await api.get(path, table=True))
            await asyncio.sleep(1.0 - (time.monotonic() - story.began) % 1.0)

    async with _running(record()):
        yield story


@dataclass
class PodSeconds:
    """When which pod was Ready, by a watch: epoch seconds."""

    since: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def ready(self) -> int:
        return len(self.since)

    def most(self) -> int:
        """The most pods that were ready at once."""
        edges = [(begin, 1) for _, begin, _ in self.spans] + [(end, -1) for _, _, end in self.spans]
        edges += [(begin, 1) for begin in self.since.values()]
        most = now = 0
        for _, step in sorted(edges):
            now += step
            most = max(most, now)
        return most

    def seconds(self, begin: float, end: float) -> float:
        """Ready pod-seconds within [begin, end]."""
        spans = [*self.spans, *((name, at, time.time()) for name, at in self.since.items())]
        return sum(max(0.0, min(until, end) - max(at, begin)) for _, at, until in spans)

    def note(self, kind: str, pod: Any) -> None:
        name, now = pod["metadata"]["name"], time.time()
        conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}
        if kind != "DELETED" and conditions.get("Ready") == "True":
            self.since.setdefault(name, now)
        elif (began := self.since.pop(name, None)) is not None:
            self.spans.append((name, began, now))
        for container in pod.get("status", {}).get("containerStatuses", ()):
            if container["restartCount"]:
                self.restarts[name] = container["restartCount"]

    def listed(self, pods: list[Any]) -> None:
        """All there are now: what is not among them is gone."""
        names = {pod["metadata"]["name"] for pod in pods}
        for name in set(self.since) - names:
            self.spans.append((name, self.since.pop(name), time.time()))
        for pod in pods:
            self.note("ADDED", pod)


@contextlib.asynccontextmanager
async def counted(api: Api, namespace: str, selector: str) -> AsyncIterator[PodSeconds]:
    """Ready pods with these labels while the block runs."""
    pods = PodSeconds()
    path = f"/api/v1/namespaces/{namespace}/pods"

    async def listing() -> str:
        found = await api.get(f"{path}?labelSelector={selector}")
        pods.listed(found["items"])
        return str(found["metadata"]["resourceVersion"])

    async def record(version: str) -> None:
        while True:
            with contextlib.suppress(CommandError, *_AWAY):
                async for kind, pod in api.watch(path, labelSelector=selector, resourceVersion=version):
                    if kind == "ERROR":
                        break
                    pods.note(kind, pod)
            await asyncio.sleep(0.2)
            with contextlib.suppress(CommandError, *_AWAY):
                version = await listing()

    async with _running(record(await listing())):
        yield pods


@contextlib.asynccontextmanager
async def _running(work: Any) -> AsyncIterator[None]:
    """A failure of the work is the block's failure; the block's end is the work's."""
    task = asyncio.create_task(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
