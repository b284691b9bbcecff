"""Master data: what may be sent for each resource, who may do what with it, and who sees whose.

One `Resource` describes one table; `routes/masterdata.py` serves them all. The statements have the resource's name:
`create_pet.sql`, `find_pet.sql`, `change_pet.sql`, `remove_pet.sql`; `listing` says which one lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from peakclip_api import fields as f
from peakclip_api.auth import Credential, customer_of
from peakclip_api.problems import Problem, invalid, key_reused

Verb = Literal["create", "read", "list", "change", "remove"]
Headers = Mapping[str, str]
ALL: Final = ("customer", "provider", "admin", "service")


class ProviderRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name
    latitude: f.Latitude
    longitude: f.Longitude
    radius_m: f.Radius = 5_000
    email: f.Email = None
    webhook_url: f.WebhookUrl = None
    active: bool = True


class ProviderPatch(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name | UnsetType = UNSET
    latitude: f.Latitude | UnsetType = UNSET
    longitude: f.Longitude | UnsetType = UNSET
    radius_m: f.Radius | UnsetType = UNSET
    email: f.Email | UnsetType = UNSET
    webhook_url: f.WebhookUrl | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class CustomerRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name
    customer_id: f.Id | UnsetType = UNSET
    email: f.Email = None
    webhook_url: f.WebhookUrl = None
    latitude: f.Latitude | None = None
    longitude: f.Longitude | None = None


class CustomerPatch(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name | UnsetType = UNSET
    email: f.Email | UnsetType = UNSET
    webhook_url: f.WebhookUrl | UnsetType = UNSET
    latitude: f.Latitude | UnsetType | None = UNSET
    longitude: f.Longitude | UnsetType | None = UNSET


class PetRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name
    species: f.ShortText
    breed: f.OptionalShortText = None
    born_on: f.OptionalDate = None
    weight_grams: f.OptionalGrams = None
    notes: f.OptionalText = None


class PetPatch(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name | UnsetType = UNSET
    species: f.ShortText | UnsetType = UNSET
    breed: f.OptionalShortText | UnsetType = UNSET
    born_on: f.OptionalDate | UnsetType = UNSET
    weight_grams: f.OptionalGrams | UnsetType = UNSET
    notes: f.OptionalText | UnsetType = UNSET


class ServicePackageRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name
    price_cents: f.Cents
    duration_minutes: f.Minutes
    description: f.OptionalText = None
    active: bool = True


class ServicePackagePatch(msgspec.Struct, forbid_unknown_fields=True):
    name: f.Name | UnsetType = UNSET
    description: f.OptionalText | UnsetType = UNSET
    price_cents: f.Cents | UnsetType = UNSET
    duration_minutes: f.Minutes | UnsetType = UNSET
    active: bool | UnsetType = UNSET


def _nobody(_verb: Verb, _headers: Headers, _credential: Credential) -> str | None:
    return None


def _anything(_credential: Credential, _wanted: Any) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Resource:
    """`name` is the table row's, as in `create_<name>.sql`; `id_prefix` is null where ids come from outside."""

    name: str
    path: str
    id_field: str
    request: type[msgspec.Struct]
    patch: type[msgspec.Struct]
    roles: Mapping[Verb, tuple[str, ...]]
    missing: Callable[[], Problem]
    listing: Callable[[Credential, str | None], tuple[str, tuple[Any, ...]]]
    """The statement that lists, and its arguments from the fifth on. Called with the owner."""
    id_prefix: str | None = None
    owner_field: str | None = None
    owner: Callable[[Verb, Headers, Credential], str | None] = _nobody
    """Whose rows the caller is confined to in `owner_field`; None: the whole tenant's."""
    exists: Callable[[], Problem] = key_reused
    """What a creation is told whose row another request has made, with another key."""
    check: Callable[[Credential, Any], None] = _anything
    """Raises Problem for what is wrong with a request or a patch beyond its fields."""
    hidden: frozenset[str] = field(default_factory=frozenset)
    """Columns that only an admin and the row's own subject see."""


