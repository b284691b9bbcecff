"""One cluster and one release for the whole run; the tests run in the order of ORDER, which shows most first.

PEAKCLIP_E2E_CONTEXT=NAME   use the cluster of $KUBECONFIG if its current context has this name (see place.py)
PEAKCLIP_E2E_NAMESPACE=NAME where the release goes (peakclip-e2e). It is deleted first, and at the end
PEAKCLIP_E2E_RESULTS=DIR    keep the measured figures and the tables there
PEAKCLIP_E2E_TAG=TAG        of the images, where several trees share a cluster (the project's version)
PEAKCLIP_E2E_HELM=ARGS      what helm must be told on this cluster: "--set image.registry=registry.example"
PEAKCLIP_E2E_BARS=1         the machine is quiet: fail where it is slower than two such cores are (record.py)
PEAKCLIP_E2E_KEEP=1         leave the release and its namespace
PEAKCLIP_E2E_REUSE=1        use what such a run left, as it is: neither images nor the release are made anew
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.dump import dump
from e2e.place import Place, choose, reuse
from e2e.shell import ROOT, CommandError, Helm, Kubectl
from e2e.story import api_of
from e2e.system import Keys, System, make_keys
from e2e.wait import wait_for

ORDER: Final = (
    *("install", "burst", "anchor", "reaper", "resource", "disturbances"),
    *("alerts", "rights", "operator", "lifecycle"),
)
RELEASE: Final = "peakclip"
CHART: Final = ROOT / "charts/peakclip"
VALUES: Final = Path(__file__).parent / "values.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker("e2e")
        if item.get_closest_marker("timeout") is None:
            # Not what fixtures take, such as a cluster's first start: their steps have deadlines of their own.
            item.add_marker(pytest.mark.timeout(600, func_only=True))
    here.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    items[:] = [item for item in items if item not in here] + here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report: pytest.TestReport = yield
    installed = getattr(item, "funcargs", {}).get("installed")
    if report.failed and installed is not None:
        report.sections.append(("the namespace", asyncio.run(dump(installed.kubectl))))
    return report


@dataclass(frozen=True, slots=True)
class Installed:
    """The release as `helm install` left it."""

    place: Place
    namespace: str
    seconds: float  # of `helm install --wait`
    said: str

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.place.env, self.namespace)

    @property
    def helm(self) -> Helm:
        return Helm(self.place.env, self.namespace, RELEASE)


@pytest.fixture(scope="session")
def place() -> Place:
    chosen = choose()
    print(f"cluster: {chosen.name}")
    return chosen


@pytest.fixture(scope="session")
def installed(place: Place) -> Iterator[Installed]:
    """The chart with its default values, in a namespace that lets in nothing but restricted pods."""
    namespace = os.environ.get("PEAKCLIP_E2E_NAMESPACE", "peakclip-e2e")
    kubectl, helm = Kubectl(place.env, namespace), Helm(place.env, namespace, RELEASE)
    if reuse():
        yield Installed(place, namespace, 0.0, "")
        return
    asyncio.run(_new_namespace(kubectl))
    asyncio.run(_own_definition(kubectl))
    began = time.monotonic()
    try:
        said = asyncio.run(install(helm, *place.values))
    except CommandError as exc:
        raise CommandError(f"{exc}\n{asyncio.run(dump(kubectl))}") from None
    yield Installed(place, namespace, time.monotonic() - began, said)
    if not os.environ.get("PEAKCLIP_E2E_KEEP"):
        asyncio.run(remove(helm, kubectl))


@pytest.fixture(scope="session")
def keys(installed: Installed) -> Keys:
    """With the Ingress and the pools of the tests (values.yaml)."""
    return asyncio.run(shape(installed))


@pytest.fixture
async def system(installed: Installed, keys: Keys) -> AsyncIterator[System]:
    async with api_of(installed.kubectl) as api:
        system = System(installed.place, installed.namespace, RELEASE, keys, api)
        yield system
        # As in values.yaml: an upgrade would refuse to change what somebody else has changed.
        await system.change(
            "orders", {"throughput": {"limitPerSecond": 100}, "replicas": {"min": 1, "max": 20}}
        )


async def install(helm: Helm, *args: str) -> str:
    return await helm("install", CHART, "--wait", "--timeout=5m", *args, seconds=330)


def shaping(place: Place) -> tuple[str, ...]:
    return ("--set", f"api.ingress.className={place.ingress_class}", *place.values)


async def shape(installed: Installed) -> Keys:
    # Changes that kubectl made in a run which was stopped are ours to undo.
    options = ("--wait", "--timeout=5m", "--force-conflicts", "-f", VALUES)
    await installed.helm("upgrade", CHART, *options, *shaping(installed.place), seconds=330)
    return await make_keys(installed.kubectl, RELEASE)


async def remove(helm: Helm, kubectl: Kubectl) -> None:
    await helm("uninstall", "--wait", "--ignore-not-found", "--timeout=2m", seconds=150)
    await kubectl(
        "delete", "namespace", kubectl.namespace, "--ignore-not-found", "--timeout=120s", seconds=150
    )


async def _own_definition(kubectl: Kubectl) -> None:
    """Helm leaves a definition alone that is there: one of an earlier tree would be tested instead of this one's."""
    if (await kubectl("get", "crd", "workerpools.peakclip.dev", "--ignore-not-found")).strip():
        await kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))


async def _new_namespace(kubectl: Kubectl) -> None:
    """What an earlier run left goes first."""
    await kubectl(
        "delete", "namespace", kubectl.namespace, "--ignore-not-found", "--timeout=120s", seconds=150
    )
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    metadata = {"name": kubectl.namespace, "labels": labels}
    await kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    async def account() -> str:
        return await kubectl("get", "serviceaccount", "default", "-o", "name")

    await wait_for("the namespace's own service account", account, bool, 30)
