from __future__ import annotations

import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.messages import Order, decode_frame, decode_order, encode, encode_frame, order_id, split_frame

texts = st.text(max_size=30).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
orders = st.builds(
    Order,
    order_id=texts,
    tenant=texts,
    customer_id=texts,
    sale_id=texts,
    quantity=st.integers(-(2**40), 2**40),
    fingerprint=texts,
    accepted_at=st.floats(0, 4e9),
)


@given(st.lists(orders, max_size=20))
def test_a_frame_is_taken_apart_into_what_was_put_in(some: list[Order]) -> None:
    """Whatever is in the names, line breaks of every kind included."""
    frame = encode_frame(some)
    assert decode_frame(frame) == some
    assert [decode_order(line) for line in split_frame(frame)] == some


@given(orders)
def test_an_order_alone_is_encoded_like_one_in_a_frame(order: Order) -> None:
    assert split_frame(encode_frame([order])) == [encode(order)]


def test_a_fence_holds_no_orders() -> None:
    assert split_frame(b"") == []
    assert decode_frame(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"order_id":"a"}',
        encode(Order("a", "t", "c", "s", 1, "f", 0.0))[:-2],
    ],
)
def test_what_is_no_order_is_refused_by_its_name(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_order(body)
    with pytest.raises(msgspec.MsgspecError):
        decode_frame(body)


@given(texts, visible)
def test_an_order_id_is_a_uuid_of_the_custom_version(tenant: str, key: str) -> None:
    name = order_id(tenant, key)
    parsed = uuid.UUID(name)
    assert (str(parsed), parsed.version, parsed.variant) == (name, 8, uuid.RFC_4122)
    assert order_id(tenant, key) == name


@given(st.lists(st.tuples(visible, visible), unique=True, min_size=2, max_size=50))
def test_other_tenants_and_keys_are_other_orders(pairs: list[tuple[str, str]]) -> None:
    assert len({order_id(*pair) for pair in pairs}) == len(pairs)


def test_where_the_tenant_ends_matters() -> None:
    assert order_id("ab", "c") != order_id("a", "bc")


def test_order_ids_never_change() -> None:
    """Stored orders are found by them: another way to make them would accept every repeat as new."""
    assert order_id("tenant", "key-1") == "64401653-5cef-82d2-8ec4-2bf3aae23476"
