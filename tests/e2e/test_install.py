"""`helm install` on an empty namespace with nothing but default values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import CHART, Installed
from e2e.record import measured
from e2e.shell import run
from e2e.wait import wait_for

CI_VALUES = sorted((CHART / "ci").glob("*.yaml"))


async def test_everything_is_ready(installed: Installed) -> None:
    measured("install", {"seconds": round(installed.seconds, 1), "cluster": installed.place.name})
    for pod in await installed.kubectl.items("pods", "-l", "app.kubernetes.io/component!=migrate"):
        ready = [container["ready"] for container in pod["status"]["containerStatuses"]]
        assert all(ready), (pod["metadata"]["name"], pod["status"])
    print(await installed.kubectl("get", "workerpools,pods"))
    print(installed.said)


async def test_every_pool_is_looked_after(installed: Installed) -> None:
    async def pools() -> dict[str, str]:
        found = await installed.kubectl.items("workerpools")
        return {pool["metadata"]["name"]: _condition(pool, "Ready") for pool in found}

    seen = await wait_for(
        "every WorkerPool is Ready", pools, lambda ready: bool(ready) and set(ready.values()) == {"True"}, 60
    )
    assert set(seen) == {"peakclip-orders", "peakclip-effects", "peakclip-reaper"}


async def test_a_second_look_finds_nothing_to_restart(installed: Installed) -> None:
    """A process that could not start at once waits by itself."""
    for pod in await installed.kubectl.items("pods"):
        for container in pod["status"].get("containerStatuses", []):
            assert container["restartCount"] == 0, (pod["metadata"]["name"], container)


async def test_the_pods_of_helm_test_pass(installed: Installed) -> None:
    print(await installed.helm("test", "--timeout=3m", seconds=200))


async def test_helm_lint_has_nothing_to_say(installed: Installed) -> None:
    said = await run("helm", "lint", "--strict", CHART, env=installed.place.env)
    assert "WARNING" not in said
    assert "ERROR" not in said


@pytest.mark.parametrize("values", CI_VALUES, ids=[path.stem for path in CI_VALUES])
async def test_the_api_server_takes_what_is_rendered(installed: Installed, values: Path) -> None:
    """Every object of every example of values, by a dry run on the server. Kinds of a Prometheus operator, which
    this server does not know, are left out and named; the pods of `helm test` are run above."""
    rendered = await run(
        "helm", "template", "try", CHART, "-f", values, "-n", installed.namespace, "--no-hooks",
        env=installed.place.env,
    )  # fmt: skip
    known = {
        line.split()[-1] for line in (await installed.kubectl("api-resources", "--no-headers")).splitlines()
    }
    documents = [one for one in rendered.split("\n---\n") if "\nkind: " in f"\n{one}"]
    unknown = {kind for one in documents if (kind := _kind(one)) not in known}
    assert unknown <= {"PodMonitor", "ServiceMonitor", "PrometheusRule"}, unknown
    manifest = "\n---\n".join(one for one in documents if _kind(one) not in unknown)
    said = await installed.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-", stdin=manifest
    )
    print(f"{values.name}: {len(said.splitlines())} objects; left out: {sorted(unknown) or 'none'}")


def _kind(document: str) -> str:
    return next(line.split()[1] for line in document.splitlines() if line.startswith("kind: "))


def _condition(pool: dict[str, Any], kind: str) -> str:
    conditions = pool.get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == kind), json.dumps(conditions))
