"""A real Prometheus (Debian's package) for a test: it scrapes what it is told to, with the chart's own rules.

    async with Prometheus(tmp_path, at(address), faster=60) as prometheus:
        await prometheus.until_firing("PeakclipDeadLetters")
        assert await prometheus.without_data(dashboard_queries()) == []

`at` scrapes one address; `places_of` are the pods of a release through `kubectl proxy`, so that none need be reachable.
`faster` divides every duration in the rules, so that an alert which waits for ten minutes fires within a test. Nothing
else about them changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import aiohttp
import yaml

FILES: Final = Path(__file__).parents[2] / "charts" / "peakclip" / "files"
RULES: Final = FILES / "alerts.yaml"
DASHBOARD: Final = FILES / "dashboards" / "peakclip.json"
PROGRAM: Final = shutil.which("prometheus")
HOW_TO_GET_IT: Final = "no prometheus here (Debian: apt-get install --no-install-recommends prometheus)"

_SHORTEST_RANGE_SECONDS: Final = 10  # of a rate: some scrapes
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+)([smhd])")


class Query(NamedTuple):
    panel: str
    expression: str


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


def shortened(rules: str, faster: float) -> str:
    """The same rules with every duration divided: `for`, ranges and offsets."""

    def seconds(duration: str) -> float:
        match = _DURATION.fullmatch(duration)
        assert match, duration
        return int(match[1]) * _UNITS[match[2]] / faster

    def in_expression(match: re.Match[str]) -> str:
        return f"{match[1]}{max(_SHORTEST_RANGE_SECONDS, round(seconds(match[2])))}s{match[3]}"

    document = yaml.safe_load(rules)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"(\[|offset )(\d+[smhd])(\]|)", in_expression, rule["expr"])
        if "for" in rule:
            rule["for"] = f"{max(1, round(seconds(rule['for'])))}s"
    return str(yaml.safe_dump(document))


def dashboard_queries(interval: str = "1m", **chosen: str) -> list[Query]:
    """Every query of the dashboard as Grafana would send it, by default with `All` for each variable."""
    values = {"namespace": ".*", "release": ".*", "pool": ".*", **chosen, "__rate_interval": interval}
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = re.sub(r"\$(\w+)", lambda match: values[match[1]], target["expr"])
            found.append(Query(panel["title"], expression))
    return found


def at(address: str) -> dict[str, Any]:
    """A scrape configuration for one `host:port`."""
    return {"job_name": "peakclip", "static_configs": [{"targets": [address]}]}


def in_file(path: Path) -> dict[str, Any]:
    """For the places that a file names, now and later. Debian's Prometheus cannot ask Kubernetes itself."""
    return {"job_name": "peakclip", "file_sd_configs": [{"files": [str(path)]}]}


def places_of(pods: Sequence[Mapping[str, Any]], proxy_port: int) -> list[dict[str, Any]]:
    """Of running pods with a port `management`, through the API server's proxy, with the labels that the chart's
    monitors give them."""
    found = []
    for pod in pods:
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", ())]
        if pod["status"].get("phase") != "Running" or not any(p.get("name") == "management" for p in ports):
            continue
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        labels = {
            "namespace": namespace,
            "release": pod["metadata"]["labels"]["app.kubernetes.io/instance"],
            "pod": name,
            "instance": name,
            "__metrics_path__": f"/api/v1/namespaces/{namespace}/pods/{name}:9090/proxy/metrics",
        }
        found.append({"targets": [f"127.0.0.1:{proxy_port}"], "labels": labels})
    return found


class Prometheus:
    """Runs while it is entered."""

    def __init__(
        self, directory: Path, scrape: Mapping[str, Any], *, faster: float = 1.0, scrape_seconds: int = 1
    ) -> None:
        assert PROGRAM is not None, HOW_TO_GET_IT
        self._directory = directory
        self._scrape = scrape
        self._faster = faster
        self._scrape_seconds = scrape_seconds
        self._stack = contextlib.AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Prometheus:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        config = self._write_config()
        address = f"127.0.0.1:{_free_port()}"
        self.url = f"http://{address}"
        log = self._stack.enter_context((self._directory / "prometheus.log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
        self._stack.push_async_callback(_stop, process)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        async with asyncio.timeout(30):
            while not await self._answers():
                assert process.returncode is None, (self._directory / "prometheus.log").read_text()
                await asyncio.sleep(0.1)

    def _write_config(self) -> Path:
        rules = self._directory / "rules.yaml"
        rules.write_text(shortened(RULES.read_text(), self._faster))
        every = f"{self._scrape_seconds}s"
        config = self._directory / "prometheus.yaml"
        document = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(rules)],
            "scrape_configs": [dict(self._scrape)],
        }
        config.write_text(yaml.safe_dump(document))
        return config

    async def _answers(self) -> bool:
        try:
            async with self._http.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def _get(self, path: str, **parameters: str) -> Any:
        async with self._http.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", (path, parameters, answer)
        return answer["data"]

    async def query(self, expression: str) -> list[Sample]:
        """The instant vector of now."""
        data = await self._get("query", query=expression)
        assert data["resultType"] == "vector", expression
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    async def without_data(self, queries: Sequence[Query]) -> list[Query]:
        """Those that answer nothing, or nothing but NaN."""
        answers = [(query, await self.query(query.expression)) for query in queries]
        return [query for query, found in answers if all(math.isnan(one.value) for one in found)]

    async def alerts(self, state: str = "firing") -> dict[str, dict[str, str]]:
        """Alerts in this state: name, and annotations as people get them (of one, if several are alike)."""
        found = (await self._get("alerts"))["alerts"]
        return {one["labels"]["alertname"]: one["annotations"] for one in found if one["state"] == state}

    async def until_firing(self, alert: str, seconds: float = 60.0) -> dict[str, str]:
        """Its annotations."""
        return (await self._until(alert, seconds, firing=True))[alert]

    async def until_silent(self, alert: str, seconds: float = 60.0) -> None:
        await self._until(alert, seconds, firing=False)

    async def _until(self, alert: str, seconds: float, *, firing: bool) -> dict[str, dict[str, str]]:
        try:
            async with asyncio.timeout(seconds):
                while (alert in (found := await self.alerts())) is not firing:  # noqa: ASYNC110 - asked for
                    await asyncio.sleep(0.2)
                return found
        except TimeoutError:
            pending = await self.alerts("pending")
            raise AssertionError(
                f"{alert} is {'not ' if firing else 'still '}firing after {seconds:g} s;"
                f" firing: {sorted(await self.alerts())}, pending: {sorted(pending)}"
            ) from None


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
