"""Providers, customers, pets and service packages: create, read, list, change and remove, all by one mechanism."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import asyncpg
import msgspec
from aiohttp import web

from peakclip.store import query
from peakclip_api import keys
from peakclip_api.auth import Credential, credential_of, require_role
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.paging import answer_page, page_of
from peakclip_api.prints import derived_id, fingerprint, same_key
from peakclip_api.problems import key_reused
from peakclip_api.resources import RESOURCES, Resource, Verb

MAX_ID_LENGTH: Final = 128  # a customer's id may be what a credential or Peakclip-Customer names


def add_routes(app: web.Application) -> None:
    for resource in RESOURCES:
        routes = _Routes(resource)
        one = f"{resource.path}/{{{resource.id_field}}}"
        app.router.add_post(resource.path, routes.create)
        app.router.add_get(resource.path, routes.list)
        app.router.add_get(one, routes.read)
        app.router.add_patch(one, routes.change)
        app.router.add_delete(one, routes.remove)


class _Routes:
    """The five routes of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(resource.request)
        self._patch_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(resource.patch)

    async def create(self, request: web.Request) -> web.Response:
        resource = self._resource
        credential, owner = await self._allowed(request, "create")
        key = idempotency_key(request.headers)
        wanted = decode_body(await request.read(), self._decoder)
        resource.check(credential, wanted)
        row = msgspec.to_builtins(wanted)
        if resource.owner_field is not None and owner is not None:
            row[resource.owner_field] = owner
        if resource.id_prefix is not None:
            row[resource.id_field] = derived_id(resource.id_prefix, credential.tenant, resource.name, key)
        print_ = fingerprint(key, msgspec.json.encode(row, order="deterministic"))
        found = await self._created(request, credential, {**row, "fingerprint": print_})
        return self._answer(found, credential, status=201)

    async def _created(self, request: web.Request, credential: Credential, row: dict[str, Any]) -> Any:
        """The row as it is, new or not. Raises Problem if the key or the id is another request's."""
        resource, pool = self._resource, request.app[keys.POOL]
        body = msgspec.json.encode({**row, "tenant": credential.tenant}).decode()
        try:
            await pool.execute(query(f"create_{resource.name}"), body)
        except asyncpg.UniqueViolationError:
            raise key_reused() from None
        found = await pool.fetchrow(query(f"find_{resource.name}"), row[resource.id_field], credential.tenant)
        if found is None or (
            found["fingerprint"] != row["fingerprint"] and same_key(found["fingerprint"], row["fingerprint"])
        ):
            raise key_reused()  # or what it created has been removed since
        if found["fingerprint"] != row["fingerprint"]:
            raise resource.exists()
        return found

    async def list(self, request: web.Request) -> web.Response:
        credential, owner = await self._allowed(request, "list")
        page = page_of(request)
        name, arguments = self._resource.listing(credential, owner)
        rows = await request.app[keys.POOL].fetch(query(name), credential.tenant, *page.keys, *arguments)
        return answer_page(
            rows,
            page,
            at="created_at",
            id_field=self._resource.id_field,
            show=lambda row: self._shown(row, credential),
        )

    async def read(self, request: web.Request) -> web.Response:
        credential, owner = await self._allowed(request, "read")
        return self._answer(await self._found(request, credential, owner), credential)

    async def change(self, request: web.Request) -> web.Response:
        resource = self._resource
        credential, owner = await self._allowed(request, "change")
        row_id = (await self._found(request, credential, owner))[resource.id_field]
        wanted = decode_body(await request.read(), self._patch_decoder)
        resource.check(credential, wanted)
        changes = msgspec.json.encode(wanted).decode()
        await request.app[keys.POOL].execute(
            query(f"change_{resource.name}"), row_id, credential.tenant, changes
        )
        return self._answer(await self._found(request, credential, owner), credential)

    async def remove(self, request: web.Request) -> web.Response:
        credential, owner = await self._allowed(request, "remove")
        row_id = (await self._found(request, credential, owner))[self._resource.id_field]
        done = await request.app[keys.POOL].execute(
            query(f"remove_{self._resource.name}"), row_id, credential.tenant
        )
        if done == "UPDATE 0":  # somebody else was faster
            raise self._resource.missing()
        return web.Response(status=204)

    async def _allowed(self, request: web.Request, verb: Verb) -> tuple[Credential, str | None]:
        """Who asks, and whose rows they are confined to. Raises Problem."""
        credential = await credential_of(request, request.app[keys.KEYS])
        require_role(credential, *self._resource.roles[verb])
        return credential, self._resource.owner(verb, request.headers, credential)

    async def _found(self, request: web.Request, credential: Credential, owner: str | None) -> Any:
        """The row that the path names. Raises Problem 404 also for another tenant's and another owner's."""
        resource = self._resource
        row_id = request.match_info[resource.id_field]
        if len(row_id) > MAX_ID_LENGTH or not row_id.isprintable():
            raise self._resource.missing()
        found = await request.app[keys.POOL].fetchrow(
            query(f"find_{resource.name}"), row_id, credential.tenant
        )
        if found is None or (owner is not None and found[resource.owner_field] != owner):
            raise self._resource.missing()
        return found

    def _answer(self, row: Any, credential: Credential, status: int = 200) -> web.Response:
        resource = self._resource
        location = f"{resource.path}/{quote(row[resource.id_field], safe='')}"
        return web.Response(
            body=msgspec.json.encode(self._shown(row, credential)),
            status=status,
            content_type="application/json",
            headers={"Location": location} if status == 201 else None,
        )

    def _shown(self, row: Any, credential: Credential) -> dict[str, Any]:
        resource = self._resource
        itself = credential.role == "provider" and row[resource.id_field] == credential.subject
        whole = itself or credential.role == "admin"
        left_out = {"fingerprint"} if whole else {"fingerprint", *resource.hidden}
        return {name: value for name, value in row.items() if name not in left_out}
