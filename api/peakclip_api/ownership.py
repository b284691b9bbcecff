"""Whose orders a caller sees. Others' orders do not exist for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peakclip_api.auth import CUSTOMER_HEADER, Credential, customer_of
from peakclip_api.problems import Problem


def named_customer(headers: Mapping[str, str], credential: Credential) -> str | None:
    """The customer whose orders are meant: a customer's own, or the one that a service names; None: anybody's."""
    if credential.role == "customer" or (credential.role == "service" and CUSTOMER_HEADER in headers):
        return customer_of(headers, credential)
    return None


def sees(order: Mapping[str, Any], headers: Mapping[str, str], credential: Credential) -> bool:
    """Whether an order of `Lookup` exists for the caller. A provider sees its own, and what is to be accepted."""
    if order["tenant"] != credential.tenant:
        return False
    if credential.role == "provider":
        provider_id = order.get("provider_id")
        return provider_id == credential.subject or (
            provider_id is None and order["status"] in ("created", "paid")
        )
    return named_customer(headers, credential) in (None, order["customer_id"])


def order_not_found() -> Problem:
    return Problem(404, "order-not-found", "There is no such order.")
