"""Providers, customers, pets and service packages over HTTP: one mechanism, so one set of tests for all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    PROVIDER_KEY,
    SERVICE_KEY,
    TENANT,
    Answer,
    new_name,
)
from trade import Shop

from peakclip.credentials import store_key
from peakclip.store import query

pytestmark = pytest.mark.integration

KEYS = {"admin": ADMIN_KEY, "service": SERVICE_KEY, "customer": CUSTOMER_KEY, "provider": PROVIDER_KEY}


@dataclass(frozen=True)
class Kind:
    """What the tests need to know of a resource. `owner` is who makes and changes a row."""

    name: str
    table: str
    id_field: str
    body: dict[str, Any]
    shown: dict[str, Any]
    patch: dict[str, Any]
    nullable: dict[str, Any]
    not_nullable: str
    owner: str = ADMIN_KEY
    forbidden: dict[str, list[str]] = field(default_factory=dict)  # by verb: roles that get 403

    @property
    def path(self) -> str:
        return f"/v1/{self.name}s"


KINDS = [
    Kind(
        "provider",
        "providers",
        "provider_id",
        {"name": "Ada", "latitude": 52.5, "longitude": 13.4, "email": "ada@example.org"},
        {"radius_m": 5000, "webhook_url": None, "active": True, "rating_average": None, "rating_count": 0,
         "completed_orders": 0},
        {"name": "Ada L.", "latitude": 48.0, "longitude": 11.0, "radius_m": 1, "active": False,
         "webhook_url": "https://example.org/hook"},
        {"email": "b@example.org", "webhook_url": "https://example.org/a"},
        "name",
        forbidden={
            "create": ["service", "customer", "provider"], "list": ["customer", "provider"],
            "change": ["service", "customer"], "remove": ["service", "customer", "provider"],
        },
    ),
    Kind(
        "customer",
        "customers",
        "customer_id",
        {"name": "Ann", "customer_id": "ann", "email": "ann@example.org"},
        {"webhook_url": None, "latitude": None, "longitude": None},
        {"name": "Ann B.", "latitude": 1.5, "longitude": -2.25},
        {"email": "b@example.org", "webhook_url": "https://example.org/a"},
        "name",
        forbidden={
            "create": ["provider"], "read": ["provider"], "list": ["customer", "provider"],
            "change": ["provider"], "remove": ["provider"],
        },
    ),
    Kind(
        "pet",
        "pets",
        "pet_id",
        {"name": "Momo", "species": "dog", "born_on": "2020-02-29"},
        {"customer_id": "own-1", "breed": None, "weight_grams": None, "notes": None},
        {"name": "Mo", "species": "cat", "weight_grams": 4200},
        {"breed": "spitz", "born_on": "2021-01-01", "weight_grams": 1, "notes": "bites"},
        "species",
        owner=CUSTOMER_KEY,
        forbidden={
            "create": ["admin", "provider"], "read": ["provider"], "list": ["provider"],
            "change": ["admin", "provider"], "remove": ["admin", "provider"],
        },
    ),
    Kind(
        "service-package",
        "service_packages",
        "service_package_id",
        {"name": "Bath", "price_cents": 4900, "duration_minutes": 60},
        {"description": None, "active": True},
        {"name": "Bath and brush", "price_cents": 0, "duration_minutes": 1440, "active": False},
        {"description": "warm"},
        "price_cents",
        forbidden={verb: ["service", "customer", "provider"] for verb in ("create", "change", "remove")},
    ),
]  # fmt: skip


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


async def made(shop: Shop, kind: Kind, **changes: Any) -> Any:
    return await shop.create(kind.path, {**kind.body, **changes}, key=kind.owner)


async def ids_of(shop: Shop, path: str, key: str = ADMIN_KEY, **headers: str) -> list[str]:
    answer = await shop.api.call("GET", path, key=key, headers=headers)
    assert answer.status == 200, answer
    (id_field,) = {name for name in answer.body["items"][0] if name == path_id(path)} or {""}
    return [item[id_field] for item in answer.body["items"]]


def path_id(path: str) -> str:
    return next(kind.id_field for kind in KINDS if path.startswith(kind.path))


# -- the life of a row -------------------------------------------------------------------------------------


async def test_a_row_is_made_read_listed_changed_and_removed(shop: Shop, kind: Kind) -> None:
    row = await made(shop, kind)
    path = f"{kind.path}/{row[kind.id_field]}"
    assert row == {
        **kind.shown, **kind.body, kind.id_field: row[kind.id_field], "created_at": row["created_at"],
    }  # fmt: skip
    assert abs((datetime.now(UTC) - datetime.fromisoformat(row["created_at"])).total_seconds()) < 60
    assert (await shop.api.call("GET", path, key=ADMIN_KEY)).body == row
    assert (await shop.api.call("GET", kind.path, key=ADMIN_KEY)).body == {
        "items": [row],
        "next_cursor": None,
    }

    changed = await shop.api.call("PATCH", path, key=kind.owner, json=kind.patch)
    assert (changed.status, changed.body) == (200, {**row, **kind.patch})
    assert (await shop.api.call("GET", path, key=ADMIN_KEY)).body == changed.body

    gone = await shop.api.call("DELETE", path, key=kind.owner)
    assert (gone.status, gone.text) == (204, "")
    for method, options in (("GET", {}), ("PATCH", {"json": {}}), ("DELETE", {})):
        answer = await shop.api.call(method, path, key=kind.owner, **options)
        assert (answer.status, answer.kind) == (404, f"{kind.name}-not-found")
    assert (await shop.api.call("GET", kind.path, key=ADMIN_KEY)).body["items"] == []
    assert await shop.database.fetchval(f"select count(*) from {kind.table}") == 1  # orders name it


async def test_a_change_changes_what_is_sent_and_null_empties(shop: Shop, kind: Kind) -> None:
    row = await made(shop, kind)
    path = f"{kind.path}/{row[kind.id_field]}"

    async def change(body: dict[str, Any]) -> Answer:
        return await shop.api.call("PATCH", path, key=kind.owner, json=body)

    assert (await change({})).body == row
    for name, value in kind.nullable.items():
        assert (await change({name: value})).body == {**row, name: value}
        assert (await change({name: None})).body == {**row, name: None}
        row = {**row, name: None}
    refused = await change({kind.not_nullable: None})
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, kind.not_nullable)
    for unknown in (kind.id_field, "tenant", "fingerprint", "deleted_at", "created_at"):
        refused = await change({unknown: "x"})
        assert (refused.status, refused.kind) == (422, "invalid-request")
    assert (await shop.api.call("GET", path, key=ADMIN_KEY)).body == row


# -- creating again ----------------------------------------------------------------------------------------


async def test_the_same_key_is_the_same_row(shop: Shop, kind: Kind) -> None:
    async def create(**changes: Any) -> Answer:
        body = {**kind.body, **changes}
        return await shop.post(kind.path, body, key=kind.owner, idempotency="k1")

    answers = await asyncio.gather(*(create() for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert await shop.database.fetchval(f"select count(*) from {kind.table}") == 1

    other = await create(name="Another")
    assert (other.status, other.kind) == (422, "idempotency-key-reused")
    path = answers[0].headers["Location"]
    changed = await shop.api.call("PATCH", path, key=kind.owner, json={"name": "Changed"})
    assert (await create()).body == changed.body  # as it is by now
    await shop.api.call("DELETE", path, key=kind.owner)
    again = await create()
    assert (again.status, again.kind) == (422, "idempotency-key-reused")  # what it made has gone
    assert (await shop.api.call("GET", path, key=ADMIN_KEY)).status == 404


async def test_tenants_share_no_keys(shop: Shop, kind: Kind) -> None:
    role = "customer" if kind.owner == CUSTOMER_KEY else "admin"
    await store_key(shop.database, "pk_other", "t2", "own-1", role)
    ours = await shop.post(kind.path, kind.body, key=kind.owner, idempotency="k1")
    theirs = await shop.post(kind.path, {**kind.body, "name": "Z"}, key="pk_other", idempotency="k1")
    assert (ours.status, theirs.status) == (201, 201)
    if kind.name != "customer":  # those are named by whoever knows them
        assert ours.body[kind.id_field] != theirs.body[kind.id_field]
        assert (await shop.api.call("GET", theirs.headers["Location"], key=kind.owner)).status == 404
    assert (await shop.api.call("GET", ours.headers["Location"], key=ADMIN_KEY)).body == ours.body


# -- refusals ----------------------------------------------------------------------------------------------


async def test_who_may_do_what(shop: Shop, kind: Kind) -> None:
    """By the table above; everything else is tried by the other tests."""
    row = await made(shop, kind)
    one = f"{kind.path}/{row[kind.id_field]}"
    body = {name: value for name, value in kind.body.items() if name != "customer_id"}
    calls = {
        "create": ("POST", kind.path, {"json": body, "headers": {"Idempotency-Key": "x"}}),
        "read": ("GET", one, {}),
        "list": ("GET", kind.path, {}),
        "change": ("PATCH", one, {"json": {"name": "N"}}),
        "remove": ("DELETE", one, {}),
    }
    for verb, (method, path, options) in calls.items():
        assert (await shop.api.call(method, path, key=None, **options)).status == 401
        assert (await shop.api.call(method, path, key="pk_nobody", **options)).status == 401
        refused = []
        for role, key in KEYS.items():
            headers = {**options.get("headers", {}), "Peakclip-Customer": "somebody"}
            answer = await shop.api.call(method, path, key=key, **{**options, "headers": headers})
            if answer.status == 403 and answer.kind == "forbidden":
                refused.append(role)
            if verb in ("change", "remove"):  # it is still there for the next role
                assert answer.status in (200, 204, 403, 404)
                await shop.database.execute(f"update {kind.table} set deleted_at = null")
        assert sorted(refused) == sorted(kind.forbidden.get(verb, [])), verb


async def test_bad_requests_name_what_is_wrong(shop: Shop, kind: Kind) -> None:
    async def create(**options: Any) -> Answer:
        headers = options.pop("headers", {"Idempotency-Key": new_name("k-")})
        return await shop.api.call("POST", kind.path, key=kind.owner, headers=headers, **options)

    assert (await create(json=kind.body, headers={})).kind == "idempotency-key-required"
    assert (
        await create(json=kind.body, headers={"Idempotency-Key": "a b"})
    ).kind == "idempotency-key-required"
    assert (await create(data=b"{")).kind == "malformed-json"
    assert (await create(data=b"")).kind == "malformed-json"
    for body, wrong in [
        ({**kind.body, "tenant": "t2"}, ""),
        ({**kind.body, "name": ""}, "name"),
        ({**kind.body, "name": "a\0b"}, "name"),
        ({**kind.body, "name": "x" * 201}, "name"),
        ({**kind.body, "name": 1}, "name"),
        ({name: value for name, value in kind.body.items() if name != "name"}, ""),
        ([], ""),
    ]:
        refused = await create(json=body)
        assert (refused.status, refused.kind) == (422, "invalid-request"), body
        assert refused.body["errors"][0]["field"] == wrong, refused.body
    assert await shop.database.fetchval(f"select count(*) from {kind.table}") == 0


BOUNDS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/providers", {"latitude": 90.01}, "latitude"),
    ("/v1/providers", {"longitude": -180.01}, "longitude"),
    ("/v1/providers", {"radius_m": 0}, "radius_m"),
    ("/v1/providers", {"radius_m": 200_001}, "radius_m"),
    ("/v1/providers", {"email": "nobody"}, "email"),
    ("/v1/providers", {"email": "a@example.org\n"}, "email"),
    ("/v1/providers", {"webhook_url": "ftp://example.org"}, "webhook_url"),
    ("/v1/providers", {"webhook_url": "https://example.org/a b"}, "webhook_url"),
    ("/v1/customers", {"latitude": 1.0}, "latitude"),
    ("/v1/customers", {"latitude": 1.0, "longitude": None}, "latitude"),
    ("/v1/customers", {"customer_id": "a b"}, "customer_id"),
    ("/v1/service-packages", {"price_cents": -1}, "price_cents"),
    ("/v1/service-packages", {"price_cents": 1_000_000_001}, "price_cents"),
    ("/v1/service-packages", {"duration_minutes": 0}, "duration_minutes"),
    ("/v1/service-packages", {"duration_minutes": 1_441}, "duration_minutes"),
    ("/v1/service-packages", {"description": "x" * 2_001}, "description"),
    ("/v1/pets", {"species": "x" * 51}, "species"),
    ("/v1/pets", {"breed": "x" * 101}, "breed"),
    ("/v1/pets", {"weight_grams": 0}, "weight_grams"),
    ("/v1/pets", {"weight_grams": 2_000_001}, "weight_grams"),
    ("/v1/pets", {"born_on": "2021-02-29"}, "born_on"),
]


async def test_values_have_bounds(shop: Shop) -> None:
    for path, body, wrong in BOUNDS:
        kind = next(kind for kind in KINDS if kind.path == path)
        answer = await shop.post(path, {**kind.body, **body}, key=kind.owner)
        assert (answer.status, answer.kind) == (422, "invalid-request"), body
        assert answer.body["errors"][0]["field"] == wrong, body


async def test_an_id_that_cannot_be_is_not_found(shop: Shop, kind: Kind) -> None:
    for name in ("%00", "a%00b", "x" * 300, "%ED%A0%80", "..%2f..", "'"):
        for method, options in (("GET", {}), ("PATCH", {"json": {}}), ("DELETE", {})):
            answer = await shop.api.call(method, f"{kind.path}/{name}", key=kind.owner, **options)
            assert answer.status == 404, answer


# -- lists -------------------------------------------------------------------------------------------------


async def insert_many(database: Any, kind: Kind, count: int) -> list[str]:
    """Rows of only seven different moments, so that most have neighbours of the same one. Ids, newest first."""
    columns = {
        "providers": "latitude, longitude, radius_m", "customers": "email", "pets": "customer_id, species",
        "service_packages": "price_cents, duration_minutes",
    }[kind.table]  # fmt: skip
    values = {
        "providers": "0, 0, 1", "customers": "null", "pets": "'own-1', 'dog'", "service_packages": "1, 1",
    }[kind.table]  # fmt: skip
    await database.execute(
        f"insert into {kind.table} ({kind.id_field}, tenant, name, fingerprint, created_at, {columns})"
        f" select md5(n::text), '{TENANT}', 'n', lpad(n::text, 16, '0'),"
        f" timestamptz '2026-01-01 00:00:00.000001Z' + make_interval(secs => n % 7), {values}"
        f" from generate_series(1, {count}) n"
    )
    rows = await database.fetch(
        f'select {kind.id_field} from {kind.table} order by created_at desc, {kind.id_field} collate "C" desc'
    )
    return [row[0] for row in rows]


async def walk(shop: Shop, path: str, limit: int, key: str = ADMIN_KEY) -> list[list[Any]]:
    """Every page of a list."""
    pages, cursor = [], ""
    while cursor is not None:
        query = f"{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        answer = await shop.api.call("GET", query, key=key)
        assert answer.status == 200, answer
        pages.append(answer.body["items"])
        cursor = answer.body["next_cursor"]
    return pages


async def test_a_cursor_leads_through_every_row_once(shop: Shop, kind: Kind) -> None:
    expected = await insert_many(shop.database, kind, 250)
    for limit in (100, 50, 7):
        pages = await walk(shop, kind.path, limit)
        assert [row[kind.id_field] for page in pages for row in page] == expected
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert len(pages) == -(-250 // limit)


async def test_rows_that_come_during_a_walk_disturb_nobody(shop: Shop, kind: Kind) -> None:
    expected = await insert_many(shop.database, kind, 60)
    first = await shop.api.call("GET", f"{kind.path}?limit=30", key=ADMIN_KEY)
    await made(shop, kind)
    await shop.database.execute(f"delete from {kind.table} where {kind.id_field} = $1", expected[29])
    rest = await shop.api.call("GET", f"{kind.path}?cursor={first.body['next_cursor']}", key=ADMIN_KEY)
    seen = [row[kind.id_field] for row in first.body["items"] + rest.body["items"]]
    assert seen == expected
    assert rest.body["next_cursor"] is None


NO_PAGES = [
    ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
    ("limit=-1", "limit"), ("limit=1.0", "limit"), ("limit=%D9%A1", "limit"), ("limit=00000000001", "limit"),
    ("cursor=", "cursor"), ("cursor=x", "cursor"), ("cursor=MXxh%3D", "cursor"), ("cursor=%FF", "cursor"),
    ("cursor=MXwA", "cursor"), ("cursor=" + "OTk5OTk5OTk5OTk5OTk5OTk5OTl8YQ", "cursor"),
]  # fmt: skip


async def test_a_page_that_cannot_be_is_refused(shop: Shop) -> None:
    for query_, wrong in NO_PAGES:
        answer = await shop.api.call("GET", f"/v1/providers?{query_}", key=ADMIN_KEY)
        assert (answer.status, answer.kind) == (422, "invalid-request"), query_
        assert answer.body["errors"][0]["field"] == wrong, query_


async def test_lists_use_an_index(shop: Shop, kind: Kind) -> None:
    """In the order of the list, so that a page costs the same however many rows there are."""
    await insert_many(shop.database, kind, 20_000)
    await shop.database.execute(f"analyze {kind.table}")
    names = {
        "providers": ["list_providers"], "customers": ["list_customers"],
        "pets": ["list_pets", "list_customer_pets"],
        "service_packages": ["list_service_packages", "list_active_service_packages"],
    }[kind.table]  # fmt: skip
    for name in names:
        more = ("own-1",) if name == "list_customer_pets" else ()
        plan = await shop.database.fetch(
            "explain " + query(name), TENANT, datetime(9999, 1, 1, tzinfo=UTC), "z", 51, *more
        )
        text = "\n".join(row[0] for row in plan)
        assert "Index Scan Backward" in text, text
        assert "Sort" not in text, text


# -- whose things --------------------------------------------------------------------------------------------


async def test_contact_data_of_a_provider_is_for_an_admin_and_itself(shop: Shop) -> None:
    contact = {"email": "a@example.org", "webhook_url": "https://example.org/"}
    provider_id, key = await shop.provider(**contact)
    _, other = await shop.provider()
    path = f"/v1/providers/{provider_id}"
    for who, sees in (
        (ADMIN_KEY, True), (key, True), (SERVICE_KEY, False), (CUSTOMER_KEY, False), (other, False),
    ):  # fmt: skip
        body = (await shop.api.call("GET", path, key=who)).body
        assert {name: body.get(name) for name in contact} == (contact if sees else dict.fromkeys(contact))
        assert ("email" in body) == sees
    for who, sees in ((ADMIN_KEY, True), (SERVICE_KEY, False)):
        listed = (await shop.api.call("GET", "/v1/providers", key=who)).body["items"]
        assert [("email" in item) for item in listed] == [sees, sees]
    await store_key(shop.database, "pk_namesake", TENANT, provider_id, "customer")
    assert "email" not in (await shop.api.call("GET", path, key="pk_namesake")).body


async def test_a_provider_changes_itself_but_not_whether_it_is_active(shop: Shop) -> None:
    provider_id, key = await shop.provider()
    other_id, other = await shop.provider()
    path = f"/v1/providers/{provider_id}"
    changed = await shop.api.call("PATCH", path, key=key, json={"radius_m": 7, "email": "a@example.org"})
    assert (changed.status, changed.body["radius_m"], changed.body["email"]) == (200, 7, "a@example.org")
    assert (await shop.api.call("PATCH", path, key=key, json={"active": True})).kind == "forbidden"
    assert (await shop.api.call("PATCH", path, key=other, json={"radius_m": 8})).kind == "provider-not-found"
    assert (await shop.api.call("PATCH", path, key=ADMIN_KEY, json={"active": False})).body["active"] is False
    assert (await shop.api.call("DELETE", f"/v1/providers/{other_id}", key=other)).kind == "forbidden"
    for half in ({"latitude": 1.0}, {"longitude": 1.0}):
        assert (await shop.api.call("PATCH", path, key=key, json=half)).kind == "invalid-request"


async def test_the_average_is_exact(shop: Shop) -> None:
    provider_id, _ = await shop.provider()
    await shop.database.execute(
        "update providers set rating_count = 3, rating_sum = 14, completed_orders = 9"
    )
    body = (await shop.api.call("GET", f"/v1/providers/{provider_id}")).body
    assert (body["rating_average"], body["rating_count"], body["completed_orders"]) == (14 / 3, 3, 9)


async def test_a_customer_has_one_record_its_own(shop: Shop) -> None:
    own = await shop.create("/v1/customers", {"name": "O"}, key=CUSTOMER_KEY)
    assert own["customer_id"] == "own-1"
    path = "/v1/customers/own-1"
    again = await shop.post("/v1/customers", {"name": "O"}, key=CUSTOMER_KEY)
    assert (again.status, again.kind) == (409, "customer-exists")
    assert (
        await shop.post("/v1/customers", {"name": "O", "customer_id": "x"}, key=CUSTOMER_KEY)
    ).status == 403
    assert (await shop.api.call("PATCH", path, key=CUSTOMER_KEY, json={"name": "P"})).body["name"] == "P"
    await shop.create("/v1/customers", {"name": "X", "customer_id": "x"}, key=SERVICE_KEY)
    for method, options in (("GET", {}), ("PATCH", {"json": {}}), ("DELETE", {})):
        answer = await shop.api.call(method, "/v1/customers/x", key=CUSTOMER_KEY, **options)
        assert answer.kind == "customer-not-found"
    assert (await shop.api.call("GET", path, key=SERVICE_KEY)).body["name"] == "P"
    for key in (ADMIN_KEY, SERVICE_KEY):
        nobody = await shop.post("/v1/customers", {"name": "N"}, key=key)
        assert (nobody.status, nobody.body["errors"][0]["field"]) == (422, "customer_id")


async def test_a_customer_who_was_removed_can_come_back_with_a_new_key(shop: Shop) -> None:
    body = {"name": "Ann", "customer_id": "ann", "email": "ann@example.org"}
    first = await shop.post("/v1/customers", body, idempotency="k1")
    await shop.api.call("DELETE", "/v1/customers/ann", key=ADMIN_KEY)
    stored = await shop.database.fetchrow("select email, webhook_url from customers")
    assert tuple(stored) == (None, None), "nothing is sent to who has gone"
    assert (await shop.post("/v1/customers", body, idempotency="k1")).status == 422
    back = await shop.post("/v1/customers", {**body, "name": "Ann B."}, idempotency="k2")
    assert (back.status, back.body["name"], back.body["email"]) == (201, "Ann B.", "ann@example.org")
    assert back.body["created_at"] > first.body["created_at"]


async def test_a_key_makes_one_customer(shop: Shop) -> None:
    body = {"name": "Ann", "customer_id": "ann"}
    assert (await shop.post("/v1/customers", body, idempotency="k1")).status == 201
    other = await shop.post("/v1/customers", {**body, "customer_id": "bob"}, idempotency="k1")
    assert (other.status, other.kind) == (422, "idempotency-key-reused")
    assert (await shop.api.call("GET", "/v1/customers/bob", key=ADMIN_KEY)).status == 404


async def test_a_customer_of_any_name_has_a_path(shop: Shop) -> None:
    await store_key(shop.database, "pk_odd", TENANT, "Zoë Ü/1", "customer")
    answer = await shop.api.call(
        "POST", "/v1/customers", key="pk_odd", json={"name": "Z"}, headers={"Idempotency-Key": "k"}
    )
    assert answer.headers["Location"] == "/v1/customers/Zo%C3%AB%20%C3%9C%2F1"


async def test_a_pet_is_its_customers(shop: Shop) -> None:
    anns = await shop.pet("ann")
    bobs = await shop.pet("bob")
    path = f"/v1/pets/{anns}"
    as_bob, as_ann = {"Peakclip-Customer": "bob"}, {"Peakclip-Customer": "ann"}
    assert (await shop.api.call("GET", path, headers=as_ann)).status == 200
    assert (await shop.api.call("GET", path, key=ADMIN_KEY)).status == 200
    for method, options in (("GET", {}), ("PATCH", {"json": {}}), ("DELETE", {})):
        for key, headers in ((SERVICE_KEY, as_bob), (CUSTOMER_KEY, {}), (CUSTOMER_KEY, as_ann)):
            answer = await shop.api.call(method, path, key=key, headers=headers, **options)
            assert answer.kind == "pet-not-found"
        assert (await shop.api.call(method, path, **options)).kind == "customer-required"
    assert await ids_of(shop, "/v1/pets", SERVICE_KEY, **as_ann) == [anns]
    assert sorted(await ids_of(shop, "/v1/pets")) == sorted([anns, bobs])
    assert (await shop.api.call("GET", "/v1/pets", key=CUSTOMER_KEY)).body["items"] == []
    assert (await shop.api.call("GET", "/v1/pets")).kind == "customer-required"


async def test_a_key_that_another_customer_has_used_is_used(shop: Shop) -> None:
    body = {"name": "Momo", "species": "dog"}
    ann = await shop.post("/v1/pets", body, key=SERVICE_KEY, customer="ann", idempotency="k1")
    bob = await shop.post("/v1/pets", body, key=SERVICE_KEY, customer="bob", idempotency="k1")
    assert (ann.status, bob.kind) == (201, "idempotency-key-reused")


async def test_packages_that_are_not_offered_are_listed_for_an_admin(shop: Shop) -> None:
    offered, hidden = await shop.package(), await shop.package(active=False)
    assert await ids_of(shop, "/v1/service-packages") == [hidden, offered]
    for key in (SERVICE_KEY, CUSTOMER_KEY, PROVIDER_KEY):
        assert await ids_of(shop, "/v1/service-packages", key) == [offered]
    assert (await shop.api.call("GET", f"/v1/service-packages/{hidden}")).status == 200


async def test_another_tenants_list_is_another_list(shop: Shop) -> None:
    await shop.package()
    assert (await shop.api.call("GET", "/v1/service-packages", key=FOREIGN_KEY)).body["items"] == []
