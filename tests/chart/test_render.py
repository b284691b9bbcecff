"""What the chart makes of each file of values that CI has for it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from chart.rendered import (
    CHART,
    NAMESPACE,
    containers,
    each_values,
    helm,
    objects,
    of_kind,
    pod_templates,
    selects,
    text,
    with_helm,
)

pytestmark = [with_helm, each_values]

_OF_NO_NAMESPACE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def test_lint_is_clean(values: Path) -> None:
    done = helm("lint", "--strict", str(CHART), "-f", str(values))
    assert done.returncode == 0, done.stdout


def test_every_pod_is_restricted(values: Path) -> None:
    """Pod Security "restricted", and a root that is read-only."""
    found = dict(pod_templates(values))
    assert found
    for name, pod in found.items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all("hostPath" not in volume for volume in spec.get("volumes", [])), name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "hostPort" not in str(container.get("ports")), name


def test_who_gets_a_token(values: Path) -> None:
    """The operator, and the test that asks the API server for the pools."""
    for name, pod in pod_templates(values):
        expected = name.endswith(("-operator", "-test-workerpools"))
        assert pod["spec"]["automountServiceAccountToken"] is expected, name
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_every_container_says_what_it_needs(values: Path) -> None:
    for name, pod in pod_templates(values):
        for container in containers(pod):
            assert container["resources"]["requests"], name
            repository, _, tag = container["image"].partition("@")[0].rpartition(":")
            assert repository, f"{name}: {container['image']} has no tag"
            assert tag, f"{name}: {container['image']} has no tag"


def test_a_variable_has_one_value(values: Path) -> None:
    """A name that is there twice is an error of the API server's."""
    for name, pod in pod_templates(values):
        for container in containers(pod):
            names = [one["name"] for one in container.get("env", [])]
            assert len(names) == len(set(names)), name


def test_replicas_are_left_to_who_scales(values: Path) -> None:
    scaled = {one["spec"]["workload"]["name"] for one in of_kind("WorkerPool", values)}
    scaled |= {one["spec"]["scaleTargetRef"]["name"] for one in of_kind("HorizontalPodAutoscaler", values)}
    assert scaled
    there = {one["metadata"]["name"]: one["spec"] for one in of_kind("Deployment", values)}
    assert scaled <= there.keys()
    for name, spec in there.items():
        assert ("replicas" in spec) is (name not in scaled), name


def test_only_one_relay_at_a_time(values: Path) -> None:
    (relay,) = (one for one in of_kind("Deployment", values) if one["metadata"]["name"].endswith("-relay"))
    assert relay["spec"]["replicas"] == 1
    assert relay["spec"]["strategy"] == {"type": "Recreate"}


def test_selectors_find_their_own_pods(values: Path) -> None:
    pods = dict(pod_templates(values))
    for one in objects(values):
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Service":
            assert any(selects(one["spec"]["selector"], pod) for pod in pods.values()), name
        elif one["kind"] in ("Deployment", "StatefulSet"):
            selector = one["spec"]["selector"]["matchLabels"]
            found = [other for other, pod in pods.items() if selects(selector, pod)]
            assert found == [name], f"{name} selects {found}"


