from __future__ import annotations

import pytest

from peakclip_api.auth import Credential, customer_of, require_role
from peakclip_api.problems import Problem


def of(role: str) -> Credential:
    return Credential("t1", "p-1", role)


def test_one_of_several_roles_is_enough() -> None:
    require_role(of("admin"), "admin")
    require_role(of("provider"), "admin", "provider")
    with pytest.raises(Problem) as caught:
        require_role(of("customer"), "admin", "provider")
    assert (caught.value.status, caught.value.kind) == (403, "forbidden")
    assert (
        caught.value.detail == "This needs one of the roles admin, provider; the credential has 'customer'."
    )
    with pytest.raises(Problem, match="This needs the role 'admin'; the credential has 'customer'"):
        require_role(of("customer"), "admin")


@pytest.mark.parametrize("named", ["", "c" * 129, "a\0b", "a\nb"])
def test_a_service_names_a_customer_that_can_be_one(named: str) -> None:
    assert customer_of({"Peakclip-Customer": "c" * 128}, of("service")) == "c" * 128
    with pytest.raises(Problem) as caught:
        customer_of({"Peakclip-Customer": named}, of("service"))
    assert caught.value.kind == "customer-required"
