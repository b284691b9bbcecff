"""The chart, rendered by helm for a file of values, as objects. Not a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

CHART: Final = Path(__file__).parents[2] / "charts" / "peakclip"
CI_VALUES: Final = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE: Final = "shop"

_CACHE: Final = Path(os.environ.get("PEAKCLIP_CLUSTER_CACHE", Path.home() / ".cache/peakclip-cluster"))
HELM: Final = shutil.which("helm") or shutil.which("helm", path=str(_CACHE / "bin"))
with_helm: Final = pytest.mark.skipif(
    HELM is None, reason="NOT TESTED: no helm here (`make e2e` compiles one)"
)
each_values: Final = pytest.mark.parametrize(
    "values", CI_VALUES, ids=lambda path: path.name.removesuffix("-values.yaml")
)

Object = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False, timeout=60)


@cache
def text(values: Path, *options: str) -> str:
    done = helm("template", "peakclip", str(CHART), "-n", NAMESPACE, "-f", str(values), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(values: Path, *options: str) -> tuple[Object, ...]:
    return tuple(one for one in yaml.safe_load_all(text(values, *options)) if one)


def refusal(*options: str) -> str:
    """What helm says of values that it does not take."""
    done = helm("template", "peakclip", str(CHART), "-n", NAMESPACE, *options)
    assert done.returncode != 0, "these values were taken"
    return done.stderr


def of_kind(kind: str, values: Path) -> list[Object]:
    return [one for one in objects(values) if one["kind"] == kind]


def pod_templates(values: Path) -> Iterator[tuple[str, Object]]:
    """(name, pod) of everything that makes pods: labels in `metadata`, the rest in `spec`."""
    for one in objects(values):
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield name, one
        elif "template" in one.get("spec", {}):
            yield name, one["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def selects(selector: dict[str, str], pod: Object) -> bool:
    return selector.items() <= pod["metadata"]["labels"].items()
