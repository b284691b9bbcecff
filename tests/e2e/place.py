"""Which Kubernetes the tests run on, and how images get there.

1. `$KUBECONFIG`, if its current context is the one that PEAKCLIP_E2E_CONTEXT names: the tests delete namespaces.
   The images must be there already, or be reachable for it; PEAKCLIP_E2E_URL says where its Ingresses answer.
2. kind, where a container engine and kind are: a cluster `peakclip`, made if it is not there.
3. The bare node of `tests/e2e/cluster`: needs root, Debian or Ubuntu, and Go.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from e2e.shell import ROOT

_SCRIPTS: Final = ROOT / "tests/e2e/cluster"
_KIND: Final = "peakclip"
UNITS: Final = ("api", "worker", "operator")


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster that answers, with the images of this tree."""

    name: str
    env: Mapping[str, str] = field(default_factory=dict)  # for kubectl and helm
    entry: str = "http://localhost:8081"  # where Ingresses of its class answer
    ingress_class: str = "traefik"
    audit_log: Path | None = None  # of the API server, where it can be read
    values: tuple[str, ...] = ()  # for helm: what must be said on this cluster


def choose() -> Place:
    values = shlex.split(os.environ.get("PEAKCLIP_E2E_HELM", ""))
    if tag := os.environ.get("PEAKCLIP_E2E_TAG"):
        values += ["--set", f"image.tag={tag}"]
    return replace(_choose(), values=tuple(values))


def _choose() -> Place:
    wanted = os.environ.get("PEAKCLIP_E2E_CONTEXT")
    if wanted and "KUBECONFIG" in os.environ:
        return _given(wanted)
    if _has_kind():
        return _kind()
    return _bare_node()


def prepare() -> None:
    """What takes long on a machine that has never had the bare node, if that one will be chosen."""
    if not (os.environ.get("PEAKCLIP_E2E_CONTEXT") or _has_kind()):
        _show(str(_SCRIPTS / "build"), minutes=40)
        _show(str(_SCRIPTS / "images"), minutes=15)


def _given(wanted: str) -> Place:
    current = _run("kubectl", "config", "current-context").strip()
    if current != wanted:
        raise RuntimeError(
            f"the current context is {current!r}, PEAKCLIP_E2E_CONTEXT allows {wanted!r}: nothing was touched"
        )
    entry = os.environ.get("PEAKCLIP_E2E_URL", "http://localhost:8081")
    return Place(f"context {current}", entry=entry, ingress_class=os.environ.get("PEAKCLIP_E2E_CLASS", ""))


def _kind() -> Place:
    _show(str(ROOT / "scripts/kind-cluster"), minutes=15)  # with its ingress; what is there stays
    _show(str(ROOT / "scripts/build-images"), minutes=20, env={"TAG": _tag()})
    _show("kind", "load", "docker-image", "--name", _KIND, *images(), minutes=5)
    config = ROOT / ".venv/kind.kubeconfig"
    config.write_text(_run("kind", "get", "kubeconfig", "--name", _KIND))
    return Place("kind", {"KUBECONFIG": str(config)})


def _bare_node() -> Place:
    _show(str(_SCRIPTS / "up"), minutes=30)
    if not reuse():
        _provide_images()
    cache = os.environ.get("PEAKCLIP_CLUSTER_CACHE") or str(Path.home() / ".cache/peakclip-cluster")
    folder = Path(os.environ.get("PEAKCLIP_CLUSTER_RUN") or "/run/peakclip-cluster")
    env = {"KUBECONFIG": str(folder / "admin.conf"), "PATH": f"{cache}/bin:{os.environ['PATH']}"}
    return Place("bare node", env, audit_log=folder / "logs/audit.log")


def _provide_images() -> None:
    _show(str(_SCRIPTS / "images"), minutes=15)
    _show(str(ROOT / "scripts/build-images"), minutes=20, env={"BUILDER": "buildah", "TAG": _tag()})
    for image in images():
        _show(str(_SCRIPTS / "load-image"), image, minutes=5)


def reuse() -> bool:
    """Whether the release that an earlier run left is good enough."""
    return bool(os.environ.get("PEAKCLIP_E2E_REUSE"))


def images() -> list[str]:
    return [f"docker.io/peakclip/{unit}:{_tag()}" for unit in UNITS]


def _tag() -> str:
    """The project's version, unless several trees share a cluster."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return os.environ.get("PEAKCLIP_E2E_TAG") or str(project["version"])


def _has_kind() -> bool:
    """kind, and a container engine: a client without its engine builds nothing."""
    return shutil.which("kind") is not None and any(
        shutil.which(engine) and subprocess.run([engine, "info"], capture_output=True).returncode == 0
        for engine in ("docker", "podman")
    )


def _run(*command: str) -> str:
    """Its output."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


def _show(*command: str, minutes: float, env: Mapping[str, str] | None = None) -> None:
    """What it says is seen as it is said: some of these take minutes."""
    environ = {**os.environ, **(env or {})}
    subprocess.run(command, cwd=ROOT, env=environ, check=True, timeout=minutes * 60, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    prepare()
