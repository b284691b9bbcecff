"""Which providers are told of a new order: by distance on the globe, each within its own radius, from an index."""

from __future__ import annotations

import math
from typing import Any

import pytest
from business import BERLIN, act, add_provider, apply, happened, new_order
from support import TENANT

pytestmark = pytest.mark.integration

EARTH_M = 6_378_168  # as `earthdistance` has it
_DEGREE_M = EARTH_M * math.pi / 180


async def nearby(database: Any, latitude: float, longitude: float, most: int = 50) -> list[str]:
    rows = await database.fetch(
        "select provider_id from nearby_providers($1, $2, $3, $4)", TENANT, latitude, longitude, most
    )
    return [row["provider_id"] for row in rows]


def metres(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Great-circle distance by the haversine formula, which shares nothing with the database's way."""
    (lat1, lon1), (lat2, lon2) = ((math.radians(lat), math.radians(lon)) for lat, lon in (one, other))
    chord = math.sin((lat2 - lat1) / 2) ** 2
    chord += math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_M * math.asin(math.sqrt(chord))


@pytest.mark.parametrize("bearing", ["north", "east", "diagonal"])
async def test_a_radius_ends_where_it_ends(database: Any, bearing: str) -> None:
    """To a decimetre, in the middle of a side of the box and at its corners."""
    latitude, longitude = 52.0, 13.0
    for name, distance in {"inside": 4_999.9, "outside": 5_000.1}.items():
        north = distance if bearing == "north" else 0 if bearing == "east" else distance * math.sqrt(0.5)
        east = distance if bearing == "east" else 0 if bearing == "north" else distance * math.sqrt(0.5)
        at = _moved((latitude, longitude), north, east)
        scale = distance / metres(
            (latitude, longitude), at
        )  # the flat step, corrected to the distance on the globe
        at = _moved((latitude, longitude), north * scale, east * scale)
        assert metres((latitude, longitude), at) == pytest.approx(distance, abs=0.01)
        await add_provider(database, name, at=at, radius_m=5_000)
    assert await nearby(database, latitude, longitude) == ["inside"]


def _moved(start: tuple[float, float], north_m: float, east_m: float) -> tuple[float, float]:
    latitude, longitude = start
    return (
        latitude + north_m / _DEGREE_M,
        longitude + east_m / (_DEGREE_M * math.cos(math.radians(latitude))),
    )


async def test_each_provider_has_its_own_radius_and_the_nearest_is_first(database: Any) -> None:
    await add_provider(database, "lazy", at=_moved(BERLIN, 1_000, 0), radius_m=900)
    await add_provider(database, "eager", at=_moved(BERLIN, 90_000, 0), radius_m=100_000)
    await add_provider(database, "next", at=_moved(BERLIN, 800, 0), radius_m=900)
    assert await nearby(database, *BERLIN) == ["next", "eager"]
    assert await nearby(database, *BERLIN, 1) == ["next"]


@pytest.mark.parametrize(
    ("provider", "order"),
    [
        ((-17.0, 179.99), (-17.0, -179.99)),
        ((66.0, 180.0), (66.0, -180.0)),
        ((89.99, 10.0), (89.99, -170.0)),
        ((90.0, 0.0), (90.0, 123.0)),
        ((-90.0, 77.0), (-89.99, -77.0)),
        ((0.0, 0.0), (0.0, 0.0)),
    ],
)
async def test_the_globe_has_no_edge(
    database: Any, provider: tuple[float, float], order: tuple[float, float]
) -> None:
    """Across the antimeridian, over the poles; and on the other side of it nobody is near."""
    await add_provider(database, "p", at=provider)
    assert metres(provider, order) < 5_000
    assert await nearby(database, *order) == ["p"]
    assert await nearby(database, -order[0], order[1] + (180 if order[1] <= 0 else -180)) == []


async def test_only_active_providers_of_the_tenant_are_told(database: Any) -> None:
    await add_provider(database, "away", active=False)
    await add_provider(database, "foreign", tenant="t2")
    await add_provider(database, "gone")
    await add_provider(database, "here")
    await database.execute("update providers set deleted_at = now() where provider_id = 'gone'")
    assert await nearby(database, *BERLIN) == ["here"]
    order = await new_order(database)
    await act(database, order, "accept", provider="here")
    await apply(database, await happened(database))
    told = await database.fetch("select user_id from notifications where audience = 'provider'")
    assert [row["user_id"] for row in told] == ["here"]


async def test_fifty_are_told_and_how_far_it_is(database: Any) -> None:
    for n in range(60):
        await add_provider(database, f"p{n:02}", at=_moved(BERLIN, 60 * n, 0))
    await new_order(database)
    await apply(database, await happened(database))
    rows = await database.fetch(
        "select user_id, body, data::jsonb -> 'distance_m' as distance_m from notifications"
        " where audience = 'provider' order by user_id"
    )
    assert [row["user_id"] for row in rows] == [f"p{n:02}" for n in range(50)]
    assert (rows[5]["body"], rows[5]["distance_m"]) == ("A new order is 300 m away from you.", "300")
    assert rows[49]["body"] == "A new order is 2.9 km away from you."


# -- many providers -------------------------------------------------------------------------------------------

# How many, over how many degrees: in a country few are in reach, in a city thousands.
EVERYWHERE = {"a country": (100_000, 8.0), "a city": (20_000, 0.1)}


@pytest.mark.parametrize(("number", "spread"), EVERYWHERE.values(), ids=list(EVERYWHERE))
async def test_providers_are_not_looked_through(database: Any, number: int, spread: float) -> None:
    """The plan uses the indexes and no sequential scan; the answer is that of a look at each of them."""
    await database.execute(
        "insert into providers (provider_id, tenant, name, latitude, longitude, radius_m, fingerprint)"
        " select 'q' || g, $1, 'x', $2 + (random() - 0.5) * $4, $3 + (random() - 0.5) * $4 * 1.6,"
        " 1000 + (random() * 9000)::integer, 'f' from generate_series(1, $5) g",
        TENANT, *BERLIN, spread, number,
    )  # fmt: skip
    await database.execute("analyze providers")
    plan = await database.fetch(
        "explain (analyze) select * from nearby_providers($1, $2, $3, 50)", TENANT, *BERLIN
    )
    text = "\n".join(row[0] for row in plan)
    assert "Index Scan using providers_by_position" in text
    assert "providers_by_reach" in text
    assert "Seq Scan" not in text

    found = await nearby(database, *BERLIN)
    every = await database.fetch(
        "select provider_id, latitude, longitude, radius_m from providers where tenant = $1", TENANT
    )
    far = {row["provider_id"]: metres(BERLIN, (row["latitude"], row["longitude"])) for row in every}
    reach = {row["provider_id"]: row["radius_m"] for row in every}
    assert found == sorted((one for one in far if far[one] <= reach[one]), key=far.__getitem__)[:50]

    await new_order(database)
    events = await happened(database)
    async with database.acquire() as connection, connection.transaction():
        before = await _reads(connection)
        await apply(connection, events)
        after = await _reads(connection)
    assert after[0] == before[0], "no sequential scan"
    assert 0 < after[1] - before[1] < 1_000, "rows that applying looked at"


async def _reads(connection: Any) -> tuple[int, int]:
    """Sequential scans of the providers, and rows of theirs found by an index; some of earlier transactions too."""
    row = await connection.fetchrow(
        "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'providers'"
    )
    return row["seq_scan"], row["idx_tup_fetch"]
