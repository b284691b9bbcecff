"""The release goes and comes back. The last of the tests: it takes away what the others use."""

from __future__ import annotations

from e2e.conftest import VALUES, install, shaping
from e2e.system import System
from e2e.wait import wait_for

# What a release leaves, by kind: the data, and the passwords that open it.
KEPT = {
    "persistentvolumeclaims": {"data-peakclip-nats-0", "data-peakclip-postgresql-0"},
    "secrets": {"peakclip-nats", "peakclip-postgresql"},
}
# What every namespace has, or what only tells of the past.
_ALWAYS = {("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")}
_PAST = {"events", "events.events.k8s.io"}


async def test_uninstall_keeps_the_data_and_the_definition_and_nothing_else(system: System) -> None:
    rows = await _orders(system)
    await system.helm("uninstall", "--wait", "--timeout=2m", seconds=150)
    try:
        # Pods may take their time to end; nothing else may.
        left = await wait_for("the pods are gone", lambda: _left(system), lambda it: "pods" not in it, 60)
        print(left)
        assert left == KEPT
        assert "workerpools.peakclip.dev" in await system.kubectl("get", "crd", "-o", "name")
    finally:
        await install(system.helm, "-f", str(VALUES), *shaping(system.place))
    assert await _orders(system) == rows > 0
    sale = await system.sale(100)
    orders = await system.burst(sale, 100)
    await system.until_rows(sale, 100, 60)
    assert len(orders.accepted) == 100


async def _orders(system: System) -> int:
    async with system.database() as connection:
        return int(await connection.fetchval("select count(*) from audit_orders"))


async def _left(system: System) -> dict[str, set[str]]:
    """Names of all objects of the namespace, by kind."""
    kinds = (await system.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name")).split()
    left: dict[str, set[str]] = {}
    for kind in sorted(set(kinds) - _PAST):
        names = (await system.kubectl("get", kind, "-o", "jsonpath={.items[*].metadata.name}")).split()
        found = {name for name in names if (kind, name) not in _ALWAYS}
        if found:
            left[kind] = found
    return left
