"""The Tiltfile, run with stand-ins that record: Tilt needs a container engine. Starlark is near enough to Python."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendered import CHART, objects, with_helm

ROOT = CHART.parents[1]
VALUES = ROOT / "k8s/dev/values.yaml"
Call = tuple[tuple[Any, ...], dict[str, Any]]
KNOWN = (
    "allow_k8s_contexts", "cmd_button", "docker_build", "fall_back_on", "helm", "k8s_kind", "k8s_resource", "k8s_yaml",
    "link", "load", "local_resource", "sync", "update_settings",
)  # fmt: skip


class Tilt:
    """Takes down every call; `helm` gives back what the chart makes."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Call]] = {name: [] for name in KNOWN}
        given: dict[str, Any] = {name: self._recorder(name) for name in KNOWN}
        given |= {"decode_yaml_stream": lambda text: text, "TRIGGER_MODE_MANUAL": "manual"}
        exec(compile((ROOT / "Tiltfile").read_text(), "Tiltfile", "exec"), given)

    def _recorder(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.calls[name].append((args, named))
            return self.rendered() if name == "helm" else (name, *args)

        return call

    @staticmethod
    def rendered() -> list[dict[str, Any]]:
        """As Tilt renders: what is in `crds/` as well."""
        return list(objects(VALUES, "--include-crds"))

    def manifests(self) -> list[dict[str, Any]]:
        found = []
        for (given,), _ in self.calls["k8s_yaml"]:
            found += list(yaml.safe_load_all((ROOT / given).read_text())) if isinstance(given, str) else given
        return found

    def resources(self) -> dict[str, str]:
        """What each resource is called, and the workload it is made of."""
        return {
            named.get("new_name", args[0] if args else ""): args[0] if args else ""
            for args, named in self.calls["k8s_resource"]
        }


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return Tilt()


def paths(tilt: Tilt) -> set[str]:
    named = {VALUES.relative_to(ROOT).as_posix()}
    for args, given in tilt.calls["docker_build"]:
        named |= {args[1], given["dockerfile"], *given["only"]}
    for args, _ in tilt.calls["sync"]:
        named.add(args[0])
    for args, _ in tilt.calls["fall_back_on"]:
        named |= set(args[0])
    for args, given in tilt.calls["local_resource"]:
        named |= {*given.get("deps", []), *([] if args[1].startswith("make ") else [args[1]])}
    for args, given in tilt.calls["helm"]:
        named |= {args[0], *given["values"]}
    return named


@with_helm
def test_every_path_exists(tilt: Tilt) -> None:
    assert {path for path in paths(tilt) if not (ROOT / path).exists()} == set()
    programs = {given["argv"][0] for _, given in tilt.calls["cmd_button"]} - {"kubectl"}
    assert programs == {"k8s/dev/burst"}
    assert shutil.which(str(ROOT / "k8s/dev/burst")) is not None


@with_helm
def test_every_resource_is_in_the_chart_and_has_its_place(tilt: Tilt) -> None:
    workloads = {
        one["metadata"]["name"]
        for one in tilt.manifests()
        if one["kind"] in ("Deployment", "StatefulSet", "Job", "WorkerPool")
    }
    resources = tilt.resources()
    assert set(resources.values()) - {""} == workloads
    assert all(named.get("labels") for _, named in tilt.calls["k8s_resource"])
    local = {args[0] for args, _ in tilt.calls["local_resource"]}
    for kind in ("k8s_resource", "local_resource"):
        for _, named in tilt.calls[kind]:
            assert set(named.get("resource_deps", [])) <= {*resources, *local}
    assert {named["resource"] for _, named in tilt.calls["cmd_button"]} <= set(resources)


@with_helm
def test_every_object_that_is_named_is_there(tilt: Tilt) -> None:
    made = {f"{one['metadata']['name']}:{one['kind'].lower()}" for one in tilt.manifests()}
    wanted = {one for _, named in tilt.calls["k8s_resource"] for one in named.get("objects", [])}
    assert wanted
    assert wanted - made == set()
    buttons = [given["argv"] for _, given in tilt.calls["cmd_button"] if given["argv"][0] == "kubectl"]
    assert all(f"{one[-2]}:{one[-3]}" in made for one in buttons)
    (context,) = (args for args, _ in tilt.calls["allow_k8s_contexts"])
    assert all(one[1:3] == ["--context", *context] for one in buttons), "they would reach what is current"
    assert f"--context {context[0]} " in (ROOT / "k8s/dev/burst").read_text()


@with_helm
def test_every_port_is_one_of_its_pods(tilt: Tilt) -> None:
    ports = {
        one["metadata"]["name"]: {
            port["containerPort"]
            for container in one["spec"]["template"]["spec"]["containers"]
            for port in container.get("ports", [])
        }
        for one in tilt.manifests()
        if one["kind"] in ("Deployment", "StatefulSet")
    }
    here = []
    for args, named in tilt.calls["k8s_resource"]:
        for forward in named.get("port_forwards", []):
            ours, theirs = (int(part) for part in forward.split(":"))
            assert theirs in ports[args[0]]
            here.append(ours)
    assert len(here) == len(set(here))


@with_helm
def test_every_image_is_one_that_the_chart_runs_and_the_containerfile_makes(tilt: Tilt) -> None:
    text = (ROOT / "Containerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", text, re.M))
    built = {}
    for args, given in tilt.calls["docker_build"]:
        assert {given["target"], given["build_args"]["UNIT"]} <= targets
        built[args[0]] = given
    templates = str(
        [one["spec"]["template"] for one in tilt.manifests() if "template" in one.get("spec", {})]
    )
    used = set(re.findall(r"docker\.io/peakclip/\w+", templates))
    assert set(built) == used
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M) for word in line.split()}
    for given in built.values():
        assert {word.split("/")[0] for word in copied} <= set(given["only"])
    for args, _ in tilt.calls["sync"]:
        assert args[1] in text  # one of PYTHONPATH