def test_network_policies_cover_every_pod(values: Path) -> None:
    policies = of_kind("NetworkPolicy", values)
    if not policies:
        assert values.name == "minimal-values.yaml"
        return
    for policy in policies:
        selector = policy["spec"]["podSelector"]["matchLabels"]
        found = [pod for _, pod in pod_templates(values) if selects(selector, pod)]
        assert found, policy["metadata"]["name"]
    (default,) = (one for one in policies if one["metadata"]["name"].endswith("-default"))
    assert default["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default["spec"]
    selector = default["spec"]["podSelector"]["matchLabels"]
    assert all(selects(selector, pod) for _, pod in pod_templates(values))


def test_ports_by_name_are_there(values: Path) -> None:
    """Probes, Services and policies name ports; one that no container has would be silent."""
    for name, pod in pod_templates(values):
        for container in containers(pod):
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                get = container.get(probe, {}).get("httpGet")
                assert get is None or get["port"] in ports, f"{name}: {probe}"


def test_nats_is_restarted_for_what_a_restart_heals(values: Path) -> None:
    """Alone: for a stream whose write failed, which only the whole /healthz tells, but not while it recovers.

    In a cluster that one fails as well while the others are away: who is ended for that never comes to a quorum.
    """
    for one in of_kind("StatefulSet", values):
        if one["metadata"]["labels"]["app.kubernetes.io/component"] != "nats":
            continue
        (container,) = one["spec"]["template"]["spec"]["containers"]
        paths = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe")}
        whole, enabled = "/healthz", "/healthz?js-enabled-only=true"
        if one["spec"]["replicas"] == 1:
            assert paths == {"startupProbe": enabled, "livenessProbe": whole}
        else:
            assert paths == {"startupProbe": whole, "livenessProbe": enabled}
        start, live = container["startupProbe"], container["livenessProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 1800, "it may recover for half an hour"
        assert live["periodSeconds"] * live["failureThreshold"] >= 60, "one that is busy is not dead"


def test_postgresql_is_restarted_when_nobody_recovers_it(values: Path, tmp_path: Path) -> None:
    """pg_isready says 1 of a server that takes nobody yet, and 2 when nobody answers."""
    for one in of_kind("StatefulSet", values):
        if one["metadata"]["labels"]["app.kubernetes.io/component"] != "postgresql":
            continue
        (container,) = one["spec"]["template"]["spec"]["containers"]
        *_, probe = container["livenessProbe"]["exec"]["command"]
        _, _, unless = probe.partition(" || ")
        process = tmp_path / "7"
        process.mkdir()
        for title, alive in (("checkpointer ", [0]), ("startup recovering 0001", [0, 1])):
            (process / "cmdline").write_bytes(b"postgres: " + title.encode() + b"\0")
            shell = unless.replace("/proc", str(tmp_path))
            codes = {said: subprocess.call(["sh", "-c", f"(exit {said}) || {shell}"]) for said in (0, 1, 2)}
            assert [said for said, code in codes.items() if code == 0] == alive, title


def test_the_grace_is_longer_than_the_drain(values: Path) -> None:
    drains = {"api": 10 + 5 + 2, "worker": 15, "relay": 20 + 15}
    for name, pod in pod_templates(values):
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        assert pod["spec"]["terminationGracePeriodSeconds"] > drains.get(component, 0), name


def test_labels_and_names(values: Path) -> None:
    extra = {"extra", "peakclip-templated"}  # of extraObjects: as they were given
    for one in objects(values):
        metadata = one["metadata"]
        if metadata["name"] in extra:
            continue
        assert len(metadata["name"]) <= 63
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "peakclip", metadata["name"]
        if one["kind"] in _OF_NO_NAMESPACE:
            assert "namespace" not in metadata, metadata["name"]
        else:
            assert metadata["namespace"] in (NAMESPACE, "monitoring"), metadata["name"]


def test_secrets_are_secrets(values: Path) -> None:
    """No password in a ConfigMap, an argument or a variable that is written out."""
    passwords = {
        value
        for one in of_kind("Secret", values)
        for key, value in one["stringData"].items()
        if key.endswith("password")
    }
    for one in objects(values):
        if one["kind"] != "Secret":
            written = yaml.safe_dump(one)
            assert not any(password in written for password in passwords), one["metadata"]["name"]
            assert not re.search(r"(nats|postgresql)://\w+:(?!\$)", written), one["metadata"]["name"]


def test_rights_have_reasons(values: Path) -> None:
    """Each rule of a Role follows a comment, and none has a wildcard."""
    for document in text(values).split("\n---\n"):
        if not re.search(r"^kind: (Cluster)?Role$", document, re.MULTILINE):
            continue
        lines = document[document.index("\nrules:") :].splitlines()
        rules = [number for number, line in enumerate(lines) if line.lstrip().startswith("- apiGroups")]
        assert rules
        for number in rules:
            assert lines[number - 1].lstrip().startswith("# "), lines[number : number + 3]
        assert "*" not in document[document.index("\nrules:") :]


def test_nothing_is_bound_in_the_whole_cluster_unasked(values: Path) -> None:
    roles = of_kind("ClusterRole", values)
    assert bool(roles) is (values.name == "everything-values.yaml")
