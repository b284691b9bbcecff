"""What is known of a caller, and the questions that routes ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from multidict import istr

from peakclip.credentials import MAX_NAME_LENGTH, is_name
from peakclip_api.problems import Problem

CUSTOMER_HEADER: Final = istr("Peakclip-Customer")
MAX_CUSTOMER_LENGTH: Final = MAX_NAME_LENGTH


class Credential(msgspec.Struct, frozen=True, gc=False):
    """`role` is one of `peakclip.credentials.ROLES`; `subject` is the customer's or provider's own id."""

    tenant: str
    subject: str
    role: str


def customer_of(headers: Mapping[str, str], credential: Credential) -> str:
    """The customer this request acts for: the credential's own, or the one that a service names."""
    if credential.role == "customer":
        return credential.subject
    if credential.role != "service":
        raise Problem(403, "forbidden", f"A credential with role {credential.role!r} cannot place orders.")
    customer = headers.get(CUSTOMER_HEADER, "")
    if not is_name(customer):
        raise Problem(
            400,
            "customer-required",
            f"A service names the customer in {CUSTOMER_HEADER}: 1 to {MAX_CUSTOMER_LENGTH} printable characters.",
        )
    return customer


def require_role(credential: Credential, *roles: str) -> None:
    """Raises Problem 403 unless the credential has one of the roles."""
    if credential.role not in roles:
        wanted = f"the role {roles[0]!r}" if len(roles) == 1 else f"one of the roles {', '.join(roles)}"
        raise Problem(403, "forbidden", f"This needs {wanted}; the credential has {credential.role!r}.")
