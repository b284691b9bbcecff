from __future__ import annotations

from dataclasses import replace

from resource_pool import START

from peakclip_operator.resource.conditions import Facts, conditions
from peakclip_operator.resource.sharing import Sharing

GROUP = Sharing(300, limits_differ=False, guaranteed=20, pools=("orders", "reaper"), share=248.5)


def word(sharing: Sharing | None) -> tuple[str, str, str] | None:
    facts = Facts("shop", 1, START, spec=None, sharing=sharing)
    found = [one for one in conditions(facts, ()) if one.type == "Shared"]
    return (found[0].status, found[0].reason, found[0].message) if found else None


def test_a_pool_that_shares_with_nobody_has_no_such_condition() -> None:
    assert word(None) is None


def test_what_a_pool_has_of_which_limit_and_with_whom() -> None:
    assert word(GROUP) == ("True", "Sharing", "Up to 248/s of the 300/s that orders, reaper share.")
    assert word(replace(GROUP, share=None)) == ("Unknown", "Starting", "The shares are not known yet.")


def test_different_limits_are_said_and_so_are_guarantees_that_do_not_fit() -> None:
    differ = word(replace(GROUP, limits_differ=True))
    assert differ is not None
    assert differ[:2] == ("False", "LimitsDiffer")
    assert "the smallest counts, 300/s" in differ[2]
    exceed = word(replace(GROUP, guaranteed=350))
    assert exceed is not None
    assert exceed[:2] == ("False", "GuaranteesExceed")
    assert "guaranteed 350/s together, and share 300/s" in exceed[2]
