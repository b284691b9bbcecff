"""What clients are told is counted by route, status and kind, on the express lane and on the long way alike."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY
from support import SERVICE_KEY, api_process, store_keys

from peakclip.jetstream import JetStream
from peakclip_api import counted

pytestmark = pytest.mark.integration

ORDER = "POST /v1/sales/{sale_id}/orders"


def value(name: str, **labels: str) -> float:
    counted.write()
    return REGISTRY.get_sample_value(name, labels) or 0.0


def answers(route: str, status: int) -> float:
    return value("peakclip_http_answers_total", route=route, status=str(status))


@pytest.mark.parametrize("express_lane", [True, False])
async def test_orders_are_counted(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str, express_lane: bool
) -> None:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url, express_lane=express_lane) as api:
        sale = await api.sale(stock=2)
        accepted, refused = answers(ORDER, 202), answers(ORDER, 409)
        sold_out, timed = (
            value("peakclip_refused_total", kind="sold-out"),
            value("peakclip_http_seconds_count", route=ORDER),
        )
        statuses = [(await api.order(sale, f"c{n}")).status for n in range(5)]
        assert statuses == [202, 202, 409, 409, 409]
        assert (answers(ORDER, 202) - accepted, answers(ORDER, 409) - refused) == (2, 3)
        assert value("peakclip_refused_total", kind="sold-out") - sold_out == 3
        assert value("peakclip_http_seconds_count", route=ORDER) - timed == 5


async def test_no_path_of_a_clients_invention_becomes_a_label(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as api:
        before = answers("none", 404)
        assert (await api.call("GET", "/v1/no/such/path", key=SERVICE_KEY)).status == 404
        assert answers("none", 404) - before == 1
        assert "such" not in "".join(
            sample.labels.get("route", "") for family in REGISTRY.collect() for sample in family.samples
        )
