from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peakclip.topology import push_subject


@given(st.text(min_size=1))
def test_a_user_is_one_token_of_a_subject(user: str) -> None:
    head, dot, token = push_subject(user.encode(errors="ignore").decode() or "x").rpartition(".")
    assert (head, dot) == ("notification.push", ".")
    assert token
    assert all(c.isascii() and (c.isalnum() or c in "_-%") for c in token)


@given(st.text(st.sampled_from("aA.~%_ 2E"), max_size=4), st.text(st.sampled_from("aA.~%_ 2E"), max_size=4))
def test_no_two_users_share_a_subject(one: str, other: str) -> None:
    assert (push_subject(one) == push_subject(other)) is (one == other)


def test_an_ordinary_name_is_itself() -> None:
    assert push_subject("ann_1-B") == "notification.push.ann_1-B"
