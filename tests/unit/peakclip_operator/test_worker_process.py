from __future__ import annotations

import pytest

from peakclip import topology
from peakclip_operator.worker_process import adapt_environment, served_pools, worker_modules


def test_the_installed_worker_says_for_which_pools_it_works() -> None:
    assert topology.ORDERS_POOL in served_pools()
    assert served_pools() <= set(topology.POOLS)


def test_the_code_of_every_pool_is_there_before_the_fork() -> None:
    modules = worker_modules()
    assert "peakclip_worker.main" in modules
    assert "peakclip_worker.pools.orders" in modules


@pytest.mark.parametrize(("pool", "work_ms"), [("orders", "40"), ("effects", None), ("reaper", None)])
def test_the_stand_in_for_a_third_party_reaches_only_workers_of_the_orders(
    pool: str, work_ms: str | None
) -> None:
    environ = {"PEAKCLIP_WORK_MS": "40", "PEAKCLIP_MANAGEMENT_PORT": "9000", "PATH": "/bin"}
    adapt_environment(pool, environ)
    assert environ.get("PEAKCLIP_WORK_MS") == work_ms
    assert (environ["PEAKCLIP_MANAGEMENT_PORT"], environ["PATH"]) == ("0", "/bin")


def test_a_worker_is_another_user_on_nats_than_the_operator_if_it_is_told_so() -> None:
    environ = {"PEAKCLIP_NATS_URL": "nats://operator:a@h"}
    adapt_environment("orders", environ)
    assert environ["PEAKCLIP_NATS_URL"] == "nats://operator:a@h"
    environ["PEAKCLIP_WORKER_NATS_URL"] = "nats://worker:b@h"
    adapt_environment("orders", environ)
    assert environ["PEAKCLIP_NATS_URL"] == "nats://worker:b@h"
