"""Who may do what: the operator at the API server, and everybody on the network."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.system import System
from e2e.wait import wait_for

Right = tuple[str, str, str]  # API group, resource with its subresource, verb

# What every authenticated account may do by `system:basic-user` and `system:discovery`; nobody can take it away.
_EVERYBODYS = {("authorization.k8s.io", "selfsubjectaccessreviews", "create")}


async def test_the_operator_asks_for_exactly_what_it_was_granted(system: System) -> None:
    """Its requests in the API server's audit log, since this release was installed, against its Roles."""
    log = system.place.audit_log
    if log is None:
        pytest.skip("NOT TESTED: rights against use. Only the bare node shows its API server's audit log")
    assert log.exists(), "the node writes one since its start: begin it anew"
    found = await system.kubectl.get("deployment", f"{system.fullname}-operator")
    account = found["spec"]["template"]["spec"]["serviceAccountName"]
    granted = {right async for right in _granted(system, account)}
    created = found["metadata"]["creationTimestamp"]
    user = f"system:serviceaccount:{system.namespace}:{account}"
    asked = set(_asked(log, user, created)) - _EVERYBODYS
    for right in sorted(granted | asked):
        print(
            " ".join(right), "" if right in granted else "NOT GRANTED", "" if right in asked else "NOT USED"
        )
    assert asked == granted


def _asked(log: Path, user: str, since: str) -> Iterator[Right]:
    files = sorted(log.parent.glob(f"{log.stem}*{log.suffix}"))
    for line in (line for file in files for line in file.read_text().splitlines()):
        if f'"{user}"' not in line:
            continue
        event = json.loads(line)
        target = event.get("objectRef")
        if event["user"]["username"] == user and event["requestReceivedTimestamp"] >= since and target:
            resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
            yield target.get("apiGroup", ""), resource, event["verb"]


async def _granted(system: System, account: str) -> AsyncIterator[Right]:
    bindings = await system.kubectl.items("rolebindings") + await system.kubectl.items("clusterrolebindings")
    subject = {"kind": "ServiceAccount", "name": account, "namespace": system.namespace}
    for binding in bindings:
        if any(subject.items() <= one.items() for one in binding.get("subjects", [])):
            role = await system.kubectl.get(binding["roleRef"]["kind"].lower(), binding["roleRef"]["name"])
            for rule in role["rules"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        for verb in rule["verbs"]:
                            yield group, resource, verb


# Who may open a connection to what. `stranger` is a pod of the same namespace without our labels. Only ports that
# somebody could reach say anything: those of the Service `nats` are not the server's monitor, the headless one has all.
_MONITOR = "nats-headless:8222"
CONNECTIONS = {
    "api": {"nats:4222": True, "postgresql:5432": True, _MONITOR: False},
    "worker": {"nats:4222": True, "postgresql:5432": True, _MONITOR: False, "api:8080": False},
    "relay": {"nats:4222": True, "postgresql:5432": True, _MONITOR: False, "api:8080": False},
    "operator": {"nats:4222": True, "postgresql:5432": False, _MONITOR: False, "api:8080": False},
    "stranger": {"api:8080": True, "nats:4222": False, "postgresql:5432": False, _MONITOR: False},
}
_PROBE = """
import socket, sys
# A name that is not there is an error, and no closed door.
address = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), socket.AF_INET)[0][4]
try:
    socket.create_connection(address, 3).close()
    print("yes")
except OSError as exc:
    print("no", exc)
"""


@pytest.mark.parametrize("who", CONNECTIONS)
async def test_connections_are_those_that_are_needed(system: System, who: str) -> None:
    async with _pod_of(system, who) as pod:
        for target, allowed in CONNECTIONS[who].items():
            name, port = target.split(":")

            async def reaches(name: str = name, port: str = port) -> bool:
                said = await system.kubectl.exec(
                    pod, "python", "-c", _PROBE, f"{system.fullname}-{name}", port, seconds=20
                )
                return said.startswith("yes")

            # A new pod's rules take a moment: until they hold, and then what holds.
            seen = await wait_for(f"{who} {'reaches' if allowed else 'does not reach'} {target}", reaches,
                                  lambda it, wanted=allowed: it is wanted, 30)  # fmt: skip
            print(f"{who} -> {target}: {'open' if seen else 'closed'}")


@contextlib.asynccontextmanager
async def _pod_of(system: System, who: str) -> AsyncIterator[str]:
    if who != "stranger":
        yield f"deployment/{system.fullname}-{'worker-orders' if who == 'worker' else who}"
        return
    found = await system.kubectl.get("deployment", f"{system.fullname}-relay")
    image = found["spec"]["template"]["spec"]["containers"][0]["image"]
    try:
        await system.kubectl.apply(json.dumps(stranger("stranger", system.namespace, image)))
        await system.kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s", seconds=70)
        yield "pod/stranger"
    finally:
        await system.kubectl("delete", "pod", "stranger", "--ignore-not-found", "--grace-period=1")


def stranger(name: str, namespace: str, image: str) -> dict[str, Any]:
    """A pod that does nothing, and that Pod Security `restricted` lets in."""
    secure = {
        "runAsNonRoot": True, "runAsUser": 10001, "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {"name": name, "image": image, "command": ["sleep", "infinity"], "securityContext": secure}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False},
    }  # fmt: skip