def _check_provider(credential: Credential, wanted: ProviderRequest | ProviderPatch) -> None:
    f.check_place(wanted)
    if credential.role == "provider" and wanted.active is not UNSET:
        raise Problem(403, "forbidden", "Whether a provider is active is for an admin to say.")


def _check_customer(credential: Credential, wanted: CustomerRequest | CustomerPatch) -> None:
    f.check_place(wanted)
    if isinstance(wanted, CustomerPatch):
        return
    if credential.role != "customer" and wanted.customer_id is UNSET:
        raise invalid("customer_id", "an admin and a service name the customer")
    if credential.role == "customer" and wanted.customer_id not in (UNSET, credential.subject):
        raise Problem(403, "forbidden", "A customer makes its own record only.")


def _provider_itself(verb: Verb, _headers: Headers, credential: Credential) -> str | None:
    return credential.subject if verb == "change" and credential.role == "provider" else None


def _customer_itself(_verb: Verb, _headers: Headers, credential: Credential) -> str | None:
    return credential.subject if credential.role == "customer" else None


def _customer_named(_verb: Verb, headers: Headers, credential: Credential) -> str | None:
    return None if credential.role == "admin" else customer_of(headers, credential)


PROVIDERS: Final = Resource(
    name="provider",
    path="/v1/providers",
    id_field="provider_id",
    request=ProviderRequest,
    patch=ProviderPatch,
    roles={
        "create": ("admin",),
        "read": ALL,
        "list": ("admin", "service"),
        "change": ("admin", "provider"),
        "remove": ("admin",),
    },
    id_prefix="pv",
    owner_field="provider_id",
    owner=_provider_itself,
    missing=lambda: Problem(404, "provider-not-found", "There is no such provider."),
    listing=lambda credential, owner: ("list_providers", ()),
    check=_check_provider,
    hidden=frozenset({"email", "webhook_url"}),
)
CUSTOMERS: Final = Resource(
    name="customer",
    path="/v1/customers",
    id_field="customer_id",
    request=CustomerRequest,
    patch=CustomerPatch,
    roles={
        "create": ("customer", "admin", "service"),
        "read": ("customer", "admin", "service"),
        "list": ("admin", "service"),
        "change": ("customer", "admin", "service"),
        "remove": ("customer", "admin", "service"),
    },
    owner_field="customer_id",
    owner=_customer_itself,
    missing=lambda: Problem(404, "customer-not-found", "There is no such customer."),
    exists=lambda: Problem(409, "customer-exists", "There is a record of this customer; change it instead."),
    listing=lambda credential, owner: ("list_customers", ()),
    check=_check_customer,
)
PETS: Final = Resource(
    name="pet",
    path="/v1/pets",
    id_field="pet_id",
    request=PetRequest,
    patch=PetPatch,
    roles={
        "create": ("customer", "service"),
        "read": ("customer", "admin", "service"),
        "list": ("customer", "admin", "service"),
        "change": ("customer", "service"),
        "remove": ("customer", "service"),
    },
    id_prefix="pt",
    owner_field="customer_id",
    owner=_customer_named,
    missing=lambda: Problem(404, "pet-not-found", "There is no such pet."),
    listing=lambda credential, owner: (
        ("list_pets", ()) if owner is None else ("list_customer_pets", (owner,))
    ),
)
SERVICE_PACKAGES: Final = Resource(
    name="service_package",
    path="/v1/service-packages",
    id_field="service_package_id",
    request=ServicePackageRequest,
    patch=ServicePackagePatch,
    roles={"create": ("admin",), "read": ALL, "list": ALL, "change": ("admin",), "remove": ("admin",)},
    id_prefix="sp",
    missing=lambda: Problem(404, "service-package-not-found", "There is no such service package."),
    listing=lambda credential, owner: (
        "list_service_packages" if credential.role == "admin" else "list_active_service_packages",
        (),
    ),
)
RESOURCES: Final = (PROVIDERS, CUSTOMERS, PETS, SERVICE_PACKAGES)