@with_helm
def test_the_passwords_are_those_that_the_chart_looks_for(tilt: Tilt) -> None:
    """Each key that a pod of ours asks a Secret for is in the Secret that is there for it."""
    secrets = {
        one["metadata"]["name"]: one["stringData"] for one in tilt.manifests() if one["kind"] == "Secret"
    }
    asked = re.findall(r"'secretKeyRef': (\{[^}]*\})", str(tilt.manifests()))
    assert asked
    for one in (yaml.safe_load(text) for text in asked):
        assert one["key"] in secrets[one["name"]]


def test_both_ways_to_make_the_cluster_make_the_same() -> None:
    kind = yaml.safe_load((ROOT / "k8s/kind/cluster.yaml").read_text())
    registry, cluster = yaml.safe_load_all((ROOT / "k8s/kind/ctlptl.yaml").read_text())
    assert cluster["kindV1Alpha4Cluster"] == {"name": kind["name"], "nodes": kind["nodes"]}
    assert cluster["registry"] == registry["name"]
    assert cluster["name"] == f"kind-{kind['name']}"
    assert f"CONTEXT = '{cluster['name']}'\nallow_k8s_contexts(CONTEXT)" in (ROOT / "Tiltfile").read_text()
    (node,) = kind["nodes"]
    assert re.fullmatch(r"kindest/node:v1\.\d+\.\d+@sha256:[0-9a-f]{64}", node["image"])
    (mapped,) = node["extraPortMappings"]
    ingress = list(yaml.safe_load_all((ROOT / "k8s/kind/ingress.yaml").read_text()))
    (service,) = (one for one in ingress if one["kind"] == "Service")
    assert [port["nodePort"] for port in service["spec"]["ports"]] == [mapped["containerPort"]]
    assert mapped["hostPort"] == 8081


def test_what_the_images_need_is_in_the_context() -> None:
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".containerignore").read_text(), re.M))
    text = (ROOT / "Containerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M) for word in line.split()}
    assert {word.split("/")[0] for word in copied} == kept
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()
    assert all(Path(ROOT / word).exists() for word in copied)
